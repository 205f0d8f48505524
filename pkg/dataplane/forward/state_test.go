// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"slices"
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// TestTCPLife follows connections from segment to segment: the state that each
// leaves, and after how much silence the connection is forgotten.
func TestTCPLife(t *testing.T) {
	const (
		syn, ack, fin, rst = packet.TCPSyn, packet.TCPAck, packet.TCPFin, packet.TCPRst

		opening, established, closing = 30 * time.Second, 7200 * time.Second, 30 * time.Second
	)
	type segment struct {
		reply bool
		flags uint8
		state conntrack.State
		life  time.Duration
	}
	open := []segment{
		{false, syn, conntrack.StateSynSent, opening},
		{true, syn | ack, conntrack.StateSynReceived, opening},
		{false, ack, conntrack.StateEstablished, established},
	}
	for name, segments := range map[string][]segment{
		"opened, closed by the opener": append(slices.Clone(open),
			segment{false, ack | fin, conntrack.StateFinWait, established},
			segment{true, ack, conntrack.StateFinWait, established},
			segment{true, ack | fin, conntrack.StateClosing, closing},
			segment{false, ack, conntrack.StateClosing, closing}),
		"opened, closed by the other end": append(slices.Clone(open),
			segment{true, ack | fin, conntrack.StateFinWait, established},
			segment{false, ack | fin, conntrack.StateClosing, closing},
			segment{true, ack, conntrack.StateClosing, closing}),
		"reset by the opener": append(slices.Clone(open), segment{false, rst, conntrack.StateReset, closing}),
		"refused":             {open[0], {true, rst | ack, conntrack.StateReset, closing}},
		"a reset that the ends did not accept": append(slices.Clone(open),
			segment{true, rst, conntrack.StateReset, closing}, segment{false, ack, conntrack.StateEstablished, established}),
		"SYN sent again": {open[0], open[0], {true, syn | ack, conntrack.StateSynReceived, opening}, {true, syn | ack, conntrack.StateSynReceived, opening}},
		"reopened after closing": append(slices.Clone(open),
			segment{false, ack | fin, conntrack.StateFinWait, established}, segment{true, ack | fin, conntrack.StateClosing, closing},
			segment{false, syn, conntrack.StateSynSent, opening}, segment{true, syn | ack, conntrack.StateSynReceived, opening}),
		"reopened after a reset":  {open[0], {true, rst | ack, conntrack.StateReset, closing}, {false, syn, conntrack.StateSynSent, opening}},
		"picked up in its middle": {{false, ack, conntrack.StateEstablished, established}, {true, ack, conntrack.StateEstablished, established}},
		"picked up at its end": {
			{false, ack | fin, conntrack.StateFinWait, closing},
			{true, ack | fin, conntrack.StateClosing, closing},
		},
	} {
		t.Run(name, func(t *testing.T) {
			families(t, func(t *testing.T, ip func(string) string) {
				for _, n := range []int{len(segments), 1} { // each segment's silence, too, is tried out
					for last := n; last <= len(segments); last++ {
						b := newBed(t, podNet())
						for i, s := range segments[:last] {
							p := tcp(ip("a"), ip("b"), s.flags)
							from, to := "a", "b"
							if s.reply {
								p = p.answer()
								from, to = to, from
							}
							b.forward(from, p, to)
							if c := b.connOf(p); c.State() != s.state {
								t.Fatalf("segment %d: %s, want %s", i, c.State(), s.state)
							}
							b.conns(1)
							b.now += time.Second
						}
						b.now -= time.Second
						life := segments[last-1].life
						b.sleep(life - time.Second)
						b.conns(1)
						b.sleep(time.Second + 100*time.Millisecond)
						b.conns(0)
					}
				}
			})
		})
	}
	t.Run("a SYN from the other end reopens in its own name", func(t *testing.T) {
		b := newBed(t, podNet(sets, policy("p", "a", isolateIngress)))
		s := tcp("10.0.0.1", "10.0.0.2", syn)
		b.forward("a", s, "b")
		b.forward("b", s.answer().with(func(s *spec) { s.tcp = rst | ack }), "a")
		b.drop("b", s.answer(), ReasonPolicyIngress)
	})
}

