// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/monotonic"
	"netio.dev/netio/pkg/dataplane/packet"
)

// laneBed is a bed of several lanes: a test says at which one a packet arrives.
type laneBed struct{ *bed }

func newLaneBed(t *testing.T, snap *dataplanev1.Snapshot, lanes uint32) *laneBed {
	t.Helper()
	return newLaneBedOn(t, snap, memdev.Config{Nbufs: 1024, Lanes: lanes}, Options{MaxConnections: 1024}, time.Hour)
}

func newLaneBedOn(t *testing.T, snap *dataplanev1.Snapshot, cfg memdev.Config, o Options, now time.Duration) *laneBed {
	t.Helper()
	checkValid(t, snap)
	o.Device = memdev.New(t, cfg)
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	f.apply(t, snap)
	b := &laneBed{&bed{T: t, dev: o.Device.(*memdev.Device), f: f, w: f.workers[0], now: now}}
	for _, w := range f.workers {
		w.clock, w.swept = func() time.Duration { return b.now }, b.now
		w.tick()
	}
	b.settle()
	t.Cleanup(func() {
		b.settle()
		b.noLeak()
	})
	return b
}

// noLeak wants every nbuf where it belongs, and nothing between the lanes.
func (b *laneBed) noLeak() {
	b.Helper()
	var held []uint32
	for i, w := range b.f.workers {
		held = append(held, w.stock...)
		if len(w.queue) != 0 || w.carry != 0 || w.told != 0 || w.handed {
			b.Errorf("lane %d: %d entries for the OutQ, %d carried over, lanes %#x to be told, handed over: %v", i, len(w.queue), w.carry, w.told, w.handed)
		}
		for from := range w.peers.rings[i] {
			if r := &w.peers.rings[i][from]; r.head.Load() != r.tail.Load() || r.put != r.tail.Load() {
				b.Errorf("entries are left from lane %d for lane %d", from, i)
			}
		}
	}
	b.dev.CheckNoLeak(held)
}

// settle turns the workers' loops until nothing is left to do.
func (b *laneBed) settle() {
	b.Helper()
	turns := 0
	for idle := 0; idle < 2; idle++ {
		for _, w := range b.f.workers {
			if turn(b, w) > 0 {
				idle = 0
			}
		}
		if turns++; turns > 1000 {
			b.Fatal("packets go round in circles")
		}
	}
}

func (b *laneBed) apply(snap *dataplanev1.Snapshot) {
	b.Helper()
	checkValid(b, snap)
	b.f.apply(b, snap)
	b.settle()
}

// total sums the counters of all ports and lanes.
func (b *laneBed) total() PortCounters {
	var sum PortCounters
	for _, w := range b.f.workers {
		one := (&bed{T: b.T, w: w}).total()
		sum.add(&one)
	}
	return sum
}

// stats sums what the workers count.
func (b *laneBed) stats() Stats {
	var sum Stats
	for _, w := range b.f.workers {
		sum.RxPackets += w.Stats.RxPackets
		sum.RxBytes += w.Stats.RxBytes
		sum.TxPackets += w.Stats.TxPackets
		sum.TxBytes += w.Stats.TxBytes
		sum.BadEntries += w.Stats.BadEntries
	}
	return sum
}

// receive lets a packet in and returns what comes out and why it was dropped. It
// must be counted once, by a port and by a worker.
func (b *laneBed) receive(lane int, rx received) ([]memdev.Packet, []string) {
	b.Helper()
	before, stats := b.total(), b.stats()
	rx.Lane = lane
	told := b.try(b.f.workers[lane], rx.Rx, false)
	if told.lane >= 0 {
		told = b.try(b.f.workers[told.lane], rx.Rx, true)
	}
	b.dev.Receive(rx.Rx)
	b.settle()
	after, now := b.total(), b.stats()
	if n := after.RxPackets - before.RxPackets; n != 1 {
		b.Errorf("a port counts %d packets, want one", n)
	}
	if n := after.RxBytes - before.RxBytes; n != uint64(len(rx.Data)) {
		b.Errorf("a port counts %d bytes, want %d", n, len(rx.Data))
	}
	if n := now.RxPackets - stats.RxPackets; n != 1 {
		b.Errorf("the workers count %d packets, want one", n)
	}
	if n := now.RxBytes - stats.RxBytes; n != uint64(len(rx.Data)) {
		b.Errorf("the workers count %d bytes, want %d", n, len(rx.Data))
	}
	if now.BadEntries != stats.BadEntries {
		b.Errorf("%d bad entries", now.BadEntries-stats.BadEntries)
	}
	sent := b.dev.Sent()
	if n := after.TxPackets - before.TxPackets; n != uint64(len(sent)) || now.TxPackets-stats.TxPackets != n {
		b.Errorf("%d packets sent, but a port counts %d and the workers %d", len(sent), n, now.TxPackets-stats.TxPackets)
	}
	reasons := reasonsBetween(before, after)
	b.foretold(told, sent, reasons)
	return sent, reasons
}

