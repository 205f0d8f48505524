// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// errorFrom is an ICMP error about quoted, from somebody to somebody.
func errorFrom(src, dst string, quoted spec, kind packet.ErrorKind) spec {
	e := icmpError(quoted, kind, 0)
	e.src, e.dst, e.tos, e.df = src, dst, 0, false
	return e
}

// TestRouterErrors: the ICMP errors that the router sends. Their content is
// compared byte for byte by refuse.
func TestRouterErrors(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		t.Run("no route", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("nobody"))
			b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
		})
		t.Run("a service without backends", func(t *testing.T) {
			b := newBed(t, podNet(services, func(s *dataplanev1.Snapshot) {
				for _, n := range s.DestinationNats {
					n.Backends = nil
				}
			}))
			s := tcp(ip("a"), ip("svc"), packet.TCPSyn)
			b.refuse("a", s, ReasonNoBackend, icmpError(s, packet.PortUnreachable, 0))
		})
		t.Run("about a large packet: as much of it as may be quoted", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("nobody")).with(func(s *spec) { s.size = 1400 })
			b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
		})
		t.Run("about a packet with IP options", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("nobody"))
			if v4(ip("a")) {
				s.options = []byte{1, 1, 1, 0}
			} else {
				s.first, s.ext = 60, []byte{17, 0, 1, 4, 0, 0, 0, 0}
			}
			b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
		})
		t.Run("about an echo request", func(t *testing.T) {
			b := newBed(t, podNet())
			s := echo(ip("a"), ip("nobody"), 1)
			b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
		})
		t.Run("about a packet with a partial checksum: as it came", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("nobody")).with(func(s *spec) { s.partial = true })
			want := icmpError(s, packet.NetUnreachable, 0)
			b.refuse("a", s, ReasonNoRoute, want)
		})
		t.Run("to the host, too", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("world"), ip("nobody"))
			b.refuse("host", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
		})
		t.Run("no larger than the way back takes", func(t *testing.T) {
			b := newBed(t, podNet(func(s *dataplanev1.Snapshot) { s.Ports[3].Mtu = 600 }))
			s := udp(ip("world"), ip("nobody")).with(func(s *spec) { s.size = 1400 })
			want := icmpError(s, packet.NetUnreachable, 0)
			if !v4(ip("a")) {
				want.data = want.data[:600-48]
			}
			b.refuse("host", s, ReasonNoRoute, want)
		})
		t.Run("never about an ICMP error", func(t *testing.T) {
			b := newBed(t, podNet())
			e := errorFrom(ip("a"), ip("b"), udp(ip("b"), ip("a")), packet.PortUnreachable)
			e.ttl = 1
			b.drop("a", e, ReasonTTL)
		})
		t.Run("never about a fragment but the first", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b")).with(func(s *spec) { s.ttl, s.off, s.id = 1, 64, 3 })
			b.drop("a", s, ReasonTTL)
			first := s.with(func(s *spec) { s.off, s.mf, s.size = 0, true, 16 })
			b.refuse("a", first, ReasonTTL, icmpError(first, packet.TimeExceeded, 0))
		})
		t.Run("never about policy", func(t *testing.T) {
			b := newBed(t, podNet(policy("p", "b", isolateIngress)))
			b.drop("a", udp(ip("a"), ip("b")), ReasonPolicyIngress)
		})
		t.Run("never without an address of the router's", func(t *testing.T) {
			b := newBed(t, podNet(func(s *dataplanev1.Snapshot) { s.Settings = &dataplanev1.Settings{} }))
			b.drop("a", udp(ip("a"), ip("nobody")), ReasonNoRoute)
		})
		t.Run("so many to a port and no more", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("nobody"))
			count := func(port string, n int) (answers int) {
				s := s.with(func(s *spec) { s.src = ip(port) })
				for range n {
					answers += len(b.dropped(b.rx(port, s), ReasonNoRoute))
				}
				return answers
			}
			if n := count("a", 3*icmpBurst); n != icmpBurst {
				t.Errorf("%d answers at once, want %d", n, icmpBurst)
			}
			// Another port has its own.
			if n := count("b", 1); n != 1 {
				t.Error("one port's errors have used up another's")
			}
			b.now += 10 * time.Second / icmpRate
			if n := count("a", icmpBurst); n != 10 {
				t.Errorf("%d answers, want 10", n)
			}
			b.now += time.Hour
			if n := count("a", 3*icmpBurst); n != icmpBurst {
				t.Errorf("%d answers after an hour, want %d", n, icmpBurst)
			}
		})
		t.Run("none while there is no nbuf", func(t *testing.T) {
			b := newBed(t, podNet())
			stock := b.w.stock
			b.w.stock, b.w.asked = nil, 1
			b.drop("a", udp(ip("a"), ip("nobody")), ReasonNoRoute)
			b.w.stock, b.w.asked = stock, 0
		})
	})
}

