// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// train is some packets of few flows, often several of one behind the other, among them all
// that a train's common treatment must not hide: from another port, closing, too large, in
// several nbufs, without a hop left, of another family.
func train(b *bed, ip func(string) string, rnd *rand.Rand, n int) []received {
	var packets []received
	for len(packets) < n {
		s := udp(ip("a"), ip("b"))
		from := "a"
		switch rnd.IntN(6) {
		case 0:
			s = udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport = 80 })
		case 1:
			s = s.with(func(s *spec) { s.proto, s.tcp = packet.ProtoTCP, packet.TCPAck })
		case 2:
			s = s.with(func(s *spec) { s.dst = ip("c") })
		case 3:
			s, from = udp(ip("b"), ip("a")).with(func(s *spec) { s.sport, s.dport = s.dport, s.sport }), "b"
		}
		s.sport += uint16(rnd.IntN(2))
		for range 1 + rnd.IntN(8) {
			s, at := s, from
			s.size = rnd.IntN(100)
			room := 0
			switch rnd.IntN(16) {
			case 0:
				at = "c" // which may not send it
			case 1:
				s.tcp = []uint8{packet.TCPFin | packet.TCPAck, packet.TCPRst, packet.TCPSyn}[rnd.IntN(3)]
			case 2:
				s.size = 1600
			case 3:
				room = 64
			case 4:
				s.ttl = 1
			case 5:
				s.partial = true
			}
			packets = append(packets, b.rx(at, s).in(room))
		}
	}
	return packets[:n]
}

// TestTrains: what becomes of a packet does not hang on what comes in the same vector.
func TestTrains(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		for seed := range uint64(60) {
			together, alone := newBed(t, podNet(services)), newBed(t, podNet(services))
			together.blind, alone.blind = true, true
			for round := range uint64(4) {
				n := rand.New(rand.NewPCG(seed, round)).IntN(48) // whose errors and fragments need fewer nbufs than a worker has in stock
				made := func(b *bed) []received { return train(b, ip, rand.New(rand.NewPCG(seed, round+10)), n) }
				got := together.receive(made(together)...)
				var want []memdev.Packet
				for _, p := range made(alone) {
					want = append(want, alone.receive(p)...)
				}
				for i := range min(len(got), len(want)) {
					if got[i].Port != want[i].Port || !bytes.Equal(got[i].Data, want[i].Data) {
						t.Fatalf("seed %d, round %d, packet %d is sent to port %d: %s\none by one to port %d: %s", seed, round, i,
							got[i].Port, describePacket(got[i].Data), want[i].Port, describePacket(want[i].Data))
					}
				}
				if len(got) != len(want) {
					t.Fatalf("seed %d, round %d: %d packets are sent, %d if they come one by one", seed, round, len(got), len(want))
				}
				if a, b := states(together), states(alone); !maps.Equal(a, b) {
					t.Fatalf("seed %d, round %d: connections\n%v, one by one\n%v", seed, round, a, b)
				}
				if a, b := together.total(), alone.total(); a != b {
					t.Fatalf("seed %d, round %d: counters\n%+v, one by one\n%+v", seed, round, a, b)
				}
			}
		}
	})
}

// states of the connections, by the tuple that opened them.
func states(b *bed) map[packet.Tuple]string {
	all := map[packet.Tuple]string{}
	b.w.conns.Each(0, b.w.conns.Cap(), func(_ conntrack.Ref, c *conntrack.Conn) {
		packets, bytes := c.Counts(conntrack.Original)
		all[c.Dirs[conntrack.Original].Tuple()] = fmt.Sprint(c.State(), packets, bytes)
	})
	return all
}

// TestInlined: what is called for every packet is inlined into its loop.
func TestInlined(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range []string{"(*Worker).open", "(*Worker).preload", "(*Worker).known", "(*pkt).hop"} {
		if !strings.Contains(string(out), "can inline "+f+"\n") {
			t.Errorf("%s is not inlined any more", f)
		}
	}
}