func reasonsBetween(before, after PortCounters) []string {
	var list []string
	for r := range after.Drops {
		for range after.Drops[r] - before.Drops[r] {
			list = append(list, Reason(r).String())
		}
	}
	return list
}

// one lets a packet in and wants one to come out.
func (b *laneBed) one(lane int, rx received) memdev.Packet {
	b.Helper()
	sent, reasons := b.receive(lane, rx)
	if len(reasons) != 0 {
		b.Fatalf("dropped: %v", reasons)
	}
	if len(sent) != 1 {
		b.Fatalf("%d packets came out, want one", len(sent))
	}
	return sent[0]
}

// pass lets a packet in at a lane and wants it forwarded to port to, as want says.
func (b *laneBed) pass(lane int, from string, s spec, to string, want spec) memdev.Packet {
	b.Helper()
	p := b.one(lane, b.rx(from, s))
	b.same(p, to, want)
	return p
}

func (b *laneBed) drop(lane int, from string, s spec, want Reason) {
	b.Helper()
	b.dropped(lane, b.rx(from, s), want)
}

func (b *laneBed) dropped(lane int, rx received, want Reason) {
	b.Helper()
	sent, reasons := b.receive(lane, rx)
	if !slices.Equal(reasons, []string{want.String()}) || len(sent) != 0 {
		b.Fatalf("dropped for %q, want %q; %d packets sent", reasons, want, len(sent))
	}
}

// piece lets a fragment in and wants it forwarded as want.
func (b *laneBed) piece(lane int, from string, p piece, to string, want piece) {
	b.Helper()
	got := b.one(lane, b.rawRx(from, p))
	if got.Port != b.port(to) || !bytes.Equal(got.Data, want.raw) {
		b.Errorf("sent to port %d %s\nwant %s", got.Port, describePacket(got.Data), describePacket(want.raw))
	}
}

func (b *laneBed) rawRx(from string, p piece) received {
	return received{memdev.Rx{Port: b.port(from), Data: p.raw}}
}

// conns wants so many connections at each lane, and two tuples of each known.
func (b *laneBed) conns(want ...int) {
	b.Helper()
	sum := 0
	for i, n := range want {
		sum += n
		if got := b.f.workers[i].conns.Len(); got != n {
			b.Errorf("lane %d has %d connections, want %d", i, got, n)
		}
	}
	if got := b.w.peers.homes.used(); got != 2*sum {
		b.Errorf("%d tuples are known of %d connections", got, sum)
	}
}

// sleep lets time pass, long enough for the sweep to see the whole tables.
func (b *laneBed) sleep(d time.Duration) {
	b.Helper()
	b.now += d
	for _, w := range b.f.workers {
		w.tick()
		w.conns.Sweep(w.ms, w.conns.Cap())
	}
	b.settle()
}

// home is the lane that a packet's connection is known to be at, -1: none.
func (b *laneBed) home(s spec) int {
	key := conntrack.MakeKey(s.tuple())
	return b.w.peers.homes.home(&key)
}

// back is the answer to a packet that has left as s.
func (s spec) back() spec { return s.answer().with(func(s *spec) { s.ttl = 64 }) }