func TestDatagramLife(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		for name, c := range map[string]struct {
			s            spec
			once, stream time.Duration
		}{
			"UDP":              {udp(ip("a"), ip("b")), 30 * time.Second, 120 * time.Second},
			"ping":             {echo(ip("a"), ip("b"), 1), 30 * time.Second, 30 * time.Second},
			"another protocol": {spec{src: ip("a"), dst: ip("b"), proto: 47}, 120 * time.Second, 120 * time.Second},
		} {
			t.Run(name, func(t *testing.T) {
				for _, answered := range []bool{false, true} {
					b := newBed(t, podNet())
					life, state := c.once, conntrack.StateNew
					b.forward("a", c.s, "b")
					b.forward("a", c.s, "b") // the same again is no answer
					if answered {
						life, state = c.stream, conntrack.StateEstablished
						b.forward("b", c.s.answer(), "a")
					}
					if got := b.connOf(c.s).State(); got != state {
						t.Errorf("state %s, want %s", got, state)
					}
					b.sleep(life - time.Second)
					b.conns(1)
					b.forward("a", c.s, "b") // begins to count anew
					b.sleep(life - time.Second)
					b.conns(1)
					b.sleep(time.Second + 100*time.Millisecond)
					b.conns(0)
				}
			})
		}
		t.Run("timeouts of the configuration", func(t *testing.T) {
			b := newBed(t, podNet(func(s *dataplanev1.Snapshot) { s.Settings.Timeouts = &dataplanev1.Timeouts{Udp: 5} }))
			b.forward("a", udp(ip("a"), ip("b")), "b")
			b.sleep(5100 * time.Millisecond)
			b.conns(0)
		})
	})
}

func TestConnectionLimits(t *testing.T) {
	limited := func(n uint32) func(*dataplanev1.Snapshot) {
		return func(s *dataplanev1.Snapshot) { s.Settings.MaxConnectionsPerPort = n }
	}
	open := func(b *bed, port, src string, n int) {
		b.Helper()
		for i := range uint16(n) {
			s := tcp(src, "10.0.0.3", packet.TCPAck).with(func(s *spec) { s.sport = 1000 + i })
			b.forward(port, s, "c")
		}
	}
	fresh := func(src string) spec {
		return tcp(src, "10.0.0.3", packet.TCPSyn).with(func(s *spec) { s.sport = 9 })
	}
	t.Run("of a port", func(t *testing.T) {
		b := newBed(t, podNet(limited(10)))
		open(b, "a", "10.0.0.1", 10)
		b.drop("a", fresh("10.0.0.1"), ReasonPortLimit)
		b.forward("b", fresh("10.0.0.2"), "c") // another's are not concerned
		b.apply(podNet(limited(11)))
		b.forward("a", fresh("10.0.0.1"), "c")
	})
	t.Run("of a port, unanswered ones make room", func(t *testing.T) {
		b := newBed(t, podNet(limited(10)))
		for i := range uint16(100) {
			b.forward("a", fresh("10.0.0.1").with(func(s *spec) { s.sport = 1000 + i }), "c")
		}
		b.conns(10)
	})
	t.Run("in all: who has most pays", func(t *testing.T) {
		b := newBedOn(t, podNet(), memdev.Config{}, 64)
		open(b, "a", "10.0.0.1", 64)
		for i := range uint16(20) {
			b.forward("b", fresh("10.0.0.2").with(func(s *spec) { s.sport = 1000 + i }), "c")
		}
		b.conns(64)
		if n := b.w.conns.PortLen(b.port("b")); n != 20 {
			t.Errorf("b has %d connections, want 20", n)
		}
	})
	t.Run("in all: who has most gets no more", func(t *testing.T) {
		b := newBedOn(t, podNet(), memdev.Config{}, 64)
		open(b, "a", "10.0.0.1", 64)
		b.drop("a", fresh("10.0.0.1"), ReasonTableFull)
		b.conns(64)
	})
	t.Run("a port's limit is shared by the lanes", func(t *testing.T) {
		dev := memdev.New(t, memdev.Config{Lanes: 4})
		f, err := New(Options{Device: dev, MaxConnections: 400})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.apply(t, podNet(limited(10)))
		for i, w := range f.workers {
			turn(t, w)
			for n := range uint16(20) {
				s := tcp("10.0.0.1", "10.0.0.3", packet.TCPAck).with(func(s *spec) { s.sport = n })
				dev.Receive(memdev.Rx{Port: 1, Data: s.bytes(), Lane: i})
				turn(t, w)
			}
			if n := w.conns.PortLen(1); n != 3 {
				t.Errorf("lane %d: %d connections, want a fourth of 10", i, n)
			}
		}
	})
}