// TestPing: the router answers, byte for byte.
func TestPing(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		reply := func(s spec) spec { return s.answer().with(func(s *spec) { s.ttl = 64 }) }
		t.Run("answered", func(t *testing.T) {
			for _, partial := range []bool{false, true} {
				b := newBed(t, podNet())
				s := echo(ip("a"), ip("router"), 4711).with(func(s *spec) { s.size, s.ttl, s.partial = 1200, 7, partial })
				b.pass("a", s, "a", reply(s))
				b.conns(0)
			}
		})
		t.Run("with parked payload", func(t *testing.T) {
			b := newBed(t, podNet())
			s := echo(ip("a"), ip("router"), 4711).with(func(s *spec) { s.size = 1200 })
			sent := b.receive(b.rx("a", s).parked(128))
			b.same(sent[0], "a", reply(s))
		})
		t.Run("from the host", func(t *testing.T) {
			b := newBed(t, podNet())
			s := echo(ip("world"), ip("router"), 1)
			b.pass("host", s, "host", reply(s))
		})
		t.Run("not against the sender's policy", func(t *testing.T) {
			b := newBed(t, podNet(policy("p", "a", isolateEgress)))
			b.drop("a", echo(ip("a"), ip("router"), 1), ReasonPolicyEgress)
		})
		t.Run("not from a spoofed source", func(t *testing.T) {
			b := newBed(t, podNet())
			b.drop("a", echo(ip("b"), ip("router"), 1), ReasonSpoofed)
		})
		t.Run("not where a port has the address", func(t *testing.T) {
			b := newBed(t, podNet(func(s *dataplanev1.Snapshot) { s.Ports[3].Addresses = []string{"10.0.0.254", "fd00::fe"} }))
			s := echo(ip("a"), ip("router"), 1)
			b.forward("a", s, "host")
			b.forward("host", s.answer(), "a")
		})
		t.Run("nothing but echo", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("router"))
			b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
			b.drop("a", echo(ip("a"), ip("router"), 1).answer().with(func(s *spec) { s.src, s.dst = s.dst, s.src }), ReasonNoConnection)
		})
	})
}

