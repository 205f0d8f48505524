// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

const testVNI = 0x4e4554

// tunnels adds two other nodes with pods to a bed; the second one is reached over
// IPv6.
//
//	this node 192.0.2.1, 2001:db8:2::1 ── host ──┬── n2 192.0.2.2: 10.1.0.0/16, fd00:1::/64
//	                                             └── n3 2001:db8:2::3: 10.2.0.0/16, fd00:2::/64
func tunnels(s *dataplanev1.Snapshot) {
	s.Settings.Vxlan = &dataplanev1.Vxlan{
		Port: "host", Vni: testVNI, Ipv4: "192.0.2.1", Ipv6: "2001:db8:2::1", ReceivedIpv4: "10.0.0.252",
	}
	s.Settings.HostAddresses = append(s.Settings.HostAddresses, "192.0.2.1", "2001:db8:2::1")
	s.Ports = append(s.Ports,
		&dataplanev1.Port{Name: "n2", Kind: dataplanev1.Port_TUNNEL, Remote: "192.0.2.2", Mtu: 1450, Addresses: []string{"192.0.2.2", "2001:db8:2::2"}},
		&dataplanev1.Port{Name: "n3", Kind: dataplanev1.Port_TUNNEL, Remote: "2001:db8:2::3", Mtu: 1430, Addresses: []string{"2001:db8:2::3"}})
	s.Routes = append(s.Routes,
		&dataplanev1.Route{Prefix: "10.1.0.0/16", Port: "n2"}, &dataplanev1.Route{Prefix: "fd00:1::/64", Port: "n2"},
		&dataplanev1.Route{Prefix: "10.2.0.0/16", Port: "n3"}, &dataplanev1.Route{Prefix: "fd00:2::/64", Port: "n3"})
}

// inTunnel is s as another node sends it. IPv4 comes with the destination that the
// host has given it.
func inTunnel(src, dst string, s spec) spec {
	inner := s.bytes()
	data := make([]byte, 8+14, 8+14+len(inner))
	data[0] = 8
	binary.BigEndian.PutUint32(data[4:], testVNI<<8)
	copy(data[8:], "\x02dest\x00\x02from\x00")
	binary.BigEndian.PutUint16(data[20:], 0x0800)
	if inner[0]>>4 == 6 {
		binary.BigEndian.PutUint16(data[20:], 0x86dd)
	}
	if dst == "192.0.2.1" {
		dst = "10.0.0.252"
	}
	return spec{src: src, dst: dst, sport: 50000, dport: packet.VXLANPort, noSum: true, data: append(data, inner...)}
}

// ends are the addresses of the two ends of the tunnel to a node.
func ends(node string) (here, there string) {
	if node == "n2" {
		return "192.0.2.1", "192.0.2.2"
	}
	return "2001:db8:2::1", "2001:db8:2::3"
}

// rxIn makes a packet that comes in a tunnel.
func (b *bed) rxIn(node string, s spec) received {
	b.Helper()
	here, there := ends(node)
	outer := inTunnel(there, here, s)
	rx := b.rx("host", outer)
	rx.Tune = func(nb *abi.Nbuf) {
		s.tune(nb)
		if nb.Flags&abi.NbCsumPartial != 0 {
			nb.CsumStart += uint16(len(outer.bytes()) - len(s.bytes()))
		}
	}
	return rx
}

