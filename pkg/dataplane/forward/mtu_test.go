// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// narrow makes all ports wide but b.
func narrow(mtu uint32) func(*dataplanev1.Snapshot) {
	return func(s *dataplanev1.Snapshot) {
		for _, p := range s.Ports {
			p.Mtu = 9000
		}
		s.Ports[1].Mtu = mtu
	}
}

// sized is a packet of so many bytes in all.
func sized(s spec, total int) spec {
	s.size = 0
	s.size = total - len(s.bytes())
	return s
}

func TestMTU(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP, packet.ProtoICMP} {
			s := spec{src: ip("a"), dst: ip("b"), proto: proto, sport: 1, dport: 2, tcp: packet.TCPAck, df: true}
			if proto == packet.ProtoICMP {
				s = echo(ip("a"), ip("b"), 7).with(func(s *spec) { s.df = true })
			}
			for name, known := range map[string]bool{"first packet": false, "known flow": true} {
				t.Run(fmt.Sprintf("protocol %d, %s", proto, name), func(t *testing.T) {
					b := newBed(t, podNet(narrow(1400)))
					if known {
						b.forward("a", sized(s, 100), "b")
					}
					b.forward("a", sized(s, 1400), "b")
					big := sized(s, 1401)
					b.refuse("a", big, ReasonTooBig, icmpError(big, packet.PacketTooBig, 1400))
					// The other way is wide.
					if proto != packet.ProtoICMP {
						b.forward("b", sized(s.answer(), 1600), "a")
					}
				})
			}
		}
		t.Run("through NAT: the error is about the packet as it was sent", func(t *testing.T) {
			b := newBed(t, podNet(services, narrow(1400)))
			s := sized(udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport, s.df = 80, true }), 1401)
			b.refuse("a", s, ReasonTooBig, icmpError(s, packet.PacketTooBig, 1400))
		})
		t.Run("it may be told only so often", func(t *testing.T) {
			b := newBed(t, podNet(narrow(1400)))
			s := sized(udp(ip("a"), ip("b")).with(func(s *spec) { s.df = true }), 1401)
			answers := 0
			for range 2 * icmpBurst {
				answers += len(b.dropped(b.rx("a", s), ReasonTooBig))
			}
			if answers != icmpBurst {
				t.Errorf("%d answers, want %d", answers, icmpBurst)
			}
		})
	})
}

