// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// seeds are packets of every kind that the package tells apart.
func seeds(f *testing.F) {
	udp4 := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, payload: []byte("payload")}
	tcp6 := spec{src: a6, dst: b6, proto: ProtoTCP, sport: 1, dport: 2, flags: TCPSyn, payload: []byte("payload")}
	all := []spec{
		udp4, tcp6,
		{src: a4, dst: b4, proto: ProtoTCP, flags: TCPAck, options: []byte{0x94, 4, 0, 0}},
		{src: a4, dst: b4, proto: ProtoICMP, sport: 3, dport: 8 << 8, payload: make([]byte, 56)},
		{src: a6, dst: b6, proto: ProtoICMPv6, sport: 3, dport: 128 << 8},
		{src: a4, dst: b4, proto: ProtoSCTP, sport: 1, dport: 2, payload: make([]byte, 16)},
		{src: a4, dst: b4, proto: ProtoDCCP, sport: 1, dport: 2},
		{src: a6, dst: b6, proto: ProtoUDPLite, sport: 1, dport: 2},
		{src: a4, dst: b4, proto: ProtoUDP, fragField: 0x2000, payload: make([]byte, 16)},
		{src: a4, dst: b4, proto: ProtoUDP, fragField: 0x2002, rawL4: make([]byte, 16)},
		{src: a6, dst: b6, proto: ProtoUDP, extFirst: protoFragment, ext: []byte{ProtoUDP, 0, 0, 1, 1, 2, 3, 4}},
		{src: a6, dst: b6, proto: ProtoUDP, extFirst: protoHopByHop, ext: []byte{protoDestOpts, 0, 1, 4, 0, 0, 0, 0, ProtoUDP, 0, 1, 4, 0, 0, 0, 0}},
		{src: a6, dst: b6, proto: ProtoTCP, extFirst: ProtoAH, ext: []byte{protoRouting, 1, 0, 0, 0, 0, 0, 0, ProtoTCP, 0, 2, 1, 0, 0, 0, 0}},
		errorAbout("198.51.100.1", udp4.bytes(), 28),
		errorAbout("198.51.100.1", spec{src: a4, dst: b4, proto: ProtoICMP, sport: 3, dport: 8 << 8}.bytes(), 28),
		errorAbout("2001:db8:9::1", tcp6.bytes(), 67),
	}
	for _, s := range all {
		b := s.bytes()
		f.Add(b, uint16(0), uint16(1))
		f.Add(b, uint16(1400), uint16(0xffff))
	}
}

// FuzzParse gives Parse, and everything that works on what Parse has
// accepted, any bytes: nothing may panic or touch a byte outside the packet,
// and what gopacket accepts too has to be understood in the same way.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, parked, port uint16) {
		fixIPv4Checksum(b)
		b = bytes.Clone(b)
		b = b[:len(b):len(b)]
		total := len(b) + int(parked)
		var info Info
		if r := Parse(b, total, &info); r != OK {
			if r >= reasonCount {
				t.Fatalf("reason %d", r)
			}
			return
		}
		if int(info.HdrLen) > len(b) || info.L4Off > info.HdrLen || int(info.TotalLen) > total || int(info.HdrLen) > int(info.TotalLen) {
			t.Fatalf("impossible offsets: %+v, %d bytes of %d", info, len(b), total)
		}
		if info.IsFragment != (info.MoreFrags || info.FragOff != 0) || info.FragOff != 0 && (info.SrcPort|info.DstPort != 0) {
			t.Fatalf("fragment: %+v", info)
		}
		compareWithGopacket(t, b, &info)
		exercise(t, b, info, port)
	})
}

// fixIPv4Checksum lets the fuzzer get behind the first check.
func fixIPv4Checksum(b []byte) {
	if len(b) >= 20 && b[0]>>4 == 4 {
		if n := int(b[0]&15) * 4; n >= 20 && n <= len(b) {
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^goldenSum(b[:n]))
		}
	}
}

func compareWithGopacket(t *testing.T, b []byte, info *Info) {
	first := gopacket.LayerType(layers.LayerTypeIPv4)
	if info.Family == IPv6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b, first, gopacket.NoCopy)
	if p.ErrorLayer() != nil {
		return
	}
	var src, dst []byte
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		src, dst = ip.SrcIP.To4(), ip.DstIP.To4()
		if ip.TTL != info.TTL || ip.TOS != info.TOS || uint32(ip.Length) != info.TotalLen || uint8(ip.Protocol) != info.Proto || ip.FragOffset != info.FragOff/8 || uint32(ip.Id) != info.FragID {
			t.Fatalf("gopacket %+v\nInfo %+v", ip, info)
		}
	case *layers.IPv6:
		src, dst = ip.SrcIP, ip.DstIP
		if ip.HopLimit != info.TTL || ip.TrafficClass != info.TOS || uint32(ip.Length)+40 != info.TotalLen {
			t.Fatalf("gopacket %+v\nInfo %+v", ip, info)
		}
	default:
		return
	}
	if s, _ := netip.AddrFromSlice(src); AddrFrom(s) != info.Src {
		t.Fatalf("source %v, gopacket has %v", info.Src, s)
	}
	if d, _ := netip.AddrFromSlice(dst); AddrFrom(d) != info.Dst {
		t.Fatalf("destination %v, gopacket has %v", info.Dst, d)
	}
	var sport, dport uint16
	var proto uint8
	switch l4 := p.TransportLayer().(type) {
	case *layers.TCP:
		sport, dport, proto = uint16(l4.SrcPort), uint16(l4.DstPort), ProtoTCP
	case *layers.UDP:
		sport, dport, proto = uint16(l4.SrcPort), uint16(l4.DstPort), ProtoUDP
	case *layers.SCTP:
		sport, dport, proto = uint16(l4.SrcPort), uint16(l4.DstPort), ProtoSCTP
	default:
		return
	}
	if info.IsFragment {
		return // gopacket does not look into these
	}
	if sport != info.SrcPort || dport != info.DstPort || proto != info.Proto {
		t.Fatalf("gopacket has proto %d, ports %d and %d; Info %+v", proto, sport, dport, info)
	}
}