// unwrap takes the outer headers from a packet that was sent to a node. They are
// read by another program.
func (b *bed) unwrap(p memdev.Packet, node string) memdev.Packet {
	b.Helper()
	here, there := ends(node)
	kind := gopacket.LayerType(layers.LayerTypeIPv4)
	if p.Data[0]>>4 == 6 {
		kind = layers.LayerTypeIPv6
	}
	outer := gopacket.NewPacket(p.Data, kind, gopacket.Default)
	udp, _ := outer.Layer(layers.LayerTypeUDP).(*layers.UDP)
	vxlan, _ := outer.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
	if p.Port != b.port("host") || udp == nil || vxlan == nil {
		b.Fatalf("sent to port %d: %s", p.Port, outer)
	}
	flow := outer.NetworkLayer().NetworkFlow()
	if flow.Src().String() != here || flow.Dst().String() != there || udp.DstPort != 4789 || udp.SrcPort < 49152 || udp.Checksum != 0 ||
		vxlan.VNI != testVNI || !vxlan.ValidIDFlag || int(udp.Length) != len(udp.Payload)+8 {
		b.Errorf("outer headers: %s", outer)
	}
	if ip, ok := outer.NetworkLayer().(*layers.IPv4); ok {
		if int(ip.Length) != len(p.Data) || foldSum(onesSum(p.Data[:20])) != 0xffff {
			b.Errorf("IPv4 header: %s", outer)
		}
	} else if ip := outer.NetworkLayer().(*layers.IPv6); int(ip.Length) != len(p.Data)-40 {
		b.Errorf("IPv6 header: %s", outer)
	}
	n := len(p.Data) - len(vxlan.Payload) + 14
	if int(p.Nbuf.Encap) != n {
		b.Errorf("the nbuf says %d bytes of tunnel headers, want %d", p.Nbuf.Encap, n)
	}
	p.Data = p.Data[n:]
	if p.Nbuf.Flags&abi.NbCsumPartial != 0 {
		p.Nbuf.CsumStart -= uint16(n)
	}
	return p
}

// out sends a packet and wants it in the tunnel to a node.
func (b *bed) out(from string, s spec, node string, want spec) {
	b.Helper()
	b.one(b.rx(from, s), func(p memdev.Packet) { b.same(b.unwrap(p, node), "host", want) })
}

// in has a packet come in the tunnel from a node, and wants it at a port.
func (b *bed) in(node string, s spec, to string, want spec) {
	b.Helper()
	b.one(b.rxIn(node, s), func(p memdev.Packet) { b.same(p, to, want) })
}

// one lets a packet in and wants one to come out.
func (b *bed) one(rx received, check func(memdev.Packet)) {
	b.Helper()
	before := b.total()
	sent := b.receive(rx)
	if r := b.reasons(before); len(r) != 0 || len(sent) != 1 {
		b.Fatalf("%d packets came out, dropped for %q", len(sent), r)
	}
	check(sent[0])
}

// tunnelFamilies runs a test for each inner and outer IP version.
func tunnelFamilies(t *testing.T, f func(t *testing.T, node, pod, remote string)) {
	for node, remote := range map[string][2]string{"n2": {"10.1.0.5", "fd00:1::5"}, "n3": {"10.2.0.5", "fd00:2::5"}} {
		t.Run(node+" ipv4", func(t *testing.T) { f(t, node, "10.0.0.1", remote[0]) })
		t.Run(node+" ipv6", func(t *testing.T) { f(t, node, "fd00::1", remote[1]) })
	}
}

