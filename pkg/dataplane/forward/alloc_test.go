// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// TestNoAllocation: no packet costs memory, whatever becomes of it. Each case is
// turns of the worker's loop with packets of one kind.
func TestNoAllocation(t *testing.T) {
	for _, load := range loads {
		t.Run("known flows, "+load.name, func(t *testing.T) {
			dev, w, _ := testForwarder(t, fullSnapshot(), memdev.Config{Nbufs: 1024, Forget: true}, 4096)
			l := newLoader(dev, load, 1000)
			l.open(t, w)
			checkAllocs(t, w, func() { l.fill(vectorSize, l.random) })
		})
	}
	type kind struct {
		name string
		s    spec
		fill func(b *bed, s spec, n uint32) spec // the n-th packet
	}
	fresh := func(b *bed, s spec, n uint32) spec {
		s.sport = uint16(n)
		return s
	}
	same := func(b *bed, s spec, n uint32) spec { return s }
	kinds := []kind{
		{"new UDP flows", udp("10.0.0.1", "10.0.0.2"), fresh},
		{"new UDP flows, IPv6", udp("fd00::1", "fd00::2"), fresh},
		{"new TCP connections", tcp("10.0.0.1", "10.0.0.2", packet.TCPSyn), fresh},
		{"new flows to a service", udp("10.0.0.1", "10.96.0.1").with(func(s *spec) { s.dport = 80 }), fresh},
		{"new flows to a service, IPv6", udp("fd00::1", "fd00:96::1").with(func(s *spec) { s.dport = 80 }), fresh},
		{"new masqueraded flows", udp("10.0.0.1", "198.51.100.7"), fresh},
		{"new flows of a pod to itself", udp("10.0.0.2", "10.96.0.1").with(func(s *spec) { s.dport = 80 }), fresh},
		{"new pings", echo("10.0.0.1", "10.0.0.2", 0), fresh},
		{"pings to the router", echo("10.0.0.1", "10.0.0.254", 1), same},
		{"spoofed", udp("10.0.0.9", "10.0.0.2"), same},
		{"multicast", udp("10.0.0.1", "224.0.0.1"), same},
		{"against policy", udp("10.0.0.1", "10.0.0.3"), same},
		{"no route, answered", udp("10.0.0.1", "10.0.0.99"), same},
		{"hop limit, answered", udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.ttl = 1 }), same},
		{"too big, answered", udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.df, s.size = true, 1600 }), same},
		{"cut", udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.size = 1600 }), same},
		{"malformed", udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.options = []byte{131, 3, 4, 0} }), same},
		{"fragments", udp("10.0.0.1", "10.0.0.2"), func(b *bed, s spec, n uint32) spec {
			s.id, s.size = n/2, 16
			if n%2 == 0 {
				s.mf = true
			} else {
				s.off = 24
			}
			return s
		}},
		{"ICMP errors", errorFrom("10.0.0.2", "10.0.0.1", udp("10.0.0.1", "10.0.0.2"), packet.PortUnreachable), same},
		{"unrelated ICMP errors", errorFrom("10.0.0.1", "10.0.0.2", udp("10.0.0.2", "10.0.0.1"), packet.PortUnreachable), same},
	}
	snap := podNet(services, masquerade, sets, policy("in", "c", isolateIngress), policy("p", "ab", all(isolateIngress, isolateEgress, ingressRule("r", allow), egressRule("r", allow))))
	for _, watched := range []bool{false, true} {
		for _, k := range kinds {
			t.Run(fmt.Sprintf("%s, watched %v", k.name, watched), func(t *testing.T) {
				b := newBedOn(t, snap, memdev.Config{Nbufs: 2048, Forget: true}, 512)
				b.now = time.Hour
				b.send("a", udp("10.0.0.1", "10.0.0.2"))
				if watched {
					// What the subscription itself allocates is not the worker's.
					sub, err := b.f.Events.Subscribe(&dataplanev1.Filter{Protocol: 253})
					if err != nil {
						t.Fatal(err)
					}
					defer sub.Close()
					c, err := b.f.Captures.Open("a", 64)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
				}
				from := uint32(1)
				if k.s.src == "10.0.0.2" {
					from = 2
				}
				var n uint32
				var idx, ents []uint32
				// Bytes are made before, as a test's own memory must not count.
				var packets [1024][]byte
				for i := range packets {
					packets[i] = k.fill(b, k.s, uint32(i)).bytes()
				}
				checkAllocs(t, b.w, func() {
					b.now += time.Second // ICMP errors may be sent again
					idx, ents = b.dev.Alloc(idx[:0], 16), ents[:0]
					for _, i := range idx {
						data := packets[n%uint32(len(packets))]
						n++
						copy(b.dev.Area().NbufBytes(i)[abi.NbufData:], data)
						*b.dev.Area().Nbuf(i) = abi.Nbuf{IPort: from, Off: abi.NbufData, Len: uint16(len(data)), Total: uint32(len(data))}
						ents = append(ents, abi.Entry(abi.InRX, i))
					}
					b.dev.Publish(0, ents...)
				})
			})
		}
	}
	t.Run("the first packets after a change", func(t *testing.T) {
		dev, w, f := testForwarder(t, fullSnapshot(), memdev.Config{Nbufs: 1024, Forget: true}, 4096)
		l := newLoader(dev, load{nat: true}, 1000)
		l.open(t, w)
		slow := w.Stats.SlowPath
		checkAllocs(t, w, func() {
			w.gen ^= 1 << 20 // as if there were other tables with the same content
			l.fill(vectorSize, l.random)
		})
		if w.Stats.SlowPath < slow+100*vectorSize/2 {
			t.Errorf("%d packets took the slow path", w.Stats.SlowPath-slow)
		}
		w.gen = f.gen
	})
	t.Run("sweeping", func(t *testing.T) {
		dev, w, _ := testForwarder(t, fullSnapshot(), memdev.Config{Nbufs: 1024, Forget: true}, 4096)
		now := time.Hour
		w.clock, w.swept = func() time.Duration { return now }, now
		l := newLoader(dev, load{}, 1000)
		l.open(t, w)
		if n := testing.AllocsPerRun(100, func() {
			now += time.Second
			w.tick()
		}); n != 0 {
			t.Errorf("%v allocations per sweep", n)
		}
		if w.conns.Len() != 0 {
			t.Errorf("%d connections are left", w.conns.Len())
		}
	})
}

// checkAllocs turns the loop with what fill puts on the InQ.
func checkAllocs(t *testing.T, w *Worker, fill func()) {
	t.Helper()
	for range 64 { // maps and slices find their size
		fill()
		turn(t, w)
		turn(t, w)
	}
	if n := testing.AllocsPerRun(100, func() {
		fill()
		turn(t, w)
		turn(t, w)
	}); n != 0 {
		t.Errorf("%v allocations per vector", n)
	}
}