// eachLanes runs a test for devices of several lanes and both versions of IP.
func eachLanes(t *testing.T, f func(t *testing.T, lanes int, ip func(string) string)) {
	for _, lanes := range []int{2, 4} {
		t.Run(fmt.Sprintf("%d lanes", lanes), func(t *testing.T) {
			families(t, func(t *testing.T, ip func(string) string) { f(t, lanes, ip) })
		})
	}
}

// at is n connections at a lane, none elsewhere.
func at(lanes, lane, n int) []int {
	list := make([]int, lanes)
	list[lane] = n
	return list
}

// TestHandOver: whatever lane a packet of a connection comes to, it is forwarded,
// translated once, and counted once.
func TestHandOver(t *testing.T) {
	eachLanes(t, func(t *testing.T, lanes int, ip func(string) string) {
		service := udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport = 80 })
		masked := udp(ip("a"), ip("world"))
		for _, c := range []struct {
			name    string
			s, out  spec
			to      string
			changes []func(*dataplanev1.Snapshot)
		}{
			{"plain", udp(ip("a"), ip("b")), udp(ip("a"), ip("b")).hop(), "b", nil},
			{"to a service", service, service.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 }), "b", []func(*dataplanev1.Snapshot){services}},
			{"masqueraded", masked, masked.hop().with(func(s *spec) { s.src = ip("snat") }), "host", []func(*dataplanev1.Snapshot){masquerade}},
		} {
			for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP} {
				for _, partial := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, protocol %d, partial checksum %v", c.name, proto, partial), func(t *testing.T) {
						change := func(s *spec) { s.proto, s.tcp, s.partial, s.size = proto, packet.TCPAck, partial, 101 }
						s, out := c.s.with(change), c.out.with(change)
						for home := range lanes {
							b := newLaneBed(t, podNet(c.changes...), uint32(lanes))
							b.pass(home, "a", s, c.to, out)
							for range 2 {
								for lane := range lanes {
									b.pass(lane, c.to, out.back(), "a", s.answer().hop())
									b.pass(lane, "a", s, c.to, out)
								}
							}
							b.conns(at(lanes, home, 1)...)
							got := packetsOf((&bed{T: t, w: b.f.workers[home]}).connOf(s))
							want := [2]uint64{uint64(2*lanes + 1), uint64(2 * lanes)}
							if got != want {
								t.Errorf("the connection counts %d packets, want %d", got, want)
							}
							b.apply(podNet(c.changes...))
							b.pass((home+1)%lanes, c.to, out.back(), "a", s.answer().hop())
							b.conns(at(lanes, home, 1)...)
							if b.home(s) != home || b.home(out.back()) != home {
								t.Errorf("tuples at lanes %d and %d, want %d", b.home(s), b.home(out.back()), home)
							}
						}
					})
				}
			}
		}
		t.Run("ping", func(t *testing.T) {
			b := newLaneBed(t, podNet(masquerade), uint32(lanes))
			e := echo(ip("a"), ip("world"), 9)
			out := e.hop().with(func(s *spec) { s.src = ip("snat") })
			b.pass(0, "a", e, "host", out)
			b.pass(lanes-1, "host", out.back(), "a", e.answer().hop())
			b.conns(at(lanes, 0, 1)...)
		})
		t.Run("a SYN reopens where the connection was", func(t *testing.T) {
			b := newLaneBed(t, podNet(masquerade), uint32(lanes))
			s := tcp(ip("a"), ip("world"), packet.TCPSyn)
			out := s.hop().with(func(s *spec) { s.src = ip("snat") })
			b.pass(0, "a", s, "host", out)
			reset := func(s *spec) { s.tcp = packet.TCPRst | packet.TCPAck }
			b.pass(1, "host", out.back().with(reset), "a", s.answer().hop().with(reset))
			b.pass(1, "a", s, "host", out)
			b.conns(at(lanes, 0, 1)...)
		})
	})
}