// TestTunnel: a connection to a pod of another node, first packets and later ones,
// by every way through the worker.
func TestTunnel(t *testing.T) {
	tunnelFamilies(t, func(t *testing.T, node, pod, remote string) {
		for _, partial := range []bool{false, true} {
			t.Run(fmt.Sprintf("partial=%v", partial), func(t *testing.T) {
				b := newBed(t, podNet(tunnels))
				syn := tcp(pod, remote, packet.TCPSyn).with(func(s *spec) { s.partial = partial })
				ack := tcp(pod, remote, packet.TCPAck).with(func(s *spec) { s.partial, s.size = partial, 700 })
				b.out("a", syn, node, syn.hop())
				back := syn.answer().with(func(s *spec) { s.tcp = packet.TCPSyn | packet.TCPAck })
				b.in(node, back, "a", back.hop())
				for range 3 {
					b.out("a", ack, node, ack.hop())
					b.in(node, ack.answer(), "a", ack.answer().hop())
				}
				b.conns(1)
				slow := b.w.Stats.SlowPath
				b.out("a", ack, node, ack.hop())
				b.in(node, ack.answer(), "a", ack.answer().hop())
				if b.w.Stats.SlowPath != slow {
					t.Error("packets of a known flow take the slow path")
				}
				b.apply(b.f.Snapshot())
				b.out("a", ack, node, ack.hop())
				b.in(node, ack.answer(), "a", ack.answer().hop())
			})
		}
		t.Run("from there", func(t *testing.T) {
			b := newBed(t, podNet(tunnels))
			s := udp(remote, pod)
			b.in(node, s, "a", s.hop())
			b.out("a", s.answer(), node, s.answer().hop())
		})
		t.Run("ping", func(t *testing.T) {
			b := newBed(t, podNet(tunnels))
			s := echo(pod, remote, 7)
			b.out("a", s, node, s.hop())
			b.in(node, s.answer(), "a", s.answer().hop())
		})
	})
}

// TestTunnelGSO: what the pod's kernel left unsegmented goes on like that, and the
// device is told where the inner packet is.
func TestTunnelGSO(t *testing.T) {
	tunnelFamilies(t, func(t *testing.T, node, pod, remote string) {
		b := newBed(t, podNet(tunnels))
		s := tcp(pod, remote, packet.TCPAck).with(func(s *spec) { s.partial, s.size = true, 30_000 })
		kind := uint8(abi.GSOTCPv4)
		if !v4(pod) {
			kind = abi.GSOTCPv6
		}
		// As little and as much in the nbuf as devices put there.
		for _, n := range []int{abi.ParkCopyMin, abi.NbufFill, abi.ParkCopyMin} {
			b.one(b.rx("a", s).parked(n).gso(kind, 1300), func(p memdev.Packet) {
				b.same(b.unwrap(p, node), "host", s.hop())
				if p.Nbuf.GSOType != kind || p.Nbuf.GSOSize != 1300 {
					t.Errorf("sent as GSO type %d, size %d", p.Nbuf.GSOType, p.Nbuf.GSOSize)
				}
			})
		}
	})
}

// TestTunnelHeadroom: an nbuf without room for the headers has its packet moved.
func TestTunnelHeadroom(t *testing.T) {
	tunnelFamilies(t, func(t *testing.T, node, pod, remote string) {
		b := newBed(t, podNet(tunnels))
		s := udp(pod, remote)
		for _, size := range []int{100, 1300} {
			for _, off := range []uint16{abi.NbufHdr, abi.NbufHdr + 1, abi.NbufData} {
				s := s.with(func(s *spec) { s.size = size })
				data := s.bytes()
				idx := b.lay("a", data, abi.NbufRoom)[0]
				copy(b.dev.Area().NbufBytes(idx)[off:], data)
				b.dev.Area().Nbuf(idx).Off = off
				b.dev.Publish(0, abi.Entry(abi.InRX, idx))
				b.settle()
				sent := b.dev.Sent()
				if len(sent) != 1 {
					t.Fatalf("%d packets came out", len(sent))
				}
				b.same(b.unwrap(sent[0], node), "host", s.hop())
			}
		}
	})
}

