// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// features are what every device has.
const features = abi.FeatPark | abi.FeatGSO | abi.FeatCsum | abi.FeatQoS | abi.FeatWhole | abi.FeatTunnel

func testArea(t *testing.T, h Harness) {
	dev := open(t, h, Config{Lanes: 2, Nbufs: 1000, Ports: 64})
	hdr := dev.Area().Header()
	if hdr.Lanes != 2 || hdr.NbufCount < 1000 || hdr.PortMax < 64 || hdr.ABIVersion != abi.Version {
		t.Errorf("header %+v", hdr)
	}
	if missing := features &^ hdr.Features; missing != 0 {
		t.Errorf("features %#x, without %#x", hdr.Features, missing)
	}
	live := dev.Area().Live()
	if live.Epoch == 0 || live.OwnerPID == 0 {
		t.Errorf("epoch %d, owner %d", live.Epoch, live.OwnerPID)
	}
	for lane := range 2 {
		newWorker(t, dev, lane).turn()
	}
	newWorker(t, dev, 0).settle()
}

func testPorts(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	var pods []*pod
	for i := range 3 {
		p := makePod(t, dev, i+1, device.PortConfig{MTU: 1400 + i, Quota: 100 + i, Whole: i == 2})
		link := p.link()
		if a := link.Attrs(); a.MTU != 1400+i || a.Index != p.port.IfIndex {
			t.Errorf("interface has MTU %d and index %d, port says %+v", a.MTU, a.Index, p.port)
		}
		if link.Attrs().Flags&1 != 0 || p.port.Up {
			t.Error("a new port is up")
		}
		pods = append(pods, p)
	}
	ports, err := dev.Ports()
	if err != nil || len(ports) != 3 {
		t.Fatalf("ports %+v, %v", ports, err)
	}
	for i, p := range ports {
		if p != pods[i].port {
			t.Errorf("listed %+v, added %+v", p, pods[i].port)
		}
		sh := dev.Area().Port(uint32(p.ID))
		if sh.State&abi.PortPresent == 0 || sh.MTU != uint32(p.MTU) || sh.NbufQuota != uint32(p.Quota) ||
			sh.Flags&abi.PortFlagWhole != 0 != p.Whole {
			t.Errorf("port %+v has %+v in the area", p, *sh)
		}
	}

	quota, mark, whole := 77, 9000, true
	if err := dev.SetPort(ports[0].ID, device.PortUpdate{Quota: &quota, MarkBytes: &mark, Whole: &whole}); err != nil {
		t.Fatal(err)
	}
	if sh := dev.Area().Port(uint32(ports[0].ID)); sh.NbufQuota != 77 || sh.MarkBytes != 9000 || sh.Flags != abi.PortFlagWhole {
		t.Errorf("after SetPort: %+v", *sh)
	}

	if err := dev.RemovePort(ports[1].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := pods[1].nl.LinkByName("eth0"); !errors.As(err, &netlink.LinkNotFoundError{}) {
		t.Errorf("the interface of a removed port: %v", err)
	}
	if err := dev.RemovePort(ports[1].ID); !errors.Is(err, device.ErrNoPort) {
		t.Errorf("removed twice: %v", err)
	}
	if ports, _ := dev.Ports(); len(ports) != 2 {
		t.Errorf("after removal: %+v", ports)
	}
}

func testPortErrors(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	path, ns := newNetns(t)
	nl, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	links := func() (names []string) {
		list, err := nl.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			names = append(names, l.Attrs().Name)
		}
		return names
	}
	before := links()
	good := device.PortConfig{Name: "a", IfName: "eth0", NetNS: path}
	if _, err := dev.AddPort(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*device.PortConfig)
		is     error
		says   string
	}{
		{"same name", func(c *device.PortConfig) { c.IfName = "eth1" }, device.ErrPortExists, "a"},
		{"same interface", func(c *device.PortConfig) { c.Name = "b" }, nil, "eth0"},
		{"no name", func(c *device.PortConfig) { c.Name = "" }, nil, "name"},
		{"no interface name", func(c *device.PortConfig) { c.Name, c.IfName = "c", "" }, nil, "interface name"},
		{"long interface name", func(c *device.PortConfig) { c.Name, c.IfName = "c", "sixteen-bytes-16" }, nil, "interface name"},
		{"slash in interface name", func(c *device.PortConfig) { c.Name, c.IfName = "c", "a/b" }, nil, ""},
		{"no such netns", func(c *device.PortConfig) { c.Name, c.NetNS = "c", "/run/netns/none" }, os.ErrNotExist, "/run/netns/none"},
		{"netns is a file", func(c *device.PortConfig) { c.Name, c.IfName, c.NetNS = "c", "eth1", "/proc/self/stat" }, nil, "/proc/self/stat"},
		{"MTU too small", func(c *device.PortConfig) { c.Name, c.IfName, c.MTU = "c", "eth1", 20 }, nil, "MTU"},
		{"MTU too large", func(c *device.PortConfig) { c.Name, c.IfName, c.MTU = "c", "eth1", 1<<20 }, nil, "MTU"},
		{"negative quota", func(c *device.PortConfig) { c.Name, c.IfName, c.Quota = "c", "eth1", -1 }, nil, "quota"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			_, err := dev.AddPort(cfg)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one with %q (%v)", err, c.says, c.is)
			}
		})
	}
	for _, err := range []error{
		dev.RemovePort(0), dev.RemovePort(7777), dev.RemovePort(1 << 30),
		dev.SetPort(0, device.PortUpdate{}), dev.SetPort(1<<30, device.PortUpdate{}),
	} {
		if !errors.Is(err, device.ErrNoPort) {
			t.Errorf("a number without a port: %v", err)
		}
	}
	if ports, err := dev.Ports(); err != nil || len(ports) != 1 {
		t.Errorf("failed calls have left ports: %+v, %v", ports, err)
	}
	if after := links(); len(after) != len(before)+1 {
		t.Errorf("failed calls have left interfaces: %v, before %v", after, before)
	}
}