func TestHandOverErrors(t *testing.T) {
	eachLanes(t, func(t *testing.T, lanes int, ip func(string) string) {
		b := newLaneBed(t, podNet(masquerade), uint32(lanes))
		s := udp(ip("a"), ip("world"))
		out := s.hop().with(func(s *spec) { s.src = ip("snat") })
		e := errorFrom(ip("world"), ip("snat"), out, packet.PortUnreachable)
		b.drop(1, "host", e, ReasonUnrelatedICMP)
		b.pass(0, "a", s, "host", out)
		want := errorFrom(ip("world"), ip("a"), s.hop(), packet.PortUnreachable).hop()
		for lane := range lanes {
			b.pass(lane, "host", e, "a", want)
		}
		b.conns(at(lanes, 0, 1)...)
		b.sleep(40 * time.Second)
		b.drop(1, "host", e, ReasonUnrelatedICMP)
	})
}

func TestHandOverFragments(t *testing.T) {
	eachLanes(t, func(t *testing.T, lanes int, ip func(string) string) {
		s := udp(ip("a"), ip("world")).with(func(s *spec) { s.size = 3000 })
		out := s.hop().with(func(s *spec) { s.src = ip("snat") })
		t.Run("of a known connection", func(t *testing.T) {
			b := newLaneBed(t, podNet(masquerade), uint32(lanes))
			b.pass(0, "a", s.with(func(s *spec) { s.size = 10 }), "host", out.with(func(s *spec) { s.size = 10 }))
			for id := range uint32(8) {
				lane := int(id) % lanes
				in, want := cut(s, id, 1400), cut(out, id, 1400)
				for i := range in {
					b.piece(lane, "a", in[i], "host", want[i])
				}
				in, want = cut(out.back(), id, 1400), cut(s.answer().hop(), id, 1400)
				for i := range in {
					b.piece(lane, "host", in[i], "a", want[i])
				}
			}
			b.conns(at(lanes, 0, 1)...)
		})
		t.Run("open a connection", func(t *testing.T) {
			b := newLaneBed(t, podNet(masquerade), uint32(lanes))
			in, want := cut(s, 1, 1400), cut(out, 1, 1400)
			for i := range in {
				b.piece(1, "a", in[i], "host", want[i])
			}
			small := func(s *spec) { s.size = 10 }
			b.pass(0, "a", s.with(small), "host", out.with(small))
			b.pass(0, "host", out.back().with(small), "a", s.answer().hop().with(small))
			b.conns(at(lanes, 1, 1)...)
		})
		t.Run("of a connection that is gone", func(t *testing.T) {
			b := newLaneBed(t, podNet(masquerade), uint32(lanes))
			b.piece(0, "a", cut(s, 1, 1400)[0], "host", cut(out, 1, 1400)[0])
			back := cut(out.back(), 2, 1400)
			b.piece(1, "host", back[0], "a", cut(s.answer().hop(), 2, 1400)[0])
			b.f.workers[0].conns.DeletePort(b.port("a"), 1)
			b.dropped(1, b.rawRx("host", back[1]), ReasonFragmentOrder)
			b.conns(make([]int, lanes)...)
		})
		t.Run("lanes that each take the other for the packet's", func(t *testing.T) {
			b := newLaneBed(t, podNet(masquerade), uint32(lanes))
			var info packet.Info
			later := cut(out.back(), 3, 1400)[1]
			if r := packet.Parse(later.raw, len(later.raw), &info); r != packet.OK {
				t.Fatal(r)
			}
			for lane, w := range b.f.workers[:2] {
				w.frags.add(&info, b.port("host"), conntrack.NoRef, w.ms, time.Minute, 1-lane)
			}
			b.dropped(0, b.rawRx("host", later), ReasonFragmentOrder)
		})
	})
}