// TestTunnelSpoofed: a node may send what the routes to it are for, and nothing else.
func TestTunnelSpoofed(t *testing.T) {
	b := newBed(t, podNet(tunnels))
	for _, s := range []spec{
		udp("10.0.0.2", "10.0.0.1"),       // a pod of this node's
		udp("10.2.0.5", "10.0.0.1"),       // another node's
		udp("198.51.100.7", "10.0.0.1"),   // the world's
		udp("192.0.2.1", "10.0.0.1"),      // this node
		udp("10.0.0.254", "10.0.0.1"),     // the router
		udp("10.0.0.77", "10.0.0.1"),      // nobody's
		udp("fd00:2::5", "fd00::1"),       //
		udp("2001:db8:2::3", "fd00::1"),   // the other node itself
		udp("2001:db8:2::1", "fd00::1"),   //
		tcp("10.2.0.5", "10.0.0.1", 0x10), // not even an answer
	} {
		before := b.total()
		if sent := b.receive(b.rxIn("n2", s)); len(sent) != 0 {
			t.Errorf("%s to %s was sent on", s.src, s.dst)
		}
		if got := b.reasons(before); !slices.Equal(got, []string{"spoofed-source"}) {
			t.Errorf("%s to %s: dropped for %q", s.src, s.dst, got)
		}
	}
	if n := b.w.counters(b.port("n2")).Drops[ReasonSpoofed]; n != 10 {
		t.Errorf("%d drops were counted for the tunnel", n)
	}
	// And nobody answers a connection of another node's for it.
	s := udp("10.0.0.1", "10.1.0.5")
	b.out("a", s, "n2", s.hop())
	before := b.total()
	b.receive(b.rxIn("n3", s.answer()))
	if got := b.reasons(before); !slices.Equal(got, []string{"spoofed-source"}) {
		t.Errorf("answer from another node: dropped for %q", got)
	}
}

// TestTunnelMalformed: what is not a tunnel's packet is dropped as such, or is the
// host's like any other.
func TestTunnelMalformed(t *testing.T) {
	s := inTunnel("192.0.2.2", "192.0.2.1", udp("10.1.0.1", "10.0.0.1"))
	for name, change := range map[string]func(s *spec){
		"no VNI flag":             func(s *spec) { s.data[0] = 0 },
		"another VNI":             func(s *spec) { s.data[4]++ },
		"not IP":                  func(s *spec) { s.data[20] = 9 },
		"the other IP":            func(s *spec) { binary.BigEndian.PutUint16(s.data[20:], 0x86dd) },
		"nothing in it":           func(s *spec) { s.data = s.data[:22] },
		"half an IP header":       func(s *spec) { s.data = s.data[:22+19] },
		"not even a VXLAN header": func(s *spec) { s.data = s.data[:7] },
		"no bytes":                func(s *spec) { s.data = []byte{} },
		"inner packet cut off":    func(s *spec) { s.data = s.data[:len(s.data)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, podNet(tunnels))
			s := s.with(func(s *spec) { s.data = slices.Clone(s.data); change(s) })
			before := b.total()
			if sent := b.receive(b.rx("host", s)); len(sent) != 0 {
				t.Errorf("sent %s", describePacket(sent[0].Data))
			}
			if got := b.reasons(before); len(got) != 1 || got[0] != "tunnel-malformed" && got[0] != "bad-total-length" {
				t.Errorf("dropped for %q", got)
			}
		})
	}
	t.Run("merged", func(t *testing.T) {
		b := newBed(t, podNet(tunnels))
		b.dropped(b.rx("host", s).gso(abi.GSOUDPL4, 100), ReasonTunnelMalformed)
	})
	t.Run("from a pod", func(t *testing.T) {
		b := newBed(t, podNet(tunnels))
		own := s.with(func(s *spec) { s.src = "10.0.0.1" })
		b.refuse("a", own, ReasonNoRoute, icmpError(own, packet.NetUnreachable, 0))
		b.drop("a", s, ReasonSpoofed)
	})
	t.Run("to another port", func(t *testing.T) {
		b := newBed(t, podNet(tunnels))
		other := s.with(func(s *spec) { s.dport = 4790 })
		b.refuse("host", other, ReasonNoRoute, icmpError(other, packet.NetUnreachable, 0))
	})
	t.Run("without tunnels", func(t *testing.T) {
		b := newBed(t, podNet())
		b.refuse("host", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
	})
}

