// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// fragments cuts a packet as its sender does; each piece has n bytes of what
// follows the IP header, a multiple of 8.
func (s spec) fragments(n int) []spec {
	whole := s.l4()
	var list []spec
	for off := 0; off < len(whole); off += n {
		f := s
		f.off, f.data, f.mf = off, whole[off:min(off+n, len(whole))], off+n < len(whole)
		list = append(list, f)
	}
	return list
}

// piece is the i-th of fragments(n) of s; the first one is written as it is, not
// built anew.
type piece struct {
	spec
	raw []byte
}

// cut makes pieces of s with the identifier id.
func cut(s spec, id uint32, n int) []piece {
	s.id = id
	var list []piece
	for _, f := range s.fragments(n) {
		p := piece{spec: f}
		raw := f
		raw.off = max(raw.off, 8) // data is there as it is
		p.raw = raw.bytes()
		if f.off == 0 { // and the offset is not
			fix := f
			fix.proto = s.protocol()
			p.raw = rawFragment(s, f.data, f.mf)
		}
		list = append(list, p)
	}
	return list
}

// rawFragment is a first fragment with these bytes behind its IP headers.
func rawFragment(s spec, data []byte, more bool) []byte {
	s.data, s.off, s.mf = data, 8, more
	b := s.bytes()
	if s.is4() {
		hlen := int(b[0]&15) * 4
		b[7] = 0 // the offset's low byte; 8 bytes are 1
		b[10], b[11] = 0, 0
		sum := ^uint16(foldSum(onesSum(b[:hlen])))
		b[10], b[11] = byte(sum>>8), byte(sum)
		return b
	}
	at := 40 + len(s.ext)
	b[at+2], b[at+3] = 0, b[at+3]&1
	return b
}

// piece lets a piece in and wants it forwarded as want.
func (b *bed) piece(from string, p piece, to string, want piece) {
	b.Helper()
	before := b.total()
	sent := b.receive(received{memdev.Rx{Port: b.port(from), Data: p.raw}})
	if r := b.reasons(before); len(r) != 0 {
		b.Fatalf("dropped: %v", r)
	}
	if len(sent) != 1 || sent[0].Port != b.port(to) {
		b.Fatalf("%d packets came out, want one to %s", len(sent), to)
	}
	if string(sent[0].Data) != string(want.raw) {
		b.Errorf("sent %s\nwant %s", describePacket(sent[0].Data), describePacket(want.raw))
	}
}

// pieces lets all of a packet's pieces in and wants them forwarded as a packet
// want would be.
func (b *bed) pieces(from string, in []piece, to string, want []piece) {
	b.Helper()
	for i := range in {
		b.piece(from, in[i], to, want[i])
	}
}

func (b *bed) dropPiece(from string, p piece, r Reason) {
	b.Helper()
	if sent := b.dropped(received{memdev.Rx{Port: b.port(from), Data: p.raw}}, r); len(sent) != 0 {
		b.Fatalf("sent %s", describePacket(sent[0].Data))
	}
}