// TestHandOverChain: a packet in many nbufs stays whole, also while the lane that
// takes it waits for the rest of a chain of its own.
func TestHandOverChain(t *testing.T) {
	s := udp("10.0.0.1", "198.51.100.7")
	out := s.hop().with(func(s *spec) { s.src = "192.0.2.1" })
	t.Run("of any length", func(t *testing.T) {
		b := newLaneBed(t, jumboNet(masquerade), 2)
		b.pass(0, "a", s, "host", out)
		for _, size := range []int{10, 2000, 9000, 65000} {
			change := func(s *spec) { s.size = size }
			back := b.rx("host", out.back().with(change))
			for _, room := range []int{1900, 100 + size/20} {
				p := b.one(1, back.in(room))
				b.same(p, "a", s.answer().hop().with(change))
			}
			p := b.one(1, back.parked(100))
			b.same(p, "a", s.answer().hop().with(change))
		}
		b.conns(1, 0)
	})
	t.Run("many at once", func(t *testing.T) {
		b := newLaneBedOn(t, jumboNet(masquerade), memdev.Config{Nbufs: 4096, Lanes: 2}, Options{MaxConnections: 64}, time.Hour)
		b.pass(0, "a", s, "host", out)
		var rx []memdev.Rx
		want := 0
		for n := range 300 {
			big := func(s *spec) { s.size = 100 + n%7*1500 }
			p := b.rx("host", out.back().with(big))
			p.Lane = 1
			rx = append(rx, p.Rx)
			want += len(p.Data)
		}
		b.dev.Receive(rx...)
		b.settle()
		sent := b.dev.Sent()
		got := 0
		for n, p := range sent {
			b.same(p, "a", s.answer().hop().with(func(s *spec) { s.size = 100 + n%7*1500 }))
			got += len(p.Data)
		}
		if len(sent) != len(rx) || got != want {
			t.Errorf("%d packets, %d bytes; want %d, %d", len(sent), got, len(rx), want)
		}
	})
	t.Run("while another chain is under way", func(t *testing.T) {
		b := newLaneBed(t, jumboNet(masquerade), 2)
		b.pass(0, "a", s, "host", out)
		long := udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.size = 5000 })
		idx := b.lay("a", long.bytes(), 1000)
		ents := make([]uint32, len(idx))
		for i, x := range idx {
			if ents[i] = abi.Entry(abi.InRX, x); i < len(idx)-1 {
				ents[i] |= abi.EntMore
			}
		}
		b.dev.Publish(0, ents[:3]...)
		b.settle()
		for range 2 {
			b.pass(1, "host", out.back(), "a", s.answer().hop())
		}
		b.dev.Publish(0, ents[3:]...)
		b.settle()
		sent := b.dev.Sent()
		if len(sent) != 1 {
			t.Fatalf("%d packets came out, want the long one", len(sent))
		}
		b.same(sent[0], "b", long.hop())
	})
}

