// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"flag"
	"fmt"
	"net"
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
	"netio.dev/netio/pkg/dataplane/device/devicetest"
	"netio.dev/netio/pkg/dataplane/ring"
)

var knetsFlag = flag.Int("knets", 0, "how many knets TestScale makes on one instance")

// perNetns is how many knets share a network namespace in TestScale: as many
// namespaces as knets would measure the namespaces.
const perNetns = 100

// TestScale makes many knets on one instance, prints what each cost as their
// number grows, and has a packet go from the last of each network namespace to
// the first of the next one.
func TestScale(t *testing.T) {
	if *knetsFlag == 0 {
		t.Skip("no -knets")
	}
	d, err := Open(Config{Name: "scale", TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()

	step := max(*knetsFlag/10, perNetns)
	var ids []device.PortID
	began, memory := time.Now(), available(t)
	for n := 0; n < *knetsFlag; n++ {
		ns := fmt.Sprintf("scale-%d", n/perNetns)
		if n%perNetns == 0 {
			makeNetns(t, ns)
		}
		p, err := d.AddPort(device.PortConfig{Name: fmt.Sprint("p", n), IfName: fmt.Sprint("k", n%perNetns), NetNS: "/run/netns/" + ns})
		if err != nil {
			t.Fatalf("knet %d: %v", n, err)
		}
		ids = append(ids, p.ID)
		if (n+1)%step == 0 {
			now := available(t)
			t.Logf("%6d knets: %6.0f us and %5.1f KiB each, of the last %d", n+1,
				float64(time.Since(began).Microseconds())/float64(step), float64(memory-now)/float64(step), step)
			began, memory = time.Now(), now
		}
	}
	crossAll(t, d, ids)

	began = time.Now()
	for _, id := range ids {
		if err := d.RemovePort(id); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("removed in %.0f us each", float64(time.Since(began).Microseconds())/float64(len(ids)))
	if err := d.Destroy(); err != nil {
		t.Error(err)
	}
}

// available is what /proc/meminfo says of it, in KiB.
func available(t *testing.T) int {
	t.Helper()
	runtime.GC()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	var kib int
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func makeNetns(t *testing.T, name string) {
	t.Helper()
	inNetns(t, func() error {
		h, err := netns.NewNamed(name)
		if err == nil {
			h.Close()
		}
		return err
	})
	t.Cleanup(func() { netns.DeleteNamed(name) })
}

// inNetns runs f on a thread that ends after it, since f changes its network
// namespace.
func inNetns(t *testing.T, f func() error) {
	t.Helper()
	if err := devicetest.OnThread(f); err != nil {
		t.Fatal(err)
	}
}

// crossAll sends a packet from each network namespace to the next one.
func crossAll(t *testing.T, d *Device, ids []device.PortID) {
	t.Helper()
	a, h := d.Area(), d.Area().Header()
	in := ring.NewReader(a.InQ(0), h.InqOrder, &a.PLane(0).InqHead, a.DLane(0).InqStart)
	out := ring.NewWriter(a.OutQ(0), h.OutqOrder, &a.DLane(0).OutqHead, &a.PLane(0).OutqTail, a.DLane(0).OutqStart)
	count := len(ids) / perNetns
	var conns []*net.UDPConn
	for n := range count {
		at := fmt.Sprintf("/run/netns/scale-%d", n)
		for _, k := range []struct {
			name string
			net  byte
		}{{"k0", 1}, {fmt.Sprint("k", perNetns-1), 2}} {
			configure(t, at, k.name, fmt.Sprintf("10.%d.%d.%d/16", k.net, n, k.net))
		}
		inNetns(t, func() error {
			f, err := os.Open(at)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 2000})
			conns = append(conns, c)
			return err
		})
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	next := map[uint32]uint32{} // from the last knet of one to the first of the next
	for n := range count {
		next[uint32(ids[n*perNetns+perNetns-1])] = uint32(ids[(n+1)%count*perNetns])
	}
	for n, c := range conns {
		// It leaves by the last knet. Its receiver has no such address: what counts
		// is that it crosses.
		if _, err := c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 2, byte(n), 99), Port: 2000}); err != nil {
			t.Fatal(err)
		}
	}
	crossed, end := 0, time.Now().Add(time.Minute)
	for crossed < count {
		var ents [256]uint32
		n := in.Take(ents[:])
		for _, e := range ents[:n] {
			if abi.Action(e) != abi.InRX {
				continue
			}
			nb := a.Nbuf(abi.Param(e))
			action := uint32(abi.OutFree)
			if to, ok := next[nb.IPort]; ok && a.NbufBytes(abi.Param(e))[nb.Off+9] == 17 && a.Port(to).State&abi.PortUp != 0 {
				nb.EPort, action = to, abi.OutTX
				crossed++
			}
			out.Publish([]uint32{abi.Entry(action, abi.Param(e))})
		}
		in.Release()
		if err := d.Kick(0); err != nil {
			t.Fatal(err)
		}
		if n == 0 && time.Now().After(end) {
			t.Fatalf("%d of %d packets crossed", crossed, count)
		}
	}
	if sent := a.DLane(0).TxPackets; sent < uint64(count) {
		t.Errorf("%d packets sent, want %d", sent, count)
	}
}

// configure gives a knet an address and brings it up.
func configure(t *testing.T, at, name, cidr string) {
	t.Helper()
	h, err := netns.GetFromPath(at)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	nl, err := netlink.NewHandleAt(h, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	link, err := nl.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err == nil {
		err = nl.AddrAdd(link, addr)
	}
	if err == nil {
		err = nl.LinkSetUp(link)
	}
	if err != nil {
		t.Fatal(err)
	}
}
