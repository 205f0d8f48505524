// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"runtime"
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
	// findLink finds an interface of the instance's network namespace by its name,
	// or without one by its index. ENODEV: there is none.
	findLink(name string, index int) (netlink.Link, error)
	// addNIC makes an interface a port, whose number it returns.
	addNIC(addNIC) (uint32, error)
	steer(port, op uint32, prefixes []prefix) error
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
	_, err := k.request(l.request())
	return err
}

func (k *kernelControl) request(req *nl.NetlinkRequest) ([][]byte, error) {
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Seq: k.seq, Socket: k.sock}}
	k.seq++
	return req.Execute(unix.NETLINK_ROUTE, 0)
}

func (k *kernelControl) findLink(name string, index int) (netlink.Link, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	if name != "" {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	msgs, err := k.request(req)
	if err != nil {
		return nil, err
	}
	if len(msgs) != 1 {
		return nil, unix.ENODEV
	}
	return netlink.LinkDeserialize(nil, msgs[0])
}

func (k *kernelControl) addNIC(a addNIC) (uint32, error) {
	err := ioctlPtr(k.fd, iocAddNIC, unsafe.Pointer(&a))
	return a.Port, err
}

func (k *kernelControl) steer(port, op uint32, prefixes []prefix) error {
	s := steerNIC{Port: port, Op: op, Count: uint32(len(prefixes)), Prefixes: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(prefixes))))}
	err := ioctlPtr(k.fd, iocSteer, unsafe.Pointer(&s))
	runtime.KeepAlive(prefixes)
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