// TestGSO: packets of many segments go through as they are.
func TestGSO(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		kind := uint8(abi.GSOTCPv4)
		hdr := 40
		if !v4(ip("a")) {
			kind, hdr = abi.GSOTCPv6, 60
		}
		s := tcp(ip("a"), ip("b"), packet.TCPAck).with(func(s *spec) { s.size, s.partial = 60000, true })
		untouched := func(b *bed, got memdev.Packet, want received) {
			b.Helper()
			var nb abi.Nbuf
			want.Tune(&nb)
			if got.Nbuf.GSOType != nb.GSOType || got.Nbuf.GSOSize != nb.GSOSize || got.Nbuf.HdrLen != nb.HdrLen ||
				got.Nbuf.CsumStart != nb.CsumStart || got.Nbuf.CsumOffset != nb.CsumOffset {
				b.Errorf("offload fields %+v, want %+v", got.Nbuf, nb)
			}
		}
		for name, change := range map[string]func(*dataplanev1.Snapshot){"plain": nil, "through NAT": services} {
			t.Run("parked "+name, func(t *testing.T) {
				snap := podNet()
				in, out := s, s.hop()
				if change != nil {
					change(snap)
					in.dst = ip("svc")
					out.dport = 8080
				}
				b := newBed(t, snap)
				for range 3 {
					rx := b.rx("a", in).parked(abi.NbufRoom).gso(kind, 1500-hdr)
					sent := b.receive(rx)
					if len(sent) != 1 {
						t.Fatalf("%d packets came out, want one", len(sent))
					}
					b.same(sent[0], "b", out)
					untouched(b, sent[0], rx)
					if sent[0].Nbuf.Flags&abi.NbParked == 0 {
						t.Error("the packet is not parked any more")
					}
				}
			})
			t.Run("as a chain "+name, func(t *testing.T) {
				b := newBed(t, podNet())
				rx := b.rx("a", s).gso(kind, 1500-hdr)
				sent := b.receive(rx)
				b.same(sent[0], "b", s.hop())
				untouched(b, sent[0], rx)
			})
		}
		t.Run("a segment as large as the MTU and larger", func(t *testing.T) {
			for _, known := range []bool{false, true} {
				b := newBed(t, podNet(narrow(1400)))
				if known {
					b.forward("a", s.with(func(s *spec) { s.size = 1 }), "b")
				}
				if sent := b.receive(b.rx("a", s).parked(128).gso(kind, 1400-hdr)); len(sent) != 1 {
					t.Fatalf("%d packets came out, want one", len(sent))
				}
				sent := b.dropped(b.rx("a", s).parked(128).gso(kind, 1401-hdr), ReasonTooBig)
				if len(sent) != 1 {
					t.Fatalf("%d packets came out, want an ICMP error", len(sent))
				}
				want := icmpError(s, packet.PacketTooBig, 1400)
				want.data = s.bytes()[:128]
				b.same(sent[0], "a", want)
			}
		})
		t.Run("UDP segments", func(t *testing.T) {
			b := newBed(t, podNet(narrow(1400)))
			u := udp(ip("a"), ip("b")).with(func(s *spec) { s.size, s.partial = 20000, true })
			for range 2 {
				sent := b.receive(b.rx("a", u).parked(128).gso(abi.GSOUDPL4, 1200))
				b.same(sent[0], "b", u.hop())
			}
			if sent := b.dropped(b.rx("a", u).parked(128).gso(abi.GSOUDPL4, 1400), ReasonTooBig); len(sent) != 1 {
				t.Error("no ICMP error")
			}
		})
		t.Run("segments that may be cut are not", func(t *testing.T) {
			b := newBed(t, podNet(narrow(1280)))
			u := udp(ip("a"), ip("b")).with(func(s *spec) { s.size, s.partial = 1500, true })
			rx := b.rx("a", u).gso(abi.GSOUDPL4, 1300)
			if sent := b.dropped(rx, ReasonTooBig); len(sent) != 1 {
				t.Error("no ICMP error")
			}
		})
		t.Run("without a segment size it is one packet", func(t *testing.T) {
			for _, known := range []bool{false, true} {
				b := newBed(t, podNet(narrow(1400)))
				if known {
					b.forward("a", s.with(func(s *spec) { s.size = 1 }), "b")
				}
				b.dropped(b.rx("a", s.with(func(s *spec) { s.df = true })).parked(128).gso(kind, 0), ReasonTooBig)
			}
		})
	})
}

