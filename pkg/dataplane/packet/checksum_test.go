// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// sameSum compares one's complement sums: 0 and 0xffff are the same number.
func sameSum(a, b uint16) bool { return a == b || a+b == 0xffff && (a == 0 || b == 0) }

func TestSumAgainstGolden(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	buf := randomBytes(r, 70000)
	for n := range 300 {
		for at := range 9 {
			if got, want := Sum(buf[at:at+n], 0), goldenSum(buf[at:at+n]); !sameSum(got, want) {
				t.Fatalf("%d bytes at %d: %#x, want %#x", n, at, got, want)
			}
		}
	}
	for _, fill := range [][]byte{buf, bytes.Repeat([]byte{0xff}, 70000), make([]byte, 70000)} {
		for _, n := range []int{0, 1, 7, 1500, 65535, 69999} {
			if got, want := Sum(fill[:n], 0), goldenSum(fill[:n]); !sameSum(got, want) {
				t.Fatalf("%d bytes: %#x, want %#x", n, got, want)
			}
		}
	}
	// In parts, with the first of them of even length.
	for range 2000 {
		n := r.IntN(200)
		k := r.IntN(n/2+1) &^ 1
		if got, want := Sum(buf[k:n], Sum(buf[:k], 0)), goldenSum(buf[:n]); !sameSum(got, want) {
			t.Fatalf("%d+%d bytes: %#x, want %#x", k, n-k, got, want)
		}
	}
	// A sum of anything but zeros is not zero, so that the checksum of a
	// right packet is the same however it is made.
	if Sum(bytes.Repeat([]byte{0xff}, 64), 0) != 0xffff || Sum([]byte{0xff, 0xfe, 0, 1}, 0) != 0xffff || Sum(nil, 0) != 0 {
		t.Error("zero is not canonical")
	}
}

var everyProto = []uint8{ProtoTCP, ProtoUDP, ProtoUDPLite, ProtoDCCP, ProtoSCTP, ProtoICMP, ProtoICMPv6}

// randomSpec is a packet of the protocol with random everything.
func randomSpec(r *rand.Rand, proto, family uint8) spec {
	s := spec{
		src: randomAddr(r, family).String(), dst: randomAddr(r, family).String(), proto: proto,
		sport: randomPort(r), dport: randomPort(r), payload: randomBytes(r, r.IntN(100)), ttl: uint8(2 + r.IntN(250)), tos: uint8(r.Uint32()),
	}
	switch proto {
	case ProtoICMP:
		s.dport = 8 << 8
	case ProtoICMPv6:
		s.dport = 128 << 8
	}
	return s
}

func families(proto uint8) []uint8 {
	switch proto {
	case ProtoICMP:
		return []uint8{IPv4}
	case ProtoICMPv6:
		return []uint8{IPv6}
	}
	return []uint8{IPv4, IPv6}
}

func TestL4ChecksumAgainstGolden(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, proto := range everyProto {
		for _, family := range families(proto) {
			for range 500 {
				b := randomSpec(r, proto, family).bytes()
				info := mustParse(t, b)
				if proto == ProtoSCTP {
					if got, want := SCTPChecksum(b[info.L4Off:]), goldenCRC32c(b[info.L4Off:]); got != want {
						t.Fatalf("SCTP: %#x, want %#x", got, want)
					}
					continue
				}
				got, ok := L4Checksum(b, &info)
				want := binary.BigEndian.Uint16(b[int(info.L4Off)+int(l4sums[proto].off):])
				if !ok || got != want {
					t.Fatalf("proto %d: %#x, want %#x", proto, got, want)
				}
			}
		}
	}
}

