// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"testing"

	"netio.dev/netio/pkg/dataplane/packet"
)

func TestForward(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		t.Run("UDP and its answers, byte for byte", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b"))
			b.forward("a", s, "b")
			b.forward("b", s.answer(), "a")
			b.forward("a", s, "b")
			b.conns(1)
			if b.w.Stats.SlowPath != 1 {
				t.Errorf("%d packets took the slow path, want the first one only", b.w.Stats.SlowPath)
			}
		})
		t.Run("UDP without payload", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b")).with(func(s *spec) { s.size = 0 })
			b.forward("a", s, "b")
			b.forward("b", s.answer(), "a")
		})
		t.Run("a TCP connection from SYN to the last ACK", func(t *testing.T) {
			b := newBed(t, podNet())
			out := func(flags uint8) spec { return tcp(ip("a"), ip("b"), flags) }
			back := func(flags uint8) spec { return out(flags).answer() }
			b.forward("a", out(packet.TCPSyn), "b")
			b.forward("b", back(packet.TCPSyn|packet.TCPAck), "a")
			b.forward("a", out(packet.TCPAck), "b")
			b.forward("a", out(packet.TCPAck|packet.TCPPsh).with(func(s *spec) { s.size = 1400 }), "b")
			b.forward("b", back(packet.TCPAck|packet.TCPFin), "a")
			b.forward("a", out(packet.TCPAck|packet.TCPFin), "b")
			b.forward("b", back(packet.TCPAck), "a")
			b.conns(1)
		})
		t.Run("echo request and reply", func(t *testing.T) {
			b := newBed(t, podNet())
			s := echo(ip("a"), ip("b"), 77)
			b.forward("a", s, "b")
			b.forward("b", s.answer(), "a")
			b.forward("a", s, "b")
			b.conns(1)
		})
		t.Run("pod to the world and back", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("world"))
			b.forward("a", s, "host")
			b.forward("host", s.answer(), "a")
		})
		t.Run("the world to a pod and back", func(t *testing.T) {
			b := newBed(t, podNet())
			s := tcp(ip("world"), ip("a"), packet.TCPSyn)
			b.forward("host", s, "a")
			b.forward("a", s.answer().with(func(s *spec) { s.tcp |= packet.TCPAck }), "host")
		})
		t.Run("SCTP and protocols without ports", func(t *testing.T) {
			b := newBed(t, podNet())
			for _, proto := range []uint8{packet.ProtoSCTP, packet.ProtoESP, 47} {
				s := spec{src: ip("a"), dst: ip("b"), proto: proto, size: 40}
				if proto == packet.ProtoSCTP {
					s.sport, s.dport = 1, 2
				}
				b.forward("a", s, "b")
				b.forward("b", s.answer(), "a")
			}
			b.conns(3)
		})
		t.Run("connections of a pod are kept apart", func(t *testing.T) {
			b := newBed(t, podNet())
			for port := range uint16(50) {
				s := udp(ip("a"), ip("b")).with(func(s *spec) { s.sport = 1000 + port })
				b.forward("a", s, "b")
				b.forward("b", s.answer(), "a")
			}
			b.conns(50)
		})
		t.Run("traffic class and partial checksum are left alone", func(t *testing.T) {
			b := newBed(t, podNet())
			for _, partial := range []bool{false, true} {
				s := udp(ip("a"), ip("b")).with(func(s *spec) { s.tos, s.partial = 0xb9, partial })
				b.forward("a", s, "b")
				b.forward("a", s, "b")
			}
		})
		t.Run("an answer that nobody asked for", func(t *testing.T) {
			b := newBed(t, podNet())
			b.drop("b", echo(ip("a"), ip("b"), 1).answer(), ReasonNoConnection)
			b.drop("b", tcp(ip("b"), ip("a"), packet.TCPRst), ReasonNoConnection)
			b.drop("b", tcp(ip("b"), ip("a"), packet.TCPRst|packet.TCPAck), ReasonNoConnection)
			b.conns(0)
		})
		t.Run("an echo reply with another identifier", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", echo(ip("a"), ip("b"), 1), "b")
			b.drop("b", echo(ip("a"), ip("b"), 2).answer(), ReasonNoConnection)
		})
		t.Run("a TCP connection older than the table is picked up", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("b", tcp(ip("b"), ip("a"), packet.TCPAck), "a")
			b.forward("a", tcp(ip("b"), ip("a"), packet.TCPAck).answer(), "b")
			b.conns(1)
		})
	})
}

func TestHopLimit(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		for name, first := range map[string]bool{"of a first packet": true, "of a known flow": false} {
			t.Run(name, func(t *testing.T) {
				b := newBed(t, podNet())
				s := udp(ip("a"), ip("b"))
				if !first {
					b.forward("a", s, "b")
				}
				for _, ttl := range []int{-1, 1} {
					s.ttl = ttl
					b.refuse("a", s, ReasonTTL, icmpError(s, packet.TimeExceeded, 0))
				}
				s.ttl = 2
				b.forward("a", s, "b")
			})
		}
		t.Run("a packet from elsewhere gets no answer", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("c"), ip("b")).with(func(s *spec) { s.ttl = 1 })
			b.drop("a", s, ReasonSpoofed)
		})
	})
}

// TestHopChecksum takes a hop from headers with every checksum there is: RFC
// 1624's corner cases are among them.
func TestHopChecksum(t *testing.T) {
	b := newBed(t, podNet())
	s := udp("10.0.0.1", "10.0.0.2")
	b.forward("a", s, "b")
	for id := uint32(0); id < 1<<16; id += 256 {
		var packets []received
		for i := range uint32(256) {
			packets = append(packets, b.rx("a", s.with(func(s *spec) { s.id = id + i })))
		}
		sent := b.receive(packets...)
		if len(sent) != len(packets) {
			t.Fatalf("%d packets came out, want %d", len(sent), len(packets))
		}
		for i, p := range sent {
			b.same(p, "b", s.hop().with(func(s *spec) { s.id = id + uint32(i) }))
		}
	}
}