// TestRelatedErrors: ICMP errors from elsewhere about packets of known flows.
func TestRelatedErrors(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		s := udp(ip("a"), ip("b"))
		t.Run("from the receiver", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", s, "b")
			b.forward("b", errorFrom(ip("b"), ip("a"), s.hop(), packet.PortUnreachable), "a")
		})
		t.Run("from the opener about an answer", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", s, "b")
			b.forward("a", errorFrom(ip("a"), ip("b"), s.answer().hop(), packet.PortUnreachable), "b")
		})
		t.Run("about an echo request and a reply", func(t *testing.T) {
			b := newBed(t, podNet())
			e := echo(ip("a"), ip("b"), 5)
			b.forward("a", e, "b")
			b.forward("b", errorFrom(ip("b"), ip("a"), e.hop(), packet.PortUnreachable), "a")
			b.forward("a", errorFrom(ip("a"), ip("b"), e.answer().hop(), packet.PortUnreachable), "b")
		})
		t.Run("from a router in the world", func(t *testing.T) {
			b := newBed(t, podNet())
			out := tcp(ip("a"), ip("world"), packet.TCPSyn)
			b.forward("a", out, "host")
			router := "203.0.113.9"
			if !v4(ip("a")) {
				router = "2001:db8:9::9"
			}
			b.forward("host", errorFrom(router, ip("a"), out.hop(), packet.TimeExceeded), "a")
		})
		t.Run("policy has no say: the flow was let in", func(t *testing.T) {
			b := newBed(t, podNet(sets, policy("p", "a", isolateIngress), policy("q", "b", isolateEgress)))
			b.forward("a", s, "b")
			b.forward("b", errorFrom(ip("b"), ip("a"), s.hop(), packet.PortUnreachable), "a")
		})
		t.Run("it does not keep the flow alive or count as its packet", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", s, "b")
			before := b.connOf(s)
			b.now += 10 * time.Second
			b.forward("b", errorFrom(ip("b"), ip("a"), s.hop(), packet.PortUnreachable), "a")
			if after := b.connOf(s); *after != *before {
				t.Errorf("connection %+v before, %+v after", before, after)
			}
		})
		t.Run("unrelated ones are dropped", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", s, "b")
			for _, quoted := range []spec{
				s.with(func(s *spec) { s.dport++ }), tcp(ip("a"), ip("b"), packet.TCPSyn), udp(ip("c"), ip("b")),
			} {
				b.drop("b", errorFrom(ip("b"), ip("a"), quoted, packet.PortUnreachable), ReasonUnrelatedICMP)
			}
		})
		t.Run("from the wrong side", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", s, "b")
			b.drop("c", errorFrom(ip("c"), ip("a"), s.hop(), packet.PortUnreachable), ReasonSpoofed)
			b.drop("host", errorFrom(ip("world"), ip("a"), s.hop(), packet.PortUnreachable), ReasonSpoofed)
			b.drop("a", errorFrom(ip("a"), ip("b"), s.hop(), packet.PortUnreachable), ReasonSpoofed)
			b.drop("b", errorFrom(ip("b"), ip("a"), s.answer(), packet.PortUnreachable), ReasonSpoofed)
		})
		t.Run("that quote too little", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", s, "b")
			e := errorFrom(ip("b"), ip("a"), s.hop(), packet.PortUnreachable)
			e.data = e.data[:len(e.data)-24] // 4 bytes of the UDP header
			b.drop("b", e, Reason(packet.NoInner))
			e.data = []byte{}
			b.drop("b", e, Reason(packet.NoInner))
		})
		t.Run("that quote an error, or a later fragment", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", s, "b")
			b.drop("b", errorFrom(ip("b"), ip("a"), errorFrom(ip("a"), ip("b"), s, packet.PortUnreachable), packet.TimeExceeded), Reason(packet.NoInner))
			b.drop("b", errorFrom(ip("b"), ip("a"), s.with(func(s *spec) { s.off, s.id = 64, 1 }), packet.TimeExceeded), Reason(packet.NoInner))
		})
		t.Run("after a change of configuration", func(t *testing.T) {
			b := newBed(t, podNet())
			b.forward("a", s, "b")
			b.apply(podNet())
			b.forward("b", errorFrom(ip("b"), ip("a"), s.hop(), packet.PortUnreachable), "a")
			b.apply(podNet(policy("p", "a", isolateEgress)))
			b.drop("b", errorFrom(ip("b"), ip("a"), s.hop(), packet.PortUnreachable), ReasonPolicyEgress)
			b.drop("b", errorFrom(ip("b"), ip("a"), s.hop(), packet.PortUnreachable), ReasonPolicyEgress)
		})
		t.Run("larger than the way takes", func(t *testing.T) {
			b := newBed(t, podNet(func(s *dataplanev1.Snapshot) { s.Ports[1].Mtu = 9000 }))
			b.forward("a", s, "b")
			e := errorFrom(ip("b"), ip("a"), s.hop(), packet.PortUnreachable)
			e.data = append(e.data, make([]byte, 1500)...)
			b.drop("b", e, ReasonTooBig)
		})
	})
}