// TestTunnelHost: the host's own connections to other nodes' pods, and theirs to it.
func TestTunnelHost(t *testing.T) {
	b := newBed(t, podNet(tunnels))
	s := udp("192.0.2.1", "10.1.0.5")
	b.out("host", s, "n2", s.hop())
	b.in("n2", s.answer(), "host", s.answer().hop())
	there := udp("10.1.0.5", "192.0.2.1").with(func(s *spec) { s.sport = 7 })
	b.in("n2", there, "host", there.hop())
	b.out("host", there.answer(), "n2", there.answer().hop())
	node := udp("10.0.0.1", "192.0.2.2")
	b.out("a", node, "n2", node.hop())
	b.in("n2", node.answer(), "a", node.answer().hop())
}

// TestTunnelService: what host and tunnels bring for a backend on another node goes
// there with this node's address, so that it comes back; what the host sends itself
// has it already.
func TestTunnelService(t *testing.T) {
	tunnelFamilies(t, func(t *testing.T, node, pod, remote string) {
		svc, world, self, client := "10.96.0.1", "198.51.100.7", "192.0.2.1", "10.1.0.9"
		if !v4(pod) {
			svc, world, self, client = "fd00:96::1", "2001:db8::7", "2001:db8:2::1", "fd00:1::9"
		}
		elsewhere := eachService(func(n *dataplanev1.DestinationNat, ip func(v4, v6 string) string) {
			if v4(n.Address) == v4(remote) {
				n.Backends = []*dataplanev1.Backend{{Address: remote, Port: 8080}}
			}
		})
		b := newBed(t, podNet(services, elsewhere, serviceSource, tunnels))
		s := udp(world, svc).with(func(s *spec) { s.dport = 80 })
		at := s.with(func(s *spec) { s.src, s.dst, s.dport = self, remote, 8080 })
		for range 2 {
			b.out("host", s, node, at.hop())
			b.in(node, at.answer(), "host", s.answer().hop())
		}
		// With the same port, the node's own.
		b.send("host", s.with(func(s *spec) { s.src = self }))
		b.conns(2)

		// A pod of the node itself keeps its address.
		own := udp(pod, svc).with(func(s *spec) { s.dport = 80 })
		ownAt := own.with(func(s *spec) { s.dst, s.dport = remote, 8080 })
		b.out("a", own, node, ownAt.hop())
		b.in(node, ownAt.answer(), "a", own.answer().hop())

		// From n2, by this node, to the backend.
		far := udp(client, svc).with(func(s *spec) { s.dport, s.sport = 80, 41000 })
		farAt := far.with(func(s *spec) { s.src, s.dst, s.dport = self, remote, 8080 })
		b.one(b.rxIn("n2", far), func(p memdev.Packet) { b.same(b.unwrap(p, node), "host", farAt.hop()) })
		b.one(b.rxIn(node, farAt.answer()), func(p memdev.Packet) { b.same(b.unwrap(p, "n2"), "host", far.answer().hop()) })
	})
}

// TestTunnelMTU: the pod is told what fits into the tunnel.
func TestTunnelMTU(t *testing.T) {
	b := newBed(t, podNet(tunnels))
	s := udp("10.0.0.1", "10.1.0.5").with(func(s *spec) { s.size, s.df = 1450-28, true })
	b.out("a", s, "n2", s.hop())
	big := s.with(func(s *spec) { s.size++ })
	b.refuse("a", big, ReasonTooBig, icmpError(big, packet.PacketTooBig, 1450))
	six := udp("fd00::1", "fd00:2::5").with(func(s *spec) { s.size = 1430 - 48 + 1 })
	b.refuse("a", six, ReasonTooBig, icmpError(six, packet.PacketTooBig, 1430))
	// And the other node of an error about what it sent here.
	from := udp("10.1.0.5", "10.0.0.1").with(func(s *spec) { s.ttl = 1 })
	before := b.total()
	sent := b.receive(b.rxIn("n2", from))
	if got := b.reasons(before); !slices.Equal(got, []string{"ttl-expired"}) || len(sent) != 1 {
		t.Fatalf("%d packets came out, dropped for %q", len(sent), got)
	}
	b.same(b.unwrap(sent[0], "n2"), "host", icmpError(from, packet.TimeExceeded, 0))
	// Fragments of a packet that may be cut.
	if sent := b.receive(b.rx("a", big.with(func(s *spec) { s.df = false }))); len(sent) != 2 {
		t.Errorf("%d fragments", len(sent))
	} else {
		for _, p := range sent {
			if p = b.unwrap(p, "n2"); len(p.Data) > 1450 {
				t.Errorf("a fragment has %d bytes", len(p.Data))
			}
		}
	}
}