func TestFragments(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		s := udp(ip("a"), ip("b")).with(func(s *spec) { s.size = 3000 })
		t.Run("in order, both directions", func(t *testing.T) {
			b := newBed(t, podNet())
			b.pieces("a", cut(s, 1, 1400), "b", cut(s.hop(), 1, 1400))
			b.pieces("b", cut(s.answer(), 1, 1400), "a", cut(s.answer().hop(), 1, 1400))
			b.conns(1)
		})
		t.Run("of a large ping", func(t *testing.T) {
			b := newBed(t, podNet())
			e := echo(ip("a"), ip("b"), 3).with(func(s *spec) { s.size = 3000 })
			b.pieces("a", cut(e, 1, 1400), "b", cut(e.hop(), 1, 1400))
			b.pieces("b", cut(e.answer(), 1, 1400), "a", cut(e.answer().hop(), 1, 1400))
		})
		t.Run("of TCP and of a protocol without ports", func(t *testing.T) {
			b := newBed(t, podNet())
			for i, s := range []spec{tcp(ip("a"), ip("b"), packet.TCPAck), {src: ip("a"), dst: ip("b"), proto: 47}} {
				s.size = 2000
				b.pieces("a", cut(s, uint32(i), 1400), "b", cut(s.hop(), uint32(i), 1400))
			}
		})
		t.Run("the last before the middle", func(t *testing.T) {
			b := newBed(t, podNet())
			in, out := cut(s, 1, 1000), cut(s.hop(), 1, 1000)
			for _, i := range []int{0, 3, 1, 2} {
				b.piece("a", in[i], "b", out[i])
			}
		})
		t.Run("before the first", func(t *testing.T) {
			b := newBed(t, podNet())
			in, out := cut(s, 1, 1400), cut(s.hop(), 1, 1400)
			b.dropPiece("a", in[1], ReasonFragmentOrder)
			b.piece("a", in[0], "b", out[0])
			b.piece("a", in[1], "b", out[1])
			b.piece("a", in[1], "b", out[1]) // a duplicate
		})
		t.Run("of another packet", func(t *testing.T) {
			b := newBed(t, podNet())
			b.piece("a", cut(s, 1, 1400)[0], "b", cut(s.hop(), 1, 1400)[0])
			b.dropPiece("a", cut(s, 2, 1400)[1], ReasonFragmentOrder)
			b.dropPiece("a", cut(s.with(func(s *spec) { s.dst = ip("c") }), 1, 1400)[1], ReasonFragmentOrder)
		})
		t.Run("two packets at a time", func(t *testing.T) {
			b := newBed(t, podNet())
			o := s.with(func(s *spec) { s.dst = ip("c") })
			for i := range 3 {
				b.piece("a", cut(s, 1, 1400)[i], "b", cut(s.hop(), 1, 1400)[i])
				b.piece("a", cut(o, 1, 1400)[i], "c", cut(o.hop(), 1, 1400)[i])
			}
		})
		t.Run("too late", func(t *testing.T) {
			b := newBed(t, podNet())
			b.piece("a", cut(s, 1, 1400)[0], "b", cut(s.hop(), 1, 1400)[0])
			b.now += 10*time.Second - time.Millisecond
			b.piece("a", cut(s, 1, 1400)[1], "b", cut(s.hop(), 1, 1400)[1])
			b.now += time.Millisecond
			b.dropPiece("a", cut(s, 1, 1400)[2], ReasonFragmentOrder)
		})
		t.Run("what policy forbids stays out whole", func(t *testing.T) {
			b := newBed(t, podNet(policy("p", "b", isolateIngress)))
			b.dropPiece("a", cut(s, 1, 1400)[0], ReasonPolicyIngress)
			b.dropPiece("a", cut(s, 1, 1400)[1], ReasonFragmentOrder)
		})
		t.Run("through a change of configuration", func(t *testing.T) {
			b := newBed(t, podNet())
			b.piece("a", cut(s, 1, 1400)[0], "b", cut(s.hop(), 1, 1400)[0])
			b.apply(podNet())
			b.piece("a", cut(s, 1, 1400)[1], "b", cut(s.hop(), 1, 1400)[1])
			b.apply(podNet(policy("p", "b", isolateIngress)))
			b.dropPiece("a", cut(s, 1, 1400)[2], ReasonPolicyIngress)
			b.dropPiece("a", cut(s, 1, 1400)[2], ReasonPolicyIngress)
		})
		t.Run("after their connection is gone", func(t *testing.T) {
			b := newBed(t, podNet())
			b.piece("a", cut(s, 1, 1400)[0], "b", cut(s.hop(), 1, 1400)[0])
			for range 2 {
				b.w.conns.DeletePort(b.port("a"), 1)
				b.dropPiece("a", cut(s, 1, 1400)[1], ReasonFragmentOrder)
				b.forward("a", udp(ip("a"), ip("c")), "c") // takes its place in the table
			}
		})
		t.Run("to a service and back", func(t *testing.T) {
			b := newBed(t, podNet(services))
			s := s.with(func(s *spec) { s.dst, s.dport = ip("svc"), 80 })
			at := s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
			b.pieces("a", cut(s, 5, 1400), "b", cut(at, 5, 1400))
			answer := at.answer().with(func(s *spec) { s.ttl = 0 })
			b.pieces("b", cut(answer, 6, 1400), "a", cut(s.answer().hop(), 6, 1400))
		})
		t.Run("a TCP header cut in two is refused", func(t *testing.T) {
			b := newBed(t, podNet())
			s := tcp(ip("a"), ip("b"), packet.TCPSyn).with(func(s *spec) { s.size = 100 })
			b.dropPiece("a", cut(s, 1, 8)[0], Reason(packet.TinyFragment))
			if v4(ip("a")) {
				b.dropPiece("a", cut(s, 1, 8)[1], Reason(packet.TinyFragment))
			}
		})
		t.Run("SCTP's to a service on another port", func(t *testing.T) {
			b := newBed(t, podNet(func(s *dataplanev1.Snapshot) {
				services(s)
				for _, n := range s.DestinationNats {
					n.Protocol = packet.ProtoSCTP
				}
				s.DestinationNats = s.DestinationNats[:2]
			}))
			s := spec{src: ip("a"), dst: ip("svc"), proto: packet.ProtoSCTP, sport: 7, dport: 80, size: 2000}
			b.dropPiece("a", cut(s, 1, 1400)[0], ReasonFragmentNAT)
			b.dropPiece("a", cut(s, 1, 1400)[1], ReasonFragmentOrder)
			// Not fragmented it goes, with the right checksum.
			s.size = 1000
			b.pass("a", s, "b", s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 }))
		})
	})
	t.Run("IPv6 with extension headers inside", func(t *testing.T) {
		// The fragment header names destination options, which only the first has.
		b := newBed(t, podNet())
		first := spec{src: "fd00::1", dst: "fd00::2", proto: 60, id: 9}
		l4 := udp("fd00::1", "fd00::2").with(func(s *spec) { s.size = 500 }).l4()
		options := append([]byte{packet.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, l4...)
		var in, out []piece
		for _, ttl := range []int{64, 63} {
			first.ttl = ttl
			rest := first.with(func(s *spec) { s.off, s.data = 408, options[408:] })
			out = append(out, piece{raw: rawFragment(first, options[:408], true)}, piece{raw: rest.bytes()})
			if ttl == 64 {
				in, out = out, nil
			}
		}
		b.pieces("a", in, "b", out)
	})
	t.Run("an atomic IPv6 fragment is a whole packet", func(t *testing.T) {
		b := newBed(t, podNet())
		s := udp("fd00::1", "fd00::2").with(func(s *spec) { s.frag = true })
		b.forward("a", s, "b")
		b.forward("a", s, "b")
	})
}