// TestErrorsUnderNAT: what a quote says is what the receiver of the error has sent.
func TestErrorsUnderNAT(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		router := "203.0.113.9"
		if !v4(ip("a")) {
			router = "2001:db8:9::9"
		}
		for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP} {
			s := spec{src: ip("a"), dst: ip("svc"), proto: proto, sport: 40000, dport: 80, size: 40, tcp: packet.TCPSyn}
			at := s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 }) // as the backend sees it
			t.Run("about a request to a service", func(t *testing.T) {
				b := newBed(t, podNet(services))
				b.pass("a", s, "b", at)
				got := b.pass("b", errorFrom(ip("b"), ip("a"), at, packet.PortUnreachable), "a",
					errorFrom(ip("svc"), ip("a"), s.hop(), packet.PortUnreachable).hop())
				b.checkQuote(got.Data)
			})
			t.Run("about a backend's answer", func(t *testing.T) {
				b := newBed(t, podNet(services))
				b.pass("a", s, "b", at)
				answer := at.answer()
				seen := answer.with(func(s *spec) { s.src, s.sport = ip("svc"), 80 }).hop()
				b.pass("b", answer, "a", seen)
				b.pass("a", errorFrom(ip("a"), ip("svc"), seen, packet.PortUnreachable), "b",
					errorFrom(ip("a"), ip("b"), answer.hop(), packet.PortUnreachable).hop())
			})
			out := s.with(func(s *spec) { s.dst = ip("world") })
			masked := out.hop().with(func(s *spec) { s.src = ip("snat") })
			t.Run("about a masqueraded request, from its receiver", func(t *testing.T) {
				b := newBed(t, podNet(masquerade))
				b.pass("a", out, "host", masked)
				b.pass("host", errorFrom(ip("world"), ip("snat"), masked, packet.PortUnreachable), "a",
					errorFrom(ip("world"), ip("a"), out.hop(), packet.PortUnreachable).hop())
			})
			t.Run("about a masqueraded request, from a router", func(t *testing.T) {
				b := newBed(t, podNet(masquerade))
				b.pass("a", out, "host", masked)
				b.pass("host", errorFrom(router, ip("snat"), masked, packet.TimeExceeded), "a",
					errorFrom(router, ip("a"), out.hop(), packet.TimeExceeded).hop())
			})
			t.Run("about the world's answer", func(t *testing.T) {
				b := newBed(t, podNet(masquerade))
				b.pass("a", out, "host", masked)
				answer := masked.answer()
				seen := answer.with(func(s *spec) { s.dst = ip("a") }).hop()
				b.pass("host", answer, "a", seen)
				b.pass("a", errorFrom(ip("a"), ip("world"), seen, packet.PortUnreachable), "host",
					errorFrom(ip("snat"), ip("world"), answer.hop(), packet.PortUnreachable).hop())
			})
		}
		t.Run("about a masqueraded echo request with another identifier", func(t *testing.T) {
			b := newBed(t, podNet(masquerade))
			one, two := echo(ip("a"), ip("world"), 9), echo(ip("b"), ip("world"), 9)
			b.pass("a", one, "host", one.hop().with(func(s *spec) { s.src = ip("snat") }))
			sent := b.send("b", two)
			id := echoID(sent[0].Data)
			if id == 9 {
				t.Fatal("both have the same identifier")
			}
			masked := two.hop().with(func(s *spec) { s.src, s.sport = ip("snat"), id })
			b.same(sent[0], "host", masked)
			b.pass("host", errorFrom(router, ip("snat"), masked, packet.TimeExceeded), "b",
				errorFrom(router, ip("b"), two.hop(), packet.TimeExceeded).hop())
		})
		t.Run("with the ICMP checksum partial", func(t *testing.T) {
			b := newBed(t, podNet(services))
			s := udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport = 80 })
			at := s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
			b.pass("a", s, "b", at)
			partial := func(s *spec) { s.partial = true }
			b.pass("b", errorFrom(ip("b"), ip("a"), at, packet.PortUnreachable).with(partial), "a",
				errorFrom(ip("svc"), ip("a"), s.hop(), packet.PortUnreachable).hop().with(partial))
		})
		t.Run("with the quoted checksum missing", func(t *testing.T) {
			b := newBed(t, podNet(services))
			s := udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport, s.noSum = 80, true })
			at := s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
			b.pass("a", s, "b", at)
			b.pass("b", errorFrom(ip("b"), ip("a"), at, packet.PortUnreachable), "a",
				errorFrom(ip("svc"), ip("a"), s.hop(), packet.PortUnreachable).hop())
		})
	})
}

