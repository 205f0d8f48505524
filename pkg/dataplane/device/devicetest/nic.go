// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// What pods have, and what hosts on a wire reach through the NIC's port.
var (
	podPrefix  = netip.MustParsePrefix("10.77.0.0/16")
	podPrefix6 = netip.MustParsePrefix("fd77::/64")
)

// wire is a NIC of this network namespace, and the host at its other end:
//
//	pod 10.77.0.n ── knet ── device ── nic 198.51.100.1 ──── 198.51.100.2 eth0, far
//
// The far host has its routes to pods by way of near, the NIC's own host.
type wire struct {
	nic  string
	link netlink.Link
	near *pod
	far  *pod
}

func newWire(t testing.TB) *wire {
	t.Helper()
	w := &wire{nic: fmt.Sprintf("nic%d", podCount.Add(1))}
	w.far = &pod{t: t, v4: netip.MustParseAddr("198.51.100.2"), v6: netip.MustParseAddr("fd78::2")}
	w.near = &pod{t: t, v4: netip.MustParseAddr("198.51.100.1"), v6: netip.MustParseAddr("fd78::1")}
	w.far.path, w.far.ns = newNetns(t)
	var err error
	if w.near.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.near.ns.Close() })
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: w.nic, MTU: 1500},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(w.far.ns.Fd()), PeerMTU: 1500,
	}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(w.nic); err == nil { // it has not ended
			netlink.LinkDel(link)
		}
	})
	if w.link, err = netlink.LinkByName(w.nic); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*pod{w.near, w.far} {
		if p.nl, err = netlink.NewHandleAt(netns.NsHandle(p.ns.Fd()), unix.NETLINK_ROUTE); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.nl.Close)
	}
	w.configure(t)
	far := w.far.link()
	w.far.address(w.far.v4.String() + "/24")
	w.far.address(w.far.v6.String() + "/64")
	w.far.setUp(true)
	for _, r := range []struct {
		to  netip.Prefix
		via netip.Addr
	}{{podPrefix, w.near.v4}, {podPrefix6, w.near.v6}} {
		if err := w.far.nl.RouteAdd(&netlink.Route{LinkIndex: far.Attrs().Index, Dst: ipNet(r.to), Gw: r.via.AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// configure gives the NIC its addresses, and brings it up.
func (w *wire) configure(t testing.TB) {
	t.Helper()
	for _, cidr := range []string{w.near.v4.String() + "/24", w.near.v6.String() + "/64"} {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrReplace(w.link, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(w.link); err != nil {
		t.Fatal(err)
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// nics is the device's ability to have NICs as ports; without it the test is not for
// the device.
func nics(t testing.TB, dev device.Device) device.NICs {
	t.Helper()
	n, ok := dev.(device.NICs)
	if !ok {
		t.Skip("the device has no NICs as ports")
	}
	return n
}

func addNIC(t testing.TB, dev device.Device, w *wire, name string) device.PortInfo {
	t.Helper()
	p, err := nics(t, dev).AddNIC(device.NICConfig{Name: name, IfName: w.nic})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func steerPods(t testing.TB, dev device.Device, p device.PortInfo) {
	t.Helper()
	if err := nics(t, dev).Steer(p.ID, device.SteerReplace, podPrefix, podPrefix6); err != nil {
		t.Fatal(err)
	}
}

// routeAll sends all that a pod has to say out by its knet.
func (p *pod) routeAll() {
	p.t.Helper()
	for _, to := range []string{"0.0.0.0/0", "::/0"} {
		r := &netlink.Route{LinkIndex: p.link().Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: ipNet(netip.MustParsePrefix(to))}
		if err := p.nl.RouteReplace(r); err != nil {
			p.t.Fatal(err)
		}
	}
}

// testNIC carries TCP between a pod and a host on a NIC's wire, in both directions
// and families, while the hosts at its ends talk as before.
func testNIC(t *testing.T, h Harness) {
	for _, lanes := range []int{1, 2} {
		t.Run(fmt.Sprintf("lanes=%d", lanes), func(t *testing.T) {
			dev := open(t, h, Config{Lanes: lanes})
			nics(t, dev)
			w := newWire(t)
			p := newPod6(t, dev, 1, device.PortConfig{})
			p.routeAll()
			nic := addNIC(t, dev, w, "uplink")
			if want := (device.PortInfo{
				ID: nic.ID, IfIndex: w.link.Attrs().Index, Up: true, NIC: true,
				PortConfig: device.PortConfig{Name: "uplink", IfName: w.nic, MTU: 1500, Quota: nic.Quota},
			}); nic != want {
				t.Errorf("added %+v, want %+v", nic, want)
			}
			steerPods(t, dev, nic)
			f := startForwarder(dev, [2]uint32{p.id(), uint32(nic.ID)})
			var many []*transfer
			for i := range 2 {
				seed := uint64(i)
				many = append(many,
					startTransfer(t, p, w.far, w.far.v4, 4<<20, seed), startTransfer(t, w.far, p, p.v4, 4<<20, seed),
					startTransfer(t, p, w.far, w.far.v6, 4<<20, seed), startTransfer(t, w.far, p, p.v6, 4<<20, seed),
					startTransfer(t, w.near, w.far, w.far.v4, 1<<20, seed), startTransfer(t, w.far, w.near, w.near.v6, 1<<20, seed))
			}
			for _, tr := range many {
				tr.wait(t)
			}
			f.end(t)
			if f.gso.Load() == 0 {
				t.Error("no GSO packet came through")
			}
			for lane := range lanes {
				if d := dev.Area().DLane(lane); d.BadEntry != 0 {
					t.Errorf("lane %d: %d bad entries", lane, d.BadEntry)
				}
			}
		})
	}
}

// testSteer has a NIC's port receive what it is steered, and no more.
func testSteer(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	n := nics(t, dev)
	w := newWire(t)
	nic := addNIC(t, dev, w, "uplink")
	lane := newWorker(t, dev, 0)
	c := w.far.udp(w.far.v4, 0)
	a, b := netip.MustParseAddr("10.77.0.9"), netip.MustParseAddr("10.77.1.9")
	prefix := func(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }
	number := byte(0)
	// come expects a packet to an address, and none of those before it to another one.
	come := func(what string, to netip.Addr, not ...netip.Addr) {
		t.Helper()
		for _, ip := range not {
			send(t, c, ip, 9, []byte("not for the port"))
		}
		number++
		payload := pattern(100, number)
		send(t, c, to, 9, payload)
		p := lane.next(abi.InRX)
		if got := lane.data(p); len(got) != 128 || !bytes.Equal(got[28:], payload) {
			t.Errorf("%s: received % x", what, got)
		}
		if nb := lane.area.Nbuf(p.nbufs[0]); nb.IPort != uint32(nic.ID) {
			t.Errorf("%s: from port %d, want %d", what, nb.IPort, nic.ID)
		}
		lane.free(p)
	}
	steer := func(op device.SteerOp, prefixes ...netip.Prefix) {
		t.Helper()
		if err := n.Steer(nic.ID, op, prefixes...); err != nil {
			t.Fatal(err)
		}
	}
	steer(device.SteerAdd, prefix(a))
	come("one address", a, b)
	steer(device.SteerAdd, podPrefix)
	come("its prefix as well", b)
	steer(device.SteerRemove, podPrefix)
	come("without the prefix", a, b)
	steer(device.SteerReplace, prefix(b))
	come("another address", b, a)

	for _, e := range []struct {
		what string
		op   device.SteerOp
		list []netip.Prefix
		want error
	}{
		{"a prefix again", device.SteerAdd, []netip.Prefix{prefix(a), prefix(b)}, device.ErrSteered},
		{"a prefix twice", device.SteerAdd, []netip.Prefix{podPrefix, podPrefix}, device.ErrSteered},
		{"removal of what is not there", device.SteerRemove, []netip.Prefix{prefix(b), prefix(a)}, device.ErrNotSteered},
	} {
		if err := n.Steer(nic.ID, e.op, e.list...); !errors.Is(err, e.want) {
			t.Errorf("%s: %v, want %v", e.what, err, e.want)
		}
	}
	come("after what was refused", b, a)
	lane.settle()
}

// testNICErrors has the device refuse what cannot be, with words.
func testNICErrors(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	n := nics(t, dev)
	w, enslaved, elsewhere := newWire(t), newWire(t), newWire(t)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("br%d", podCount.Add(1))}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.LinkDel(bridge) })
	if err := netlink.LinkSetMaster(enslaved.link, bridge); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(elsewhere.link, int(elsewhere.far.ns.Fd())); err != nil {
		t.Fatal(err)
	}
	p := newPod(t, dev, 1, device.PortConfig{})
	nic := addNIC(t, dev, w, "uplink")
	for _, e := range []struct {
		name, ifname string
		want         error
	}{
		{"uplink", enslaved.nic, device.ErrPortExists},
		{"pod1", enslaved.nic, device.ErrPortExists},
		{"again", w.nic, device.ErrInterfaceInUse},
		{"slave", enslaved.nic, device.ErrInterfaceInUse},
		{"loopback", "lo", device.ErrNotNIC},
		{"none", "no-such-nic", device.ErrNoInterface},
		{"elsewhere", elsewhere.nic, device.ErrNoInterface},
	} {
		_, err := n.AddNIC(device.NICConfig{Name: e.name, IfName: e.ifname})
		if !errors.Is(err, e.want) {
			t.Errorf("%s: %v, want %v", e.name, err, e.want)
		}
		t.Log(err)
	}
	for id, want := range map[device.PortID]error{p.port.ID: device.ErrNotNIC, nic.ID + 1: device.ErrNoPort} {
		if err := n.Steer(id, device.SteerReplace); !errors.Is(err, want) {
			t.Errorf("steer port %d: %v, want %v", id, err, want)
		}
	}
	// The interface is the host's as it was, and may be a port again.
	if err := dev.RemovePort(nic.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(w.nic); err != nil {
		t.Error(err)
	}
	addNIC(t, dev, w, "uplink")
	// In the slave's place its master can be one.
	if _, err := n.AddNIC(device.NICConfig{Name: "bridge", IfName: bridge.Name}); err != nil {
		t.Error(err)
	}
	if ports, err := dev.Ports(); err != nil || len(ports) != 3 {
		t.Errorf("ports at the end: %+v, %v", ports, err)
	}
}

// attachNICs attaches to a device that has NICs as ports, or skips the test.
func attachNICs(t *testing.T, inst Instance) device.Device {
	t.Helper()
	dev := attach(t, inst)
	if _, ok := dev.(device.NICs); !ok {
		shut(t, dev)
	}
	nics(t, dev)
	return dev
}

// testNICTakeOver has another owner go on with a NIC's port, as it is steered.
func testNICTakeOver(t *testing.T, h Harness) {
	inst := h.Create(t, Config{})
	t.Cleanup(func() {
		if err := inst.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	first := attachNICs(t, inst)
	w := newWire(t)
	p := newPod6(t, first, 1, device.PortConfig{})
	p.routeAll()
	nic := addNIC(t, first, w, "uplink")
	steerPods(t, first, nic)
	f := startForwarder(first, [2]uint32{p.id(), uint32(nic.ID)})
	tr := startTransfer(t, p, w.far, w.far.v4, endless, 1)
	back := startTransfer(t, w.far, p, p.v6, endless, 2)
	progress(t, tr, 1<<20)

	// A worker that goes on would write to rings that are not its own any more.
	f.stop.Store(true)
	first.Wake(0)
	f.wg.Wait()
	second := attach(t, inst)
	defer shut(t, second)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	ports, err := second.Ports()
	if err != nil || len(ports) != 2 || ports[1] != nic {
		t.Errorf("the next owner has %+v, %v; want %+v too", ports, err, nic)
	}
	f = startForwarder(second, [2]uint32{p.id(), uint32(nic.ID)})
	progress(t, tr, tr.got.Load()+1<<20)
	for _, tr := range []*transfer{tr, back} {
		tr.stop.Store(true)
		tr.wait(t)
	}
	f.end(t)
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s after %v", what, patience)
		}
	}
}

// progress waits until so much of a transfer has arrived.
func progress(t testing.TB, tr *transfer, bytes int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d bytes of a transfer", bytes), func() bool { return tr.got.Load() >= bytes })
}

// testNICRemoved removes the ports of a knet and a NIC while packets flood in by
// both, as a forwarder does that has been restarted and makes them anew.
func testNICRemoved(t *testing.T, h Harness) {
	inst := h.Create(t, Config{})
	t.Cleanup(func() {
		if err := inst.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	dev := attachNICs(t, inst)
	w := newWire(t)
	p := newPod6(t, dev, 1, device.PortConfig{})
	p.routeAll()
	nic := addNIC(t, dev, w, "uplink")
	steerPods(t, dev, nic)
	stop := flood(w.far.udp(w.far.v4, 0), p.v4)
	defer stop()
	for range 5 {
		stopPod := flood(p.udp(p.v4, 0), w.far.v4)
		f := startForwarder(dev, [2]uint32{p.id(), uint32(nic.ID)})
		seen := dev.Area().DLane(0)
		was := atomic.LoadUint64(&seen.TxPackets)
		eventually(t, "packets across", func() bool { return atomic.LoadUint64(&seen.TxPackets) > was+100 })
		// The process is no more: what the queues hold stays there.
		f.stop.Store(true)
		dev.Wake(0)
		f.wg.Wait()
		next := attach(t, inst)
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		dev = next
		for _, id := range []device.PortID{p.port.ID, nic.ID} {
			if err := dev.RemovePort(id); err != nil {
				t.Fatal(err)
			}
		}
		stopPod()
		p = newPod6(t, dev, 1, device.PortConfig{})
		p.routeAll()
		nic = addNIC(t, dev, w, "uplink")
		steerPods(t, dev, nic)
	}
	shut(t, dev)
}

// flood sends small packets as fast as it can, until the function that it returns
// is called. An interface that is gone is no error.
func flood(c *net.UDPConn, to netip.Addr) (stop func()) {
	var wg sync.WaitGroup
	var end atomic.Bool
	wg.Go(func() {
		for b := make([]byte, 18); !end.Load(); {
			if _, err := c.WriteToUDPAddrPort(b, netip.AddrPortFrom(to, 9)); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	return func() {
		end.Store(true)
		wg.Wait()
	}
}

// testNICEnds has interfaces that are ports vanish, in the ways there are.
func testNICEnds(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		end  func(*wire) error
	}{
		{"deleted", func(w *wire) error { return netlink.LinkDel(w.link) }},
		{"moved", func(w *wire) error { return netlink.LinkSetNsFd(w.link, int(w.far.ns.Fd())) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := open(t, h, Config{})
			n := nics(t, dev)
			w := newWire(t)
			p := newPod6(t, dev, 1, device.PortConfig{})
			p.routeAll()
			nic := addNIC(t, dev, w, "uplink")
			steerPods(t, dev, nic)
			f := startForwarder(dev, [2]uint32{p.id(), uint32(nic.ID)})
			defer f.end(t)
			defer flood(w.far.udp(w.far.v4, 0), p.v4)()
			defer flood(p.udp(p.v4, 0), w.far.v4)()
			progress(t, startTransfer(t, p, w.far, w.far.v4, 1<<20, 1), 1<<20)
			if err := c.end(w); err != nil {
				t.Fatal(err)
			}
			if err := n.Steer(nic.ID, device.SteerReplace); !errors.Is(err, device.ErrNoPort) {
				t.Errorf("steer what has ended: %v", err)
			}
			nic.Up = false
			ports, err := dev.Ports()
			if err != nil || len(ports) != 2 || ports[1] != nic {
				t.Errorf("ports are %+v, %v; want %+v too", ports, err, nic)
			}
			if err := dev.RemovePort(nic.ID); err != nil {
				t.Error(err)
			}
			other := newWire(t)
			steerPods(t, dev, addNIC(t, dev, other, "uplink"))
		})
	}
}
