// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// xdp joins the pods by a process with an AF_XDP socket for each of the ends of
// their veth pairs, in copy mode (veth has no other). It looks the destination
// up among two, and has no stage but that:
//
//	a eth0 ── pa (XDP) guest xdp (XDP) pb ── eth0 b
type xdp struct{ process *child }

// xdpPort is what the process is told of a port.
type xdpPort struct {
	Name      string
	Addresses []netip.Addr     // of the pod behind it
	Local     net.HardwareAddr // of the port
	Peer      net.HardwareAddr // of the pod's eth0
}

func (t *xdp) setup() (pair, error) {
	p, err := newPair("xdp", 7)
	if err != nil {
		return p, err
	}
	var ports []xdpPort
	for _, s := range p.sides() {
		port, err := s.xdpPort(p)
		if err != nil {
			return p, err
		}
		ports = append(ports, port)
	}
	arg, err := json.Marshal(ports)
	if err != nil {
		return p, err
	}
	if t.process, err = startChild(p.between, "xdp", string(arg)); err != nil {
		return p, err
	}
	return p, t.process.ready()
}

// xdpPort connects a pod. Nobody answers ARP behind it, and no offload survives
// AF_XDP.
func (s side) xdpPort(p pair) (port xdpPort, err error) {
	if err := connect(p, s); err != nil {
		return port, err
	}
	inner, err := s.ns.Netlink.LinkByName("eth0")
	if err != nil {
		return port, err
	}
	outer, err := p.between.Netlink.LinkByName(s.port)
	if err != nil {
		return port, err
	}
	if err := s.ns.Do(func() error { return noChecksumOffload("eth0") }); err != nil {
		return port, fmt.Errorf("turn checksum offload off: %w", err)
	}
	if err := s.route(p); err != nil {
		return port, err
	}
	port = xdpPort{s.port, s.pod.addresses(), outer.Attrs().HardwareAddr, inner.Attrs().HardwareAddr}
	for _, a := range port.Addresses {
		err := s.ns.Netlink.NeighSet(&netlink.Neigh{
			LinkIndex: inner.Attrs().Index, IP: router(a).AsSlice(), HardwareAddr: port.Local, State: netlink.NUD_PERMANENT,
		})
		if err != nil {
			return port, fmt.Errorf("set neighbour of %s: %w", a, err)
		}
	}
	return port, nil
}

func noChecksumOffload(ifname string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], ifname)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

func (t *xdp) forwarder() (int, error)       { return t.process.cmd.Process.Pid, nil }
func (t *xdp) copied() (uint64, bool, error) { return 0, false, nil }

func (t *xdp) stop() error {
	if t.process != nil {
		t.process.kill()
	}
	return nil
}

const (
	xdpRing  = 2048 // entries of each ring
	xdpFrame = 2048 // bytes
	// xdpSpin is how long the process polls before it sleeps, as NetIO's does.
	xdpSpin = 200 * time.Microsecond
)

// xdpQueue is one of a socket's rings; both sides count freely.
type xdpQueue struct {
	producer, consumer *uint32
	frames             []uint64       // of fill and completion rings
	descs              []unix.XDPDesc // of the others
}

// xdpSocket is a port of the process.
type xdpSocket struct {
	xdpPort
	fd                       int
	rx, tx, fill, completion xdpQueue
	spare                    *[]uint64 // frames that nobody has, shared
	queued                   bool      // there is something for the kernel to send
}

