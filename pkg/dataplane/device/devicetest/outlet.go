// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// outlet is a second interface of a pod, to which the pod's kernel forwards:
//
//	device ── knet ── pod ── outlet ── test
//
// It can do nothing for the kernel, so what comes out is as on a wire: in segments, with
// all checksums, each of them made by the kernel of what the device has given it.
type outlet struct {
	f *os.File // a TUN's, packet by packet
}

// newOutlet makes an outlet, and routes to these prefixes by it.
func newOutlet(p *pod, to ...netip.Prefix) *outlet {
	p.t.Helper()
	o := &outlet{}
	p.do(func() (err error) {
		if o.f, err = openTUN("outlet"); err != nil {
			return err
		}
		for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+file, []byte("1"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	p.t.Cleanup(func() { o.f.Close() })
	link, err := p.nl.LinkByName("outlet")
	if err == nil {
		err = p.nl.LinkSetUp(link)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.route(link, to...)
	return o
}

// route leads prefixes to an interface.
func (p *pod) route(link netlink.Link, to ...netip.Prefix) {
	p.t.Helper()
	for _, prefix := range to {
		if err := p.nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: ipNet(prefix)}); err != nil {
			p.t.Fatalf("route %s to %s: %v", prefix, link.Attrs().Name, err)
		}
	}
}

func openTUN(name string) (*os.File, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// next is the next packet to dst; what the kernel says of its own accord is passed
// over.
func (o *outlet) next(t testing.TB, dst netip.Addr) []byte {
	t.Helper()
	o.f.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 1<<16)
	for {
		n, err := o.f.Read(buf)
		if err != nil {
			t.Fatalf("packet to %s: %v", dst, err)
		}
		if destination(buf[:n]) == dst {
			return buf[:n]
		}
	}
}

// discard takes what comes out until stop is set, and counts packets to what is
// routed there.
func (o *outlet) discard(stop *atomic.Bool) (n uint64) {
	buf := make([]byte, 1<<16)
	for !stop.Load() {
		o.f.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		for {
			k, err := o.f.Read(buf)
			if err != nil {
				break
			}
			if dst := destination(buf[:k]); dst == far4 || dst == far6 {
				n++
			}
		}
	}
	return n
}

// destination of an IP packet.
func destination(b []byte) netip.Addr {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[16:20]))
	case len(b) >= 40 && b[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(b[24:40]))
	}
	return netip.Addr{}
}
