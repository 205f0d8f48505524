// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// control is what the kernel does with ports, so that tests can do it in its
// place. Errors wrap the errno.
type control interface {
	// getPort finds the first port whose number is at least from. ENOENT: none.
	getPort(from uint32) (getPort, error)
	setPort(setPort) error
	// delPort deletes a port's interface. ENOENT: no such port.
	delPort(port uint32) error
	addLink(link) error
	// renameLink renames the interface with an index in a network namespace.
	renameLink(ns *os.File, index int, name string) error
	// destroy ends the instance. EBUSY: it has ports.
	destroy() error
	close() error
}

// kernelControl is the real one. Its netlink socket stays open, so that it is
// in the network namespace that the instance is in.
type kernelControl struct {
	fd   int // of lane 0, not owned
	sock *nl.NetlinkSocket
	seq  uint32
}

func newKernelControl(fd int) (*kernelControl, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// The kernel then says in words what is wrong with a request.
	if err := s.SetExtAck(true); err != nil {
		s.Close()
		return nil, fmt.Errorf("ask netlink for error messages: %w", err)
	}
	return &kernelControl{fd: fd, sock: s}, nil
}

func (k *kernelControl) close() error {
	k.sock.Close()
	return nil
}

func (k *kernelControl) getPort(from uint32) (getPort, error) {
	p := getPort{Port: from}
	err := ioctlPtr(k.fd, iocGetPort, unsafe.Pointer(&p))
	return p, err
}

func (k *kernelControl) setPort(p setPort) error {
	return ioctlPtr(k.fd, iocSetPort, unsafe.Pointer(&p))
}

func (k *kernelControl) delPort(port uint32) error {
	return ioctl(k.fd, iocDelPort, uintptr(port))
}

func (k *kernelControl) destroy() error { return ioctl(k.fd, iocDestroy, 0) }

func (k *kernelControl) addLink(l link) error {
	req := l.request()
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Seq: k.seq, Socket: k.sock}}
	k.seq++
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (k *kernelControl) renameLink(ns *os.File, index int, name string) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	return h.LinkSetName(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}, LinkType: knetKind}, name)
}

// ioctl and ioctlPtr tell the scheduler, unlike kick: the call may sleep.

func ioctl(fd int, request uint32, arg uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), arg); errno != 0 {
		return errno
	}
	return nil
}

func ioctlPtr(fd int, request uint32, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