// TestCutting: an IPv4 packet that its sender allows to be cut is.
func TestCutting(t *testing.T) {
	// whole puts pieces together again.
	whole := func(b *bed, pieces []memdev.Packet, mtu int) []byte {
		b.Helper()
		var data []byte
		for i, p := range pieces {
			hlen := int(p.Data[0]&15) * 4
			field := binary.BigEndian.Uint16(p.Data[6:])
			if len(p.Data) > mtu || int(field&0x1fff)*8 != len(data) || (field&0x2000 != 0) != (i < len(pieces)-1) {
				b.Errorf("piece %d: %s", i, describePacket(p.Data))
			}
			if foldSum(onesSum(p.Data[:hlen])) != 0xffff {
				b.Errorf("piece %d: header checksum %s", i, describePacket(p.Data))
			}
			if p.Port != b.port("b") || p.Nbuf.Flags&abi.NbCsumPartial != 0 || p.Nbuf.GSOType != 0 {
				b.Errorf("piece %d: nbuf %+v", i, p.Nbuf)
			}
			data = append(data, p.Data[hlen:]...)
		}
		return data
	}
	for _, partial := range []bool{false, true} {
		for _, nat := range []bool{false, true} {
			for _, mtu := range []int{576, 1000, 1400} {
				t.Run(fmt.Sprintf("MTU %d, NAT %v, partial checksum %v", mtu, nat, partial), func(t *testing.T) {
					b := newBed(t, podNet(services, narrow(uint32(mtu)), func(s *dataplanev1.Snapshot) {
						s.Ports[1].Addresses = s.Ports[1].Addresses[:1] // IPv6 wants 1280
						s.DestinationNats = s.DestinationNats[:0]
						s.DestinationNats = append(s.DestinationNats, &dataplanev1.DestinationNat{Name: "svc", Address: "10.96.0.1", Protocol: 17, Port: 80, Backends: []*dataplanev1.Backend{{Address: "10.0.0.2", Port: 8080}}})
					}))
					s := udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.size, s.id, s.partial = 1600, 77, partial })
					want := s.with(func(s *spec) { s.partial = false })
					if nat {
						s.dst, s.dport = "10.96.0.1", 80
						want.dport = 8080
					}
					for range 2 {
						before := b.total()
						sent := b.send("a", s)
						if r := b.reasons(before); len(r) != 0 {
							t.Fatalf("dropped: %v", r)
						}
						if got := whole(b, sent, mtu); !bytes.Equal(got, want.l4()) {
							t.Errorf("put together %x\nwant %x", got, want.l4())
						}
						for _, p := range sent {
							if p.Data[8] != 63 || binary.BigEndian.Uint16(p.Data[4:]) != 77 || !bytes.Equal(p.Data[12:20], want.bytes()[12:20]) {
								t.Errorf("header of %s", describePacket(p.Data))
							}
						}
						if tx := b.total().TxPackets - before.TxPackets; int(tx) != len(sent) {
							t.Errorf("%d packets are counted, %d were sent", tx, len(sent))
						}
					}
				})
			}
		}
	}
	t.Run("a fragment is cut further", func(t *testing.T) {
		b := newBed(t, podNet(narrow(1280)))
		s := udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.size = 3000 })
		var sent []memdev.Packet
		for _, p := range cut(s, 5, 1600) {
			sent = append(sent, b.receive(received{memdev.Rx{Port: b.port("a"), Data: p.raw}})...)
		}
		if got := whole(b, sent, 1280); !bytes.Equal(got, s.l4()) {
			t.Errorf("put together %x\nwant %x", got, s.l4())
		}
	})
	t.Run("SCTP with a partial checksum", func(t *testing.T) {
		b := newBed(t, podNet(narrow(1280)))
		s := spec{src: "10.0.0.1", dst: "10.0.0.2", proto: packet.ProtoSCTP, sport: 1, dport: 2, size: 1500, partial: true}
		want := s.with(func(s *spec) { s.partial = false }).l4()
		if got := whole(b, b.send("a", s), 1280); !bytes.Equal(got, want) {
			t.Errorf("put together %x\nwant %x", got, want)
		}
	})
	s := sized(udp("10.0.0.1", "10.0.0.2"), 1500)
	t.Run("not what is parked or a chain", func(t *testing.T) {
		b := newBed(t, podNet(narrow(1400)))
		for _, rx := range []received{b.rx("a", s).parked(500), b.rx("a", s).in(500)} {
			if sent := b.dropped(rx, ReasonTooBig); len(sent) != 1 {
				t.Errorf("%d packets came out, want an ICMP error", len(sent))
			}
		}
	})
	t.Run("not without nbufs for the pieces", func(t *testing.T) {
		b := newBed(t, podNet(narrow(1400)))
		stock := b.w.stock
		b.w.stock, b.w.asked = stock[:2:2], 1
		if sent := b.dropped(b.rx("a", s), ReasonTooBig); len(sent) != 1 {
			t.Errorf("%d packets came out, want an ICMP error", len(sent))
		}
		b.w.stock, b.w.asked = append(b.w.stock, stock[2:]...), 0
	})
	t.Run("not IPv6", func(t *testing.T) {
		b := newBed(t, podNet(narrow(1400)))
		s := sized(udp("fd00::1", "fd00::2"), 1500)
		b.refuse("a", s, ReasonTooBig, icmpError(s, packet.PacketTooBig, 1400))
	})
	t.Run("not what claims a checksum that is not there", func(t *testing.T) {
		b := newBed(t, podNet(narrow(1400)))
		rx := b.rx("a", s)
		rx.Tune = func(nb *abi.Nbuf) { nb.Flags, nb.CsumStart, nb.CsumOffset = abi.NbCsumPartial, 1500, 16 }
		if sent := b.dropped(rx, Reason(packet.BadL4)); len(sent) != 0 {
			t.Error("sent")
		}
	})
}