func testPortEvents(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := makePod(t, dev, 1, device.PortConfig{})
	w.event(abi.InPort, p.id())
	state := &dev.Area().Port(p.id()).State
	await := func(what string, bits uint32) {
		t.Helper()
		w.await(what, func() bool { return *state == bits })
		w.event(abi.InPort, p.id())
	}
	for range 3 {
		p.setUp(true)
		await("port up", abi.PortPresent|abi.PortUp)
		p.setUp(false)
		await("port down", abi.PortPresent)
	}
	if err := dev.RemovePort(p.port.ID); err != nil {
		t.Fatal(err)
	}
	await("port removed", 0)
}

func testPortRemovedInFlight(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	a, b := newPod(t, dev, 1, device.PortConfig{}), newPod(t, dev, 2, device.PortConfig{})
	c := a.udp(a.v4, 0)
	for range 8 {
		send(t, c, b.v4, 9, []byte("to a port that goes away"))
	}
	var rx []packet
	for range 8 {
		rx = append(rx, w.next(abi.InRX))
	}
	// Packets from a and to a are in hand, on the OutQ, or neither. Before a is gone
	// the device may have sent what is on the OutQ, without a kick.
	toA := func(list []packet) {
		for _, p := range list {
			w.area.Nbuf(p.nbufs[0]).EPort = a.id()
			w.put(abi.Entry(abi.OutTX, p.nbufs[0]))
		}
	}
	toA(rx[:3])
	if err := dev.RemovePort(a.port.ID); err != nil {
		t.Fatal(err)
	}
	toA(rx[3:6])
	w.turn()
	w.event(abi.InPort, a.id())
	if got := string(w.data(rx[6])[28:]); got != "to a port that goes away" {
		t.Errorf("a packet in hand became %q when its port went away", got)
	}
	w.area.Nbuf(rx[6].nbufs[0]).EPort = b.id()
	w.put(abi.Entry(abi.OutTX, rx[6].nbufs[0]), abi.Entry(abi.OutFree, rx[7].nbufs[0]))
	d, dropped := w.area.DLane(0), uint32(0)
	w.await("drops", func() bool {
		dropped += w.sum(abi.InDrops)
		return d.TxPackets+d.TxDrop == 7 && uint64(dropped) >= d.TxDrop
	})
	if dropped < 3 || uint64(dropped) != d.TxDrop || d.BadEntry != 0 {
		t.Errorf("%d drops told, counters %+v", dropped, *d)
	}
	w.settle()

	// A port that is down takes nothing, and says so.
	b.setUp(false)
	idx := w.grant(1)[0]
	w.fill(idx, b.id(), udpPacket(a.v4, b.v4, 1, 9, []byte("down"), false))
	w.put(abi.Entry(abi.OutTX, idx))
	w.event(abi.InDrops, 1)
	if n := w.area.Port(b.id()).TxDrop; n != 1 {
		t.Errorf("tx_drop of a port that is down: %d, want 1", n)
	}
	w.settle()
}