// TestHandOverCaptures: a packet that is handed over is captured once coming in
// and once going out.
func TestHandOverCaptures(t *testing.T) {
	b := newLaneBed(t, podNet(masquerade), 2)
	s := udp("10.0.0.1", "198.51.100.7")
	out := s.hop().with(func(s *spec) { s.src = "192.0.2.1" })
	b.pass(0, "a", s, "host", out)
	for _, port := range []string{"host", "a"} {
		c, err := b.f.Captures.Open(port, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := out.back().bytes()
		if port == "a" {
			want = s.answer().hop().bytes()
		}
		b.pass(1, "host", out.back(), "a", s.answer().hop())
		// One more by each lane: when both are there, so is all of the first one.
		for lane := range 2 {
			mark := func(s *spec) { s.size = 33 + lane }
			b.pass(lane, "host", out.back().with(mark), "a", s.answer().hop().with(mark))
		}
		seen := map[int]int{}
		for seen[len(want)+13] == 0 || seen[len(want)+14] == 0 {
			got, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			seen[len(got.Data)]++
			if got.ToPort != (port == "a") {
				t.Errorf("%s: captured to the port: %v", port, got.ToPort)
			}
			if len(got.Data) == len(want) && !bytes.Equal(got.Data, want) {
				t.Errorf("%s: captured %s\nwant %s", port, describePacket(got.Data), describePacket(want))
			}
		}
		if len(seen) != 3 || seen[len(want)] != 1 {
			t.Errorf("%s: packets captured, by size: %v; want each once", port, seen)
		}
	}
}

// TestHandOverForgets: what is gone is at no lane any more.
func TestHandOverForgets(t *testing.T) {
	s := udp("10.0.0.1", "198.51.100.7")
	out := s.hop().with(func(s *spec) { s.src = "192.0.2.1" })
	open := func(t *testing.T) *laneBed {
		b := newLaneBed(t, podNet(masquerade), 2)
		b.pass(0, "a", s, "host", out)
		b.pass(1, "host", out.back(), "a", s.answer().hop())
		b.conns(1, 0)
		return b
	}
	elsewhere := func(t *testing.T, b *laneBed) {
		t.Helper()
		b.conns(0, 0)
		// Another lane may have it now, with the same source port.
		b.pass(1, "a", s, "host", out)
		b.pass(0, "host", out.back(), "a", s.answer().hop())
		b.conns(0, 1)
	}
	t.Run("expired", func(t *testing.T) {
		b := open(t)
		b.sleep(130 * time.Second)
		elsewhere(t, b)
	})
	t.Run("of a removed port", func(t *testing.T) {
		b := open(t)
		b.apply(podNet(masquerade, without("a")))
		b.conns(0, 0)
		b.apply(podNet(masquerade))
		elsewhere(t, b)
	})
	t.Run("against policy", func(t *testing.T) {
		b := open(t)
		b.apply(podNet(masquerade, policy("p", "a", isolateEgress)))
		b.drop(1, "a", s, ReasonPolicyEgress)
		b.drop(0, "host", out.back(), ReasonPolicyEgress)
		b.conns(1, 0) // it stays where it is while packets come
		b.apply(podNet(masquerade))
		b.pass(1, "a", s, "host", out)
		b.conns(1, 0)
		b.apply(podNet(masquerade, policy("p", "a", isolateEgress)))
		b.drop(1, "a", s, ReasonPolicyEgress)
		b.sleep(130 * time.Second)
		b.apply(podNet(masquerade))
		elsewhere(t, b)
	})
	t.Run("evicted", func(t *testing.T) {
		b := newLaneBedOn(t, podNet(masquerade), memdev.Config{Lanes: 2}, Options{MaxConnections: 8}, time.Hour)
		for i := range uint16(40) {
			change := func(s *spec) { s.sport += i }
			b.pass(int(i%2), "a", s.with(change), "host", out.with(change))
		}
		b.conns(4, 4)
	})
	t.Run("refused for want of room", func(t *testing.T) {
		b := newLaneBed(t, podNet(masquerade, func(s *dataplanev1.Snapshot) { s.Settings.MaxConnectionsPerPort = 2 }), 2)
		ack := func(s *spec) { s.proto, s.tcp = packet.ProtoTCP, packet.TCPAck }
		b.pass(0, "a", s.with(ack), "host", out.with(ack))
		b.drop(0, "a", s.with(ack).with(func(s *spec) { s.sport++ }), ReasonPortLimit)
		b.conns(1, 0)
	})
}

// TestHandOverSourcePorts: lanes that translate to the same address never choose
// the same port for the same destination, and together use all there are.
func TestHandOverSourcePorts(t *testing.T) {
	few := func(s *dataplanev1.Snapshot) {
		masquerade(s)
		for _, n := range s.SourceNats {
			n.FirstPort, n.LastPort = 2000, 2009
		}
	}
	eachLanes(t, func(t *testing.T, lanes int, ip func(string) string) {
		s := udp(ip("a"), ip("world"))
		t.Run("all are used, each once", func(t *testing.T) {
			b := newLaneBed(t, podNet(few), uint32(lanes))
			used := map[uint16]bool{}
			for i := range 10 {
				in := s.with(func(s *spec) { s.sport += uint16(i) })
				p := b.one(i%lanes, b.rx("a", in))
				port, _ := ports(p.Data)
				if port < 2000 || port > 2009 || used[port] {
					t.Fatalf("source port %d, used before: %v", port, used[port])
				}
				used[port] = true
				out := in.hop().with(func(s *spec) { s.src, s.sport = ip("snat"), port })
				b.same(p, "host", out)
				b.pass((i+1)%lanes, "host", out.back(), "a", in.answer().hop())
			}
			more := s.with(func(s *spec) { s.sport += 10 })
			for lane := range lanes {
				b.drop(lane, "a", more, ReasonNATExhausted)
				// Another destination is not concerned.
				b.one(lane, b.rx("a", more.with(func(s *spec) { s.dport = 54 + uint16(lane); s.sport += uint16(lane) })))
			}
			b.sleep(130 * time.Second)
			b.conns(make([]int, lanes)...)
			b.one(lanes-1, b.rx("a", more))
		})
		t.Run("a port that another lane has", func(t *testing.T) {
			b := newLaneBed(t, podNet(masquerade), uint32(lanes))
			b.pass(0, "a", s, "host", s.hop().with(func(s *spec) { s.src = ip("snat") }))
			other := s.with(func(s *spec) { s.src = ip("b") })
			p := b.one(1, b.rx("b", other))
			port, _ := ports(p.Data)
			if port == s.sport {
				t.Fatal("two connections have the same port")
			}
			out := other.hop().with(func(s *spec) { s.src, s.sport = ip("snat"), port })
			for lane := range lanes {
				b.pass(lane, "host", out.back(), "b", other.answer().hop())
				b.pass(lane, "host", s.with(func(s *spec) { s.src = ip("snat") }).back(), "a", s.answer().hop())
			}
		})
		t.Run("a service and its backend", func(t *testing.T) {
			b := newLaneBed(t, podNet(services), uint32(lanes))
			direct := udp(ip("a"), ip("b")).with(func(s *spec) { s.dport = 8080 })
			b.pass(0, "a", direct, "b", direct.hop())
			service := direct.with(func(s *spec) { s.dst, s.dport = ip("svc"), 80 })
			p := b.one(1, b.rx("a", service))
			port, _ := ports(p.Data)
			if port == direct.sport {
				t.Fatal("answers of both connections look alike")
			}
			out := direct.hop().with(func(s *spec) { s.sport = port })
			for lane := range lanes {
				b.pass(lane, "b", out.back(), "a", service.answer().hop())
				b.pass(lane, "b", direct.hop().back(), "a", direct.answer().hop())
			}
		})
		// What follows is what a lane finds if another is a moment ahead of it.
		t.Run("chosen again by the same rule", func(t *testing.T) {
			b := newLaneBed(t, podNet(few), uint32(lanes))
			w := b.f.workers[0]
			f := &flow{tables: w.tables, orig: s.tuple(), in: w.tables.Port(b.port("a")), inID: b.port("a"), rule: noRule}
			if r := w.judge(f); r != ReasonNone {
				t.Fatal(r)
			}
			first := f.out.SrcPort
			reply := conntrack.MakeKey(f.out.Reply())
			w.peers.homes.add(&reply, 1)
			if _, err := w.insert(f); err != conntrack.ErrClash {
				t.Fatalf("error %v, want %v", err, conntrack.ErrClash)
			}
			if r := w.keepApart(f); r != ReasonNone || f.out.SrcPort == first || f.out.SrcPort < 2000 || f.out.SrcPort > 2009 {
				t.Errorf("%v: source port %d, then %d, of 2000 to 2009", r, first, f.out.SrcPort)
			}
			w.peers.homes.remove(&reply, 1)
			b.conns(make([]int, lanes)...)
		})
	})
}

// TestHandOverRace: what a lane does with a packet of a connection that another
// one makes at the same time.
func TestHandOverRace(t *testing.T) {
	b := newLaneBed(t, podNet(), 2)
	s := udp("10.0.0.1", "10.0.0.2")
	w := b.f.workers[0]
	orig, reply := conntrack.MakeKey(s.tuple()), conntrack.MakeKey(s.tuple().Reply())
	homes := b.w.peers.homes

	// It does not get a second one with another source port, or any.
	homes.add(&orig, 1)
	if err := w.claim(&orig, &reply); err != errElsewhere {
		t.Errorf("error %v, want %v", err, errElsewhere)
	}
	if got := homes.home(&reply); got != -1 {
		t.Errorf("the answers are lane %d's", got)
	}
	// The other lane has not got there yet, and the packet comes to where it belongs.
	w.handed = true
	w.info = packet.Info{Tuple: s.tuple(), Family: packet.IPv4}
	w.flow = flow{tables: w.tables, orig: s.tuple(), in: w.tables.Port(b.port("a")), inID: b.port("a"), rule: noRule}
	if _, r := w.newConnection(&pkt{nb: &abi.Nbuf{IPort: b.port("a")}}, &w.info, &w.flow); r != ReasonNoConnection {
		t.Errorf("reason %v, want %v", r, ReasonNoConnection)
	}
	w.handed = false
	homes.remove(&orig, 1)

	// Answers that would look alike are refused, and leave no claim.
	homes.add(&reply, 1)
	if err := w.claim(&orig, &reply); err != conntrack.ErrClash {
		t.Errorf("error %v, want %v", err, conntrack.ErrClash)
	}
	if got := homes.home(&orig); got != -1 {
		t.Errorf("the flow is lane %d's", got)
	}
	homes.remove(&reply, 1)
	b.conns(0, 0)
	b.pass(0, "a", s, "b", s.hop())
	b.conns(1, 0)
}

// TestHandOverOnce: a packet that comes to the lane that should have its connection
// and has it no more is judged there, not handed on.
func TestHandOverOnce(t *testing.T) {
	b := newLaneBed(t, podNet(masquerade), 2)
	s := udp("10.0.0.1", "198.51.100.7")
	out := s.hop().with(func(s *spec) { s.src = "192.0.2.1" })
	// Each lane is taken for the home of one direction, neither has the connection.
	homes := b.w.peers.homes
	reply := conntrack.MakeKey(out.tuple().Reply())
	homes.add(&reply, 0)
	e := errorFrom("198.51.100.7", "192.0.2.1", out, packet.PortUnreachable)
	b.drop(1, "host", e, ReasonUnrelatedICMP)
	r := tcp("198.51.100.7", "192.0.2.1", packet.TCPRst)
	key := conntrack.MakeKey(r.tuple())
	homes.add(&key, 0)
	b.drop(1, "host", r, ReasonNoConnection)
	homes.remove(&reply, 0)
	homes.remove(&key, 0)
}

// TestHandOverAfterRestart: the next process knows of every lane's connections.
func TestHandOverAfterRestart(t *testing.T) {
	dir := t.TempDir()
	s := udp("10.0.0.1", "198.51.100.7")
	out := s.hop().with(func(s *spec) { s.src = "192.0.2.1" })
	for process := range 3 {
		t.Run(fmt.Sprintf("process %d", process), func(t *testing.T) {
			b := newLaneBedOn(t, podNet(masquerade), memdev.Config{Lanes: 2}, Options{MaxConnections: 64, StateDir: dir}, monotonic.Now())
			for i := range uint16(6) {
				change := func(s *spec) { s.sport += i }
				home := int(i % 2)
				if process == 0 {
					b.pass(home, "a", s.with(change), "host", out.with(change))
				}
				b.pass(1-home, "host", out.with(change).back(), "a", s.answer().hop().with(func(s *spec) { s.dport += i }))
			}
			// Nobody else gets a port that is in use.
			other := s.with(func(s *spec) { s.src = "10.0.0.2"; s.dport, s.sport = 53, s.sport+2 })
			if port, _ := ports(b.one(1, b.rx("b", other)).Data); port == other.sport {
				t.Error("a port is used twice")
			}
			b.conns(3, 4)
		})
	}
}

// TestHandOverAllocation: a packet that is handed over costs no memory.
func TestHandOverAllocation(t *testing.T) {
	b := newLaneBedOn(t, podNet(masquerade), memdev.Config{Nbufs: 2048, Lanes: 2, Forget: true}, Options{MaxConnections: 1024}, time.Hour)
	s := udp("10.0.0.1", "198.51.100.7")
	b.dev.Receive(b.rx("a", s).Rx)
	b.settle()
	back := s.with(func(s *spec) { s.src = "192.0.2.1" }).back().bytes()
	var idx, ents []uint32
	round := func() {
		idx, ents = b.dev.Alloc(idx[:0], 16), ents[:0]
		for _, x := range idx {
			b.fill("host", x, back)
			ents = append(ents, abi.Entry(abi.InRX, x))
		}
		b.dev.Publish(1, ents...)
		for range 2 {
			for _, w := range b.f.workers {
				turn(t, w)
			}
		}
	}
	for range 64 { // slices find their size
		round()
	}
	before := b.stats().TxPackets
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations per round", n)
	}
	if n := b.stats().TxPackets - before; n != 101*16 {
		t.Errorf("%d packets were sent, want %d", n, 101*16)
	}
}