// TestFragmentTable: how long the table of fragments lasts, and for whom.
func TestFragmentTable(t *testing.T) {
	many := func(s *dataplanev1.Snapshot) {
		for i := range 12 {
			s.Ports = append(s.Ports, &dataplanev1.Port{
				Name: fmt.Sprintf("p%d", i), Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: fmt.Sprintf("/run/netns/p%d", i),
				Addresses: []string{fmt.Sprintf("10.0.1.%d", i+1)},
			})
		}
	}
	s := udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.size = 2000 })
	t.Run("a sender is not limited in packets a second", func(t *testing.T) {
		b := newBed(t, podNet())
		for id := range uint32(5 * fragmentSlots) {
			b.blind = id%16 != 0
			b.pieces("a", cut(s, id, 1400), "b", cut(s.hop(), id, 1400))
		}
	})
	t.Run("unfinished packets push out the sender's own", func(t *testing.T) {
		b := newBed(t, podNet())
		for id := range uint32(3 * fragmentSlots) {
			b.blind = id%16 != 0
			b.piece("a", cut(s, id, 1400)[0], "b", cut(s.hop(), id, 1400)[0])
		}
		// Nobody else is kept out, and the newest are there.
		o := udp("10.0.0.3", "10.0.0.2").with(func(s *spec) { s.size = 2000 })
		for id := range uint32(100) {
			b.pieces("c", cut(o, id, 1400), "b", cut(o.hop(), id, 1400))
		}
		last := uint32(3*fragmentSlots - 1)
		b.piece("a", cut(s, last, 1400)[1], "b", cut(s.hop(), last, 1400)[1])
	})
	t.Run("who floods loses none but his own", func(t *testing.T) {
		b := newBed(t, podNet())
		o := udp("10.0.0.3", "10.0.0.2").with(func(s *spec) { s.size = 2000 })
		const mine = fragmentProbe // few against the whole table
		for id := range uint32(mine) {
			b.piece("c", cut(o, id<<8, 1400)[0], "b", cut(o.hop(), id<<8, 1400)[0])
		}
		for id := range uint32(3 * fragmentSlots) {
			b.piece("a", cut(s, id, 1400)[0], "b", cut(s.hop(), id, 1400)[0])
		}
		for id := range uint32(mine) {
			b.piece("c", cut(o, id<<8, 1400)[1], "b", cut(o.hop(), id<<8, 1400)[1])
		}
	})
	t.Run("full only when as many ports as places have one each", func(t *testing.T) {
		b := newBed(t, podNet(many))
		// Each port takes a place that another packet of c has as well.
		var info packet.Info
		target := cut(udp("10.0.0.3", "10.0.0.2").with(func(s *spec) { s.size = 2000 }), 1, 1400)
		packet.Parse(target[0].raw, len(target[0].raw), &info)
		for n := range fragmentProbe {
			want := b.w.frags.slot(&info, uint32(n))
			port := fmt.Sprintf("p%d", n)
			s := udp(fmt.Sprintf("10.0.1.%d", n+1), "10.0.0.2").with(func(s *spec) { s.size = 2000 })
			for id := uint32(0); !want.live || want.in != b.port(port); id++ {
				if id == 1<<16 {
					t.Fatal("no identifier falls on the place")
				}
				b.w.frags.forget(b.port(port))
				b.piece(port, cut(s, id, 1400)[0], "b", cut(s.hop(), id, 1400)[0])
			}
		}
		out := cut(udp("10.0.0.3", "10.0.0.2").with(func(s *spec) { s.size, s.ttl = 2000, 63 }), 1, 1400)
		b.dropPiece("c", target[0], ReasonFragmentFull)
		// A packet whose last fragment has passed gives way.
		e := b.w.frags.slot(&info, 3)
		last := udp("10.0.1.4", "10.0.0.2").with(func(s *spec) { s.size = 2000 })
		b.piece("p3", cut(last, e.id, 1400)[1], "b", cut(last.hop(), e.id, 1400)[1])
		b.pieces("c", target, "b", out)
		if e.in != b.port("c") {
			t.Error("another packet gave way")
		}
		b.w.frags.forget(b.port("c"))
		*e = fragment{live: true, in: 1 << 20, expires: b.w.ms + 10_000}
		b.dropPiece("c", target[0], ReasonFragmentFull)
		b.now += 11 * time.Second
		b.pieces("c", target, "b", out)
	})
}

// forget frees a port's entries.
func (f *fragments) forget(in uint32) {
	for i := range f.entries {
		if f.entries[i].in == in {
			f.entries[i] = fragment{}
		}
	}
}
