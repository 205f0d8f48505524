// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device"
)

// pod is a network namespace with one knet in it.
type pod struct {
	t    testing.TB
	path string
	dev  device.Device
	port device.PortInfo
	v4   netip.Addr
	v6   netip.Addr
	ns   *os.File
	nl   *netlink.Handle
}

var podCount atomic.Uint32

// newNetns makes a network namespace and returns its path and an open file of it.
func newNetns(t testing.TB) (string, *os.File) {
	t.Helper()
	name := fmt.Sprintf("netio-dt-%d-%d", os.Getpid(), podCount.Add(1))
	path := "/run/netns/" + name
	var f *os.File
	err := OnThread(func() error {
		h, err := netns.NewNamed(name)
		if err != nil {
			return err
		}
		h.Close()
		f, err = os.Open(path)
		return err
	})
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() {
		f.Close()
		netns.DeleteNamed(name)
	})
	return path, f
}

// OnThread runs f on a thread that ends after it, and with it its hold on a network
// namespace. The main thread does not end with its goroutine.
func OnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- OnThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

// newPod adds a port in a new network namespace and brings it up, with the
// address 10.77.0.n/16. IPv6 is off, so that nothing is sent but by the test.
func newPod(t testing.TB, dev device.Device, n int, c device.PortConfig) *pod {
	t.Helper()
	p := makePod(t, dev, n, c)
	p.sysctl("disable_ipv6", "1")
	p.setUp(true)
	return p
}

// newPod6 is newPod with the address fd77::n/64 as well.
func newPod6(t testing.TB, dev device.Device, n int, c device.PortConfig) *pod {
	t.Helper()
	p := makePod(t, dev, n, c)
	p.address(p.v6.String() + "/64")
	p.setUp(true)
	return p
}

func makePod(t testing.TB, dev device.Device, n int, c device.PortConfig) *pod {
	t.Helper()
	p := &pod{t: t, dev: dev}
	p.path, p.ns = newNetns(t)
	if c.Name == "" {
		c.Name = fmt.Sprintf("pod%d", n)
	}
	c.IfName, c.NetNS = "eth0", p.path
	var err error
	if p.port, err = dev.AddPort(c); err != nil {
		t.Fatal(err)
	}
	if p.nl, err = netlink.NewHandleAt(netns.NsHandle(p.ns.Fd()), unix.NETLINK_ROUTE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.nl.Close)
	p.v4 = netip.AddrFrom4([4]byte{10, 77, byte(n >> 8), byte(n)})
	p.v6 = netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 14: byte(n >> 8), 15: byte(n)})
	p.address(p.v4.String() + "/16")
	return p
}

func (p *pod) address(cidr string) {
	p.t.Helper()
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		p.t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_NODAD
	if err := p.nl.AddrAdd(p.link(), addr); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pod) sysctl(name, value string) {
	p.t.Helper()
	p.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/"+name, []byte(value), 0)
	})
}

func (p *pod) id() uint32 { return uint32(p.port.ID) }

func (p *pod) link() netlink.Link {
	p.t.Helper()
	link, err := p.nl.LinkByName("eth0")
	if err != nil {
		p.t.Fatal(err)
	}
	return link
}

func (p *pod) setUp(up bool) {
	p.t.Helper()
	set := p.nl.LinkSetDown
	if up {
		set = p.nl.LinkSetUp
	}
	if err := set(p.link()); err != nil {
		p.t.Fatal(err)
	}
}

// do runs f on a thread in the pod. Sockets made there stay there.
func (p *pod) do(f func() error) {
	p.t.Helper()
	err := OnThread(func() error {
		if err := unix.Setns(int(p.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// end gives up all that holds the pod's network namespace.
func (p *pod) end() {
	p.t.Helper()
	p.nl.Close()
	p.ns.Close()
	if err := netns.DeleteNamed(filepath.Base(p.path)); err != nil {
		p.t.Fatal(err)
	}
}

// udp is a UDP socket of the pod; port 0 for any. It can send much that the device
// does not take yet: a test that sends and takes in turn must not block.
func (p *pod) udp(ip netip.Addr, port uint16) *net.UDPConn {
	p.t.Helper()
	var c *net.UDPConn
	p.do(func() (err error) {
		lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			cerr := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20)
			})
			return errors.Join(cerr, err)
		}}
		pc, err := lc.ListenPacket(p.t.Context(), "udp", netip.AddrPortFrom(ip, port).String())
		if err == nil {
			c = pc.(*net.UDPConn)
		}
		return err
	})
	p.t.Cleanup(func() { c.Close() })
	return c
}

// send sends a UDP datagram.
func send(t testing.TB, c *net.UDPConn, to netip.Addr, port uint16, payload []byte) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(payload, netip.AddrPortFrom(to, port)); err != nil {
		t.Fatal(err)
	}
}

// receive reads a datagram from c, or fails the test after a while.
func receive(t testing.TB, c *net.UDPConn) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// pattern is n bytes that differ with seed and position.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*31 ^ seed
	}
	return b
}

func addrPort(ip netip.Addr) netip.AddrPort { return netip.AddrPortFrom(ip, 2000) }