// forwardXDP is the process. It prints a line when it is ready.
func forwardXDP(args []string) error {
	var ports []xdpPort
	if len(args) != 1 {
		return errors.New("usage: guest xdp PORTS")
	}
	if err := json.Unmarshal([]byte(args[0]), &ports); err != nil {
		return err
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	// All frames are in one memory: those received by one socket are sent by the
	// other.
	memory, err := unix.Mmap(-1, 0, len(ports)*2*xdpRing*xdpFrame, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	var sockets []*xdpSocket
	var spare []uint64
	for at := 0; at < len(memory); at += xdpFrame {
		spare = append(spare, uint64(at))
	}
	for i, port := range ports {
		s := &xdpSocket{xdpPort: port, spare: &spare}
		shared := -1
		if i > 0 {
			shared = sockets[0].fd
		}
		if err := s.open(memory, shared); err != nil {
			return fmt.Errorf("AF_XDP on %s: %w", port.Name, err)
		}
		s.refill()
		sockets = append(sockets, s)
	}
	fmt.Fprintln(os.Stdout, "forwarding")
	return forwardFrames(memory, sockets)
}

func forwardFrames(memory []byte, sockets []*xdpSocket) error {
	var polls []unix.PollFd
	for _, s := range sockets {
		polls = append(polls, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	last := time.Now()
	for {
		n := 0
		for _, s := range sockets {
			n += s.receive(memory, sockets)
		}
		for _, s := range sockets {
			if err := s.flush(); err != nil {
				return err
			}
		}
		if n > 0 {
			last = time.Now()
		} else if time.Since(last) > xdpSpin {
			if _, err := unix.Poll(polls, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			last = time.Now()
		}
	}
}

// receive forwards what has come, and returns how many packets.
func (s *xdpSocket) receive(memory []byte, sockets []*xdpSocket) int {
	n := s.rx.ready()
	at := *s.rx.consumer
	for i := range n {
		d := s.rx.descs[(at+i)%xdpRing]
		frame := memory[d.Addr : d.Addr+uint64(d.Len)]
		if to := lookup(frame, sockets); to == nil || !to.send(frame, d) {
			*s.spare = append(*s.spare, d.Addr/xdpFrame*xdpFrame)
		}
	}
	s.rx.consume(n)
	s.refill()
	return int(n)
}

// lookup finds where an IP packet goes.
func lookup(frame []byte, sockets []*xdpSocket) *xdpSocket {
	var to netip.Addr
	switch {
	case len(frame) >= 34 && frame[12] == 0x08 && frame[13] == 0x00:
		to = netip.AddrFrom4([4]byte(frame[30:34]))
	case len(frame) >= 54 && frame[12] == 0x86 && frame[13] == 0xdd:
		to = netip.AddrFrom16([16]byte(frame[38:54]))
	default:
		return nil
	}
	for _, s := range sockets {
		for _, a := range s.Addresses {
			if a == to {
				return s
			}
		}
	}
	return nil
}

// send queues a frame; false: there is no room.
func (s *xdpSocket) send(frame []byte, d unix.XDPDesc) bool {
	if s.tx.room() == 0 {
		return false
	}
	copy(frame, s.Peer)
	copy(frame[6:], s.Local)
	at := *s.tx.producer
	s.tx.descs[at%xdpRing] = unix.XDPDesc{Addr: d.Addr, Len: d.Len}
	s.tx.produce(1)
	s.queued = true
	return true
}

// flush has the kernel send what is queued, and takes back what was sent.
func (s *xdpSocket) flush() error {
	for s.queued {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		// EAGAIN: more than it sends at a time.
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EBUSY && errno != unix.ENOBUFS {
			return fmt.Errorf("send on %s: %w", s.Name, errno)
		}
		s.queued = s.tx.pending() > 0
	}
	n := s.completion.ready()
	at := *s.completion.consumer
	for i := range n {
		*s.spare = append(*s.spare, s.completion.frames[(at+i)%xdpRing]/xdpFrame*xdpFrame)
	}
	s.completion.consume(n)
	return nil
}

// refill gives the kernel frames to receive into.
func (s *xdpSocket) refill() {
	spare := *s.spare
	n := min(s.fill.room(), uint32(len(spare)))
	at := *s.fill.producer
	for i := range n {
		s.fill.frames[(at+i)%xdpRing] = spare[len(spare)-1]
		spare = spare[:len(spare)-1]
	}
	*s.spare = spare
	s.fill.produce(n)
}