func testNetnsDeath(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{})
	other := newPod(t, dev, 2, device.PortConfig{})
	w.await("port up", func() bool { return dev.Area().Port(p.id()).State&abi.PortUp != 0 })
	idx := w.grant(1)[0]
	p.end()
	// The namespace ends with its last user: a device that held it would keep
	// the port up.
	w.await("the end of the port's interface", func() bool { return dev.Area().Port(p.id()).State&abi.PortUp == 0 })
	w.fill(idx, p.id(), udpPacket(p.v4, p.v4, 1, 1, nil, false))
	w.put(abi.Entry(abi.OutTX, idx))
	w.event(abi.InDrops, 1)
	if err := dev.RemovePort(p.port.ID); err != nil {
		t.Errorf("remove a port whose namespace has ended: %v", err)
	}
	// The rest goes on.
	c := other.udp(other.v4, 0)
	send(t, c, p.v4, 9, []byte("x"))
	w.free(w.next(abi.InRX))
	w.settle()
}

// testNetnsDeathInTraffic ends network namespaces while packets from and to their
// ports are on rings, in hand, and parked. Another pair of ports goes on.
func testNetnsDeathInTraffic(t *testing.T, h Harness) {
	dev := open(t, h, Config{Nbufs: 512})
	a, b := newPod(t, dev, 1, device.PortConfig{}), newPod(t, dev, 2, device.PortConfig{})
	f := startForwarder(dev, [2]uint32{a.id(), b.id()})
	tr := startTransfer(t, a, b, b.v4, endless, 1)
	for i := range 20 {
		doomed := newPod(t, dev, 3+i, device.PortConfig{Name: "doomed", MTU: 9000})
		f.pair(doomed.id(), doomed.id()) // what it sends comes back to it
		c := doomed.udp(doomed.v4, 2000)
		for n := range 200 {
			send(t, c, doomed.v4.Next(), 2000, pattern(n*40, 1))
		}
		c.Close()
		doomed.end()
		if i%2 == 0 { // else the end of the namespace takes it
			if err := dev.RemovePort(doomed.port.ID); err != nil {
				t.Error(err)
			}
			continue
		}
		for end := time.Now().Add(patience); dev.Area().Port(doomed.id()).State&abi.PortUp != 0; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatal("a port outlives its network namespace")
			}
		}
		if err := dev.RemovePort(doomed.port.ID); err != nil {
			t.Error(err)
		}
	}
	tr.stop.Store(true)
	tr.wait(t)
	f.end(t)
	f.worker(t).settle()
}

func testNumberReuse(t *testing.T, h Harness) {
	const ports = 8
	dev := open(t, h, Config{Ports: ports})
	if dev.Area().Header().PortMax != ports {
		t.Skip("the device has more ports than asked for")
	}
	w := newWorker(t, dev, 0)
	path, _ := newNetns(t)
	idx := w.grant(1)[0]
	held := uint32(0)
	generations := make(map[uint32]map[uint32]bool)
	add := func(i int) (device.PortInfo, error) {
		return dev.AddPort(device.PortConfig{Name: fmt.Sprint("p", i), IfName: fmt.Sprint("eth", i), NetNS: path})
	}
	for i := range 3 * ports {
		p, err := add(i)
		if err != nil {
			t.Fatal(err)
		}
		id := uint32(p.ID)
		if id == held {
			t.Fatalf("number %d was used anew while an nbuf in the process's hands was for it", id)
		}
		if held == 0 {
			held = id
			w.area.Nbuf(idx).EPort = id
		}
		g := generations[id]
		if g == nil {
			g = make(map[uint32]bool)
			generations[id] = g
		}
		if gen := w.area.Port(id).Generation; g[gen] {
			t.Errorf("port %d has generation %d for the second time", id, gen)
		} else {
			g[gen] = true
		}
		if err := dev.RemovePort(p.ID); err != nil {
			t.Fatal(err)
		}
		w.turn()
	}
	w.put(abi.Entry(abi.OutFree, idx))
	w.turn()
	// Now every number can be had at a time, and no more.
	for i := range ports - 1 {
		if _, err := add(i); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := add(ports); err == nil {
		t.Errorf("port %d beyond the last", p.ID)
	}
	w.settle()
}