// TestParked: every path has only the headers to work with.
func TestParked(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		for name, c := range map[string]struct {
			snap      *dataplanev1.Snapshot
			to        string
			s         spec
			translate func(*spec)
		}{
			"UDP":           {podNet(), "b", udp(ip("a"), ip("b")), func(*spec) {}},
			"TCP":           {podNet(), "b", tcp(ip("a"), ip("b"), packet.TCPAck), func(*spec) {}},
			"echo":          {podNet(), "b", echo(ip("a"), ip("b"), 1), func(*spec) {}},
			"SCTP":          {podNet(), "b", spec{src: ip("a"), dst: ip("b"), proto: packet.ProtoSCTP, sport: 1, dport: 2}, func(*spec) {}},
			"UDP and DNAT":  {podNet(services), "b", udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport = 80 }), func(s *spec) { s.dst, s.dport = ip("b"), 8080 }},
			"TCP and SNAT":  {podNet(masquerade), "host", tcp(ip("a"), ip("world"), packet.TCPAck), func(s *spec) { s.src = ip("snat") }},
			"echo and SNAT": {podNet(masquerade), "host", echo(ip("a"), ip("world"), 1), func(s *spec) { s.src = ip("snat") }},
		} {
			for _, partial := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, partial checksum %v", name, partial), func(t *testing.T) {
					b := newBed(t, c.snap)
					s := c.s.with(func(s *spec) { s.size, s.partial = 1300, partial })
					for range 3 {
						sent := b.receive(b.rx("a", s).parked(128))
						if len(sent) != 1 {
							t.Fatalf("%d packets came out, want one", len(sent))
						}
						b.same(sent[0], c.to, s.hop().with(c.translate))
						if sent[0].Nbuf.Flags&abi.NbParked == 0 || sent[0].Nbuf.Len != 128 {
							t.Error("the packet is not parked any more")
						}
					}
				})
			}
		}
		t.Run("dropped", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("b"), ip("a")).with(func(s *spec) { s.size = 1000 })
			if sent := b.dropped(b.rx("a", s).parked(128), ReasonSpoofed); len(sent) != 0 {
				t.Error("sent")
			}
		})
		t.Run("quoted as far as it is there", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("nobody")).with(func(s *spec) { s.size = 1000 })
			sent := b.dropped(b.rx("a", s).parked(100), ReasonNoRoute)
			want := icmpError(s, packet.NetUnreachable, 0)
			want.data = want.data[:100]
			b.same(sent[0], "a", want)
		})
		t.Run("less than the headers", func(t *testing.T) {
			b := newBed(t, podNet())
			for _, s := range []spec{udp(ip("a"), ip("b")), tcp(ip("a"), ip("b"), packet.TCPSyn)} {
				for n := 1; n < len(s.with(func(s *spec) { s.size = 0 }).bytes()); n++ {
					if sent := b.dropped(b.rx("a", s.with(func(s *spec) { s.size = 500 })).parked(n), Reason(packet.Truncated)); len(sent) != 0 {
						t.Error("sent")
					}
				}
			}
		})
	})
}