// TestTunnelECN holds both directions against the tables of RFC 6040.
func TestTunnelECN(t *testing.T) {
	const not, ect1, ect0, ce = 0, 1, 2, 3
	tunnelFamilies(t, func(t *testing.T, node, pod, remote string) {
		b := newBed(t, podNet(tunnels))
		for inner := range uint8(4) {
			s := udp(pod, remote).with(func(s *spec) { s.tos = 0xb8 | inner })
			b.one(b.rx("a", s), func(p memdev.Packet) {
				tos := p.Data[1]
				if p.Data[0]>>4 == 6 {
					tos = p.Data[0]<<4 | p.Data[1]>>4
				}
				if tos != inner {
					t.Errorf("inner ECN %d: outer traffic class %#x", inner, tos)
				}
				b.same(b.unwrap(p, node), "host", s.hop())
			})
			for outer := range uint8(4) {
				here, there := ends(node)
				back := s.answer()
				o := inTunnel(there, here, back).with(func(s *spec) { s.tos = outer })
				want := inner
				switch {
				case outer == ce && inner == not:
					b.dropped(b.rx("host", o), ReasonTunnelCongestion)
					continue
				case outer == ce, outer == ect1 && inner == ect0:
					want = outer
				}
				b.one(b.rx("host", o), func(p memdev.Packet) {
					b.same(p, "a", back.hop().with(func(s *spec) { s.tos = s.tos&^3 | want }))
				})
			}
		}
	})
}

// TestTunnelChanges: another address of a node's, another network, a node that goes
// and comes back.
func TestTunnelChanges(t *testing.T) {
	b := newBed(t, podNet(tunnels))
	s := udp("10.0.0.1", "10.1.0.5")
	b.out("a", s, "n2", s.hop())
	id := b.port("n2")
	if id < b.dev.Area().Header().PortMax {
		t.Errorf("the tunnel has the number %d of a device's port", id)
	}
	moved := podNet(tunnels, func(s *dataplanev1.Snapshot) { s.Ports[4].Remote = "192.0.2.22"; s.Ports[4].Addresses = nil })
	b.apply(moved)
	sent := b.send("a", s)
	if len(sent) != 1 || !bytes.Equal(sent[0].Data[16:20], []byte{192, 0, 2, 22}) {
		t.Errorf("after the node's address has changed: %v", sent)
	}
	b.dropped(b.rxIn("n2", s.answer()), ReasonTunnelEnd)
	b.apply(podNet(tunnels, func(s *dataplanev1.Snapshot) { s.Settings.Vxlan.Vni = 99 }))
	if sent := b.send("a", s); len(sent) != 1 || sent[0].Data[20+8+6] != 99 {
		t.Errorf("after the network has changed: %v", sent)
	}
	gone := podNet(tunnels, func(s *dataplanev1.Snapshot) {
		s.Ports, s.Routes = slices.Delete(s.Ports, 4, 5), slices.Delete(s.Routes, 4, 6)
	})
	b.apply(gone)
	s.sport++
	b.forward("a", s, "host") // as the world is reached
	b.apply(podNet(tunnels))
	s.sport++
	b.out("a", s, "n2", s.hop())
	states := b.apply(podNet())
	for _, st := range states {
		if st.Error != "" || !st.Up && st.Name == "n2" {
			t.Errorf("port %+v", st)
		}
	}
}