func TestL4ChecksumCoverage(t *testing.T) {
	payload := bytes.Repeat([]byte{0x5a, 0xa5, 1}, 8)
	lite := spec{src: a6, dst: b6, proto: ProtoUDPLite, payload: payload}.bytes()
	binary.BigEndian.PutUint16(lite[44:], 8) // header only
	dccp := spec{src: a6, dst: b6, proto: ProtoDCCP, payload: payload}.bytes()
	dccp[45] = 2 // header and four bytes
	udp := spec{src: a6, dst: b6, proto: ProtoUDP, payload: payload}.bytes()
	binary.BigEndian.PutUint16(udp[44:], 12) // the rest is UDP options
	for name, tt := range map[string]struct {
		b              []byte
		length, covers int
	}{
		"UDP-Lite": {lite, 32, 8}, "DCCP": {dccp, 36, 16}, "UDP": {udp, 12, 12},
	} {
		info := mustParse(t, tt.b)
		l4 := append([]byte{}, tt.b[40:40+tt.covers]...)
		l4[6], l4[7] = 0, 0
		want := ^goldenSum(append(goldenPseudo(info.Src.Netip(), info.Dst.Netip(), info.Proto, tt.length), l4...))
		if got, ok := L4Checksum(tt.b, &info); !ok || got != want {
			t.Errorf("%s: %#x, want %#x", name, got, want)
		}
	}
	info := mustParse(t, lite)
	if _, ok := L4Checksum(lite[:60], &info); ok {
		t.Error("sum of a packet that is not whole")
	}
}

func TestCompleteChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, proto := range []uint8{ProtoTCP, ProtoUDP, ProtoICMPv6} {
		for _, family := range families(proto) {
			for range 500 {
				b := randomSpec(r, proto, family).bytes()
				info := mustParse(t, b)
				d := l4sums[proto]
				binary.BigEndian.PutUint16(b[int(info.L4Off)+int(d.off):], PseudoSum(info.Src, info.Dst, proto, len(b)-int(info.L4Off)))
				if !info.IsPartial(info.L4Off, uint16(d.off)) || info.IsPartial(info.L4Off, 10) || info.IsPartial(0, uint16(d.off)) {
					t.Fatal("IsPartial is wrong")
				}
				if !CompleteChecksum(b, int(info.L4Off), int(d.off)) {
					t.Fatal("refused")
				}
				if proto == ProtoUDP {
					verify(t, b)
				} else if s := goldenSum(append(goldenPseudo(info.Src.Netip(), info.Dst.Netip(), proto, len(b)-int(info.L4Off)), b[info.L4Off:]...)); s != 0xffff {
					t.Fatalf("sum %#x", s)
				}
			}
		}
	}
	b := make([]byte, 10)
	for _, p := range [][2]int{{0, 9}, {9, 0}, {10, 0}, {11, 0}, {-1, 0}, {0, -1}, {1 << 40, 0}, {0, 1 << 62}} {
		if CompleteChecksum(b, p[0], p[1]) {
			t.Errorf("start %d, offset %d accepted", p[0], p[1])
		}
	}
}

func TestDecTTL(t *testing.T) {
	for ttl := 1; ttl < 256; ttl++ {
		for proto := range 256 {
			b := spec{src: a4, dst: b4, proto: 253, ttl: uint8(ttl), id: uint16(ttl * 257 * proto)}.bytes()
			b[9] = byte(proto)
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^goldenSum(b))
			DecTTL(b, &Info{Family: IPv4})
			if b[8] != byte(ttl-1) {
				t.Fatalf("TTL %d became %d", ttl, b[8])
			}
			got := binary.BigEndian.Uint16(b[10:])
			b[10], b[11] = 0, 0
			if want := ^goldenSum(b); got != want {
				t.Fatalf("TTL %d: %#x, want %#x", ttl, got, want)
			}
		}
	}
	b := spec{src: a6, dst: b6, proto: ProtoUDP, ttl: 9}.bytes()
	DecTTL(b, &Info{Family: IPv6})
	if b[7] != 8 {
		t.Errorf("hop limit %d", b[7])
	}
}

func TestSetDSCP(t *testing.T) {
	for _, s := range []spec{{src: a4, dst: b4, proto: ProtoUDP}, {src: a6, dst: b6, proto: ProtoUDP}} {
		for tos := range 256 {
			s.tos = uint8(tos)
			b := s.bytes()
			info := mustParse(t, b)
			SetDSCP(b, &info, 46)
			verify(t, b)
			if got := mustParse(t, b); got.TOS != 46<<2|uint8(tos)&3 || got != info {
				t.Fatalf("TOS %#x became %#x", tos, got.TOS)
			}
		}
	}
}
