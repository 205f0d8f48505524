// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
)

// noLeak ends the workers and wants every nbuf where it belongs. What the rings
// between the lanes hold when the workers end is no leak: it ends with the process.
func (r *running) noLeak() {
	r.Helper()
	r.stop()
	if err := r.wait(); err != nil {
		r.Fatal(err)
	}
	var held []uint32
	for i, w := range r.f.workers {
		held = append(held, w.stock...)
		for from := range w.peers.rings[i] {
			if ring := &w.peers.rings[i][from]; ring.head.Load() != ring.put {
				r.Errorf("packets are left from lane %d for lane %d", from, i)
			}
		}
	}
	r.dev.Drain()
	r.dev.CheckNoLeak(append(held, r.dev.Waiting()...))
}

// collect waits for n packets.
func (r *running) collect(n int) []memdev.Packet {
	r.Helper()
	var sent []memdev.Packet
	r.eventually(fmt.Sprintf("%d packets", n), func() bool {
		sent = append(sent, r.dev.Sent()...)
		return len(sent) >= n
	})
	if len(sent) != n {
		r.Fatalf("%d packets came out, want %d", len(sent), n)
	}
	return sent
}

// sound is a device that wakes nobody by itself, whatever time has passed.
type sound struct{ *memdev.Device }

func (d sound) Wait(lane int, _ time.Duration) error { return d.Device.Wait(lane, time.Hour) }

// TestHandOverWakes: a worker that sleeps is woken for what is handed over to it,
// also if it is just falling asleep.
func TestHandOverWakes(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("own context %v", own), func(t *testing.T) {
			r := runOn(t, memdev.Config{Lanes: 2, OwnContext: own}, Options{}, func(d *memdev.Device) device.Device { return sound{d} })
			r.apply(podNet(masquerade))
			s := udp("10.0.0.1", "198.51.100.7")
			back := s.with(func(s *spec) { s.src = "192.0.2.1" }).back().bytes()
			r.dev.Receive(memdev.Rx{Port: 1, Data: s.bytes(), Lane: 0})
			r.collect(1)
			sleeper := r.f.workers[0]
			for n := range 200 {
				if n%2 == 0 {
					r.eventually("the worker to sleep", sleeper.asleep.Load)
				}
				r.dev.Receive(memdev.Rx{Port: 4, Data: back, Lane: 1})
				r.collect(1)
			}
			r.noLeak()
		})
	}
}

// TestHandOverRun sends packets of NATed connections, old and new, at lanes by
// chance, while the configuration changes: none is lost, and each comes out
// translated as its connection is.
func TestHandOverRun(t *testing.T) {
	const flows, rounds = 48, 40
	few := func(s *dataplanev1.Snapshot) {
		masquerade(s)
		for _, n := range s.SourceNats {
			n.FirstPort, n.LastPort = 2000, 2999
		}
	}
	for _, cfg := range []memdev.Config{{Nbufs: 2048, Lanes: 2}, {Nbufs: 2048, Lanes: 4, OwnContext: true}} {
		t.Run(fmt.Sprintf("%d lanes", cfg.Lanes), func(t *testing.T) {
			r := run(t, cfg, Options{})
			lanes := int(cfg.Lanes)
			rnd := rand.New(rand.NewPCG(1, uint64(lanes)))
			r.apply(podNet(few))
			for round := range rounds {
				// Both pods use the same source ports: translated, they must differ.
				var in []memdev.Rx
				flow := func(n int) spec {
					return udp(fmt.Sprintf("10.0.0.%d", 1+n%2), "198.51.100.7").with(func(s *spec) {
						s.sport, s.dport = uint16(2000+n/2), uint16(1000+round/8)
						s.data = []byte{byte(n)}
					})
				}
				for n := range flows {
					in = append(in, memdev.Rx{Port: uint32(1 + n%2), Data: flow(n).bytes(), Lane: n % lanes})
				}
				r.dev.Receive(in...)
				if round%2 == 1 {
					r.apply(podNet(few))
				}
				translated := map[uint16]int{}
				var answers []memdev.Rx
				for _, p := range r.collect(flows) {
					n := int(p.Data[28])
					port, _ := ports(p.Data)
					if other, ok := translated[port]; ok || port < 2000 || port > 2999 {
						t.Fatalf("flow %d has port %d, flow %d as well: %v", n, port, other, ok)
					}
					translated[port] = n
					out := flow(n).with(func(s *spec) { s.src, s.sport, s.data = "192.0.2.1", port, []byte{byte(n), 1} })
					for range 2 {
						answers = append(answers, memdev.Rx{Port: 4, Data: out.back().bytes(), Lane: rnd.IntN(lanes)})
					}
				}
				r.dev.Receive(answers...)
				if round%2 == 0 {
					r.apply(podNet(few, policy("p", "c", isolateIngress)))
				}
				for _, p := range r.collect(2 * flows) {
					n := int(p.Data[28])
					_, port := ports(p.Data)
					if p.Port != uint32(1+n%2) || port != uint16(2000+n/2) {
						t.Fatalf("the answer to flow %d went to port %d, number %d", n, p.Port, port)
					}
				}
			}
			r.noLeak()
			for i, w := range r.f.workers {
				if w.Stats.BadEntries != 0 {
					t.Errorf("lane %d: %d bad entries", i, w.Stats.BadEntries)
				}
			}
		})
	}
}

// TestHandOverSameFlow: the first packets of a flow at all lanes at the same time
// make one connection, and none of them gets another source port.
func TestHandOverSameFlow(t *testing.T) {
	const lanes, rounds = 4, 300
	r := run(t, memdev.Config{Nbufs: 2048, Lanes: lanes}, Options{})
	r.apply(podNet())
	for round := range uint16(rounds) {
		s := udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.sport = 1000 + round })
		var in []memdev.Rx
		for lane := range lanes {
			in = append(in, memdev.Rx{Port: 1, Data: s.bytes(), Lane: lane})
		}
		r.dev.Receive(in...)
		for _, p := range r.collect(lanes) {
			if port, _ := ports(p.Data); port != s.sport {
				t.Fatalf("a packet of port %d has left from port %d", s.sport, port)
			}
		}
	}
	r.noLeak()
	conns := 0
	for _, w := range r.f.workers {
		conns += w.conns.Len()
	}
	if conns != rounds {
		t.Errorf("%d connections, want %d", conns, rounds)
	}
}