// masquerade hides pods behind one address from all but pods.
func masquerade(s *dataplanev1.Snapshot) {
	s.SourceNats = []*dataplanev1.SourceNat{
		{Name: "masq4", Source: "10.0.0.0/24", DestinationsExcept: []string{"10.0.0.0/8"}, Addresses: []string{"192.0.2.1"}},
		{Name: "masq6", Source: "fd00::/64", DestinationsExcept: []string{"fd00::/16"}, Addresses: []string{"2001:db8:1::1"}},
	}
}

// echoID is the identifier of an echo request or reply.
func echoID(data []byte) uint16 {
	off := 20
	if data[0]>>4 == 6 {
		off = 40
	}
	return binary.BigEndian.Uint16(data[off+4:])
}

// checkQuote verifies the checksums of the packet that an ICMP error quotes whole.
func (b *bed) checkQuote(data []byte) {
	b.Helper()
	var info packet.Info
	var inner packet.Inner
	if r := packet.Parse(data, len(data), &info); r != packet.OK {
		b.Fatalf("parse: %s", r)
	}
	if r := packet.ParseInner(data, &info, &inner); r != packet.OK {
		b.Fatalf("parse the quoted packet: %s", r)
	}
	quote := data[inner.Off:]
	if r := packet.Parse(quote, len(quote), &info); r != packet.OK {
		b.Fatalf("the quoted packet: %s", r)
	}
	if sum, ok := packet.L4Checksum(quote, &info); ok {
		at := map[uint8]int{packet.ProtoUDP: 6, packet.ProtoTCP: 16}[info.Proto]
		if got := binary.BigEndian.Uint16(quote[int(info.L4Off)+at:]); got != sum {
			b.Errorf("the quoted packet's checksum is %#x, want %#x", got, sum)
		}
	}
}

// TestParkedError: an ICMP error of which the device keeps the end.
func TestParkedError(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		b := newBed(t, podNet(services))
		s := udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport, s.size = 80, 400 })
		at := s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
		b.pass("a", s, "b", at)
		sent := b.receive(b.rx("b", errorFrom(ip("b"), ip("a"), at, packet.PortUnreachable)).parked(abi.ParkCopyMin))
		b.same(sent[0], "a", errorFrom(ip("svc"), ip("a"), s.hop(), packet.PortUnreachable).hop())
		rx := b.rx("b", errorFrom(ip("b"), ip("a"), at, packet.PortUnreachable)).parked(50)
		if sent := b.dropped(rx, Reason(packet.Truncated)); len(sent) != 0 {
			t.Error("sent")
		}
	})
}