// exercise runs everything on a packet that Parse has accepted.
func exercise(t *testing.T, b []byte, info Info, port uint16) {
	fresh := func() ([]byte, Info) { c := bytes.Clone(b); return c[:len(c):len(c)], info }
	to := info.Tuple
	to.Src, to.Dst = to.Dst, to.Src
	to.SrcPort ^= port
	for _, partial := range []bool{false, true} {
		c, i := fresh()
		rw := NewRewrite(info.Tuple, to)
		rw.Apply(c, &i, partial)
		var again Info
		if r := Parse(c, int(info.TotalLen), &again); r != OK || again.Src != to.Src || again.Dst != to.Dst {
			t.Fatalf("rewritten packet is refused: %v, %+v", r, again)
		}
		if sum, ok := L4Checksum(b, &info); ok && !partial {
			at := int(info.L4Off) + int(l4sums[info.Proto].off)
			if binary.BigEndian.Uint16(b[at:]) == sum && !(info.Proto == ProtoUDPLite && !again.coversPorts(c)) {
				if want, _ := L4Checksum(c, &again); !sameSum(binary.BigEndian.Uint16(c[at:]), want) {
					t.Fatalf("checksum %x, want %#x", c[at:at+2], want)
				}
			}
		}
		c, i = fresh()
		EchoReply(c, &i, partial)
	}
	c, i := fresh()
	DecTTL(c, &i)
	SetDSCP(c, &i, uint8(port)&63)
	out := make([]byte, ErrorMaxLen6)
	for k := range errorKinds {
		n := BuildError(out, k, b, &info, info.Dst, uint32(port))
		var e Info
		if r := Parse(out[:n], n, &e); r != OK || !e.IsICMPError && k != errorKinds {
			t.Fatalf("error %d is refused: %v", k, r)
		}
	}
	if n := BuildReset(out, b, &info); n > 0 {
		verify(t, out[:n])
	}
	var scratch [60]byte
	FragmentIPv4(b, &info, int(port), &scratch, func(h, d []byte) {
		if len(h)+len(d) > int(port) {
			t.Fatalf("fragment of %d bytes with MTU %d", len(h)+len(d), port)
		}
	})
	var inner Inner
	c, i = fresh()
	if ParseInner(c, &i, &inner) == OK {
		RewriteError(c, &i, &inner, i.Dst, i.Src, inner.Reply(), false)
	}
}

// coversPorts: UDP-Lite may cover the header and less than all of the rest.
func (i *Info) coversPorts(b []byte) bool {
	n := binary.BigEndian.Uint16(b[i.L4Off+4:])
	return n == 0 || n >= 8
}

// FuzzParseInner wraps any bytes into an ICMP error.
func FuzzParseInner(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, quote []byte, parked, port uint16) {
		if len(quote) > 60000 {
			return
		}
		s := spec{src: "198.51.100.1", dst: a4, proto: ProtoICMP, dport: 3 << 8, payload: quote}
		if len(quote) > 0 && quote[0]>>4 == 6 {
			s = spec{src: "2001:db8:9::1", dst: a6, proto: ProtoICMPv6, dport: 1 << 8, payload: quote}
		}
		whole := s.bytes()
		var info Info
		b := bytes.Clone(whole)
		hdr := len(whole) - len(quote)
		b = b[:max(hdr, len(b)-int(parked))]
		b = b[:len(b):len(b)]
		if r := Parse(b, len(whole), &info); r != OK {
			t.Fatal(r)
		}
		var inner Inner
		if r := ParseInner(b, &info, &inner); r != OK {
			if r != NoInner && r != Truncated {
				t.Fatalf("reason %v", r)
			}
			return
		}
		if inner.Off != info.HdrLen || int(inner.L4Off)+int(inner.Avail) != len(b) || inner.L4Off < inner.Off+20 {
			t.Fatalf("impossible offsets: %+v, %d bytes", inner, len(b))
		}
		if !HasPorts(inner.Proto) && !l4sums[inner.Proto].id && inner.SrcPort|inner.DstPort != 0 {
			t.Fatalf("ports out of nowhere: %+v", inner)
		}
		to := inner.Tuple
		to.Src, to.Dst = to.Dst, to.Src
		to.SrcPort ^= port
		RewriteError(b, &info, &inner, info.Dst, info.Src, to, false)
		copy(whole, b)
		verify(t, whole) // the ICMP checksum was right and is right
		var again Inner
		if r := ParseInner(b, &info, &again); r != OK || again != inner {
			t.Fatalf("%v\n got %+v\nwant %+v", r, again, inner)
		}
	})
}
