// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// spec describes a packet to be made by hand, without the code under test.
type spec struct {
	src, dst     string
	proto        uint8
	sport, dport uint16 // ICMP: identifier; type<<8 | code
	flags        uint8  // TCP
	payload      []byte
	ttl, tos     uint8
	options      []byte // IPv4, padded by the caller
	ext          []byte // IPv6 extension headers; the first one's number:
	extFirst     uint8
	fragField    uint16 // IPv4 flags and offset
	id           uint16
	rawL4        []byte // instead of a header and payload
}

// bytes makes the packet with right checksums (golden ones).
func (s spec) bytes() []byte {
	src, dst := netip.MustParseAddr(s.src), netip.MustParseAddr(s.dst)
	l4 := s.l4(src, dst)
	if s.ttl == 0 {
		s.ttl = 64
	}
	if src.Is4() {
		h := make([]byte, 20+len(s.options))
		h[0] = 0x40 | byte(len(h)/4)
		h[1] = s.tos
		binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(l4)))
		binary.BigEndian.PutUint16(h[4:], s.id)
		binary.BigEndian.PutUint16(h[6:], s.fragField)
		h[8], h[9] = s.ttl, s.proto
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		copy(h[20:], s.options)
		binary.BigEndian.PutUint16(h[10:], ^goldenSum(h))
		return append(h, l4...)
	}
	h := make([]byte, 40)
	binary.BigEndian.PutUint32(h, 6<<28|uint32(s.tos)<<20)
	binary.BigEndian.PutUint16(h[4:], uint16(len(s.ext)+len(l4)))
	h[6], h[7] = s.proto, s.ttl
	if s.ext != nil {
		h[6] = s.extFirst
	}
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(append(h, s.ext...), l4...)
}

func (s spec) l4(src, dst netip.Addr) []byte {
	if s.rawL4 != nil {
		return s.rawL4
	}
	var h []byte
	switch s.proto {
	case ProtoTCP:
		h = make([]byte, 20)
		h[12], h[13] = 5<<4, s.flags
		binary.BigEndian.PutUint32(h[4:], 0x01020304)
		binary.BigEndian.PutUint32(h[8:], 0x0a0b0c0d)
	case ProtoUDP, ProtoUDPLite:
		h = make([]byte, 8)
		binary.BigEndian.PutUint16(h[4:], uint16(8+len(s.payload)))
	case ProtoDCCP:
		h = make([]byte, 12)
		h[4] = 3
	case ProtoSCTP:
		h = make([]byte, 12)
	case ProtoICMP, ProtoICMPv6:
		h = make([]byte, 8)
		binary.BigEndian.PutUint16(h, s.dport)
		binary.BigEndian.PutUint16(h[4:], s.sport)
		s.sport, s.dport = binary.BigEndian.Uint16(h), 0
	default:
		return s.payload
	}
	binary.BigEndian.PutUint16(h, s.sport)
	if HasPorts(s.proto) {
		binary.BigEndian.PutUint16(h[2:], s.dport)
	}
	b := append(h, s.payload...)
	switch s.proto {
	case ProtoSCTP:
		binary.LittleEndian.PutUint32(b[8:], goldenCRC32c(b))
	default:
		at := map[uint8]int{ProtoTCP: 16, ProtoUDP: 6, ProtoUDPLite: 6, ProtoDCCP: 6, ProtoICMP: 2, ProtoICMPv6: 2}[s.proto]
		binary.BigEndian.PutUint16(b[at:], goldenL4(src, dst, s.proto, b))
	}
	return b
}

// goldenSum is RFC 1071 word by word.
func goldenSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if s += w; s > 0xffff {
			s -= 0xffff
		}
	}
	return uint16(s)
}

// goldenL4 is the checksum of an L4 packet whose field is zero.
func goldenL4(src, dst netip.Addr, proto uint8, l4 []byte) uint16 {
	var pseudo []byte
	if proto != ProtoICMP {
		pseudo = goldenPseudo(src, dst, proto, len(l4))
	}
	c := ^goldenSum(append(pseudo, l4...))
	if c == 0 && proto == ProtoUDP {
		c = 0xffff
	}
	return c
}

func goldenPseudo(src, dst netip.Addr, proto uint8, n int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	return append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n), 0, 0, 0, proto)
}

// goldenCRC32c is RFC 9260 appendix A bit by bit, the field counted as zero.
func goldenCRC32c(b []byte) uint32 {
	c := ^uint32(0)
	for i, v := range b {
		if i >= 8 && i < 12 {
			v = 0
		}
		c ^= uint32(v)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0x82f63b78
			} else {
				c >>= 1
			}
		}
	}
	return ^c
}

func mustParse(t testing.TB, b []byte) Info {
	t.Helper()
	var info Info
	if r := Parse(b, len(b), &info); r != OK {
		t.Fatalf("Parse: %v\n% x", r, b)
	}
	return info
}

// verify checks every checksum of a whole packet by the golden code.
func verify(t testing.TB, b []byte) {
	t.Helper()
	info := mustParse(t, b)
	if info.Family == IPv4 {
		if s := goldenSum(b[:int(b[0]&15)*4]); s != 0xffff {
			t.Fatalf("IPv4 header checksum: sum %#x\n% x", s, b)
		}
	}
	if info.FragOff != 0 {
		return
	}
	l4 := append([]byte(nil), b[info.L4Off:info.TotalLen]...)
	at := int(l4sums[info.Proto].off)
	if info.Proto == ProtoSCTP {
		if got, want := binary.LittleEndian.Uint32(l4[8:]), goldenCRC32c(l4); got != want {
			t.Fatalf("SCTP checksum %#x, want %#x", got, want)
		}
		return
	}
	if !l4sums[info.Proto].has {
		return
	}
	got := binary.BigEndian.Uint16(l4[at:])
	if info.Proto == ProtoUDP && got == 0 {
		return
	}
	l4[at], l4[at+1] = 0, 0
	if want := goldenL4(info.Src.Netip(), info.Dst.Netip(), info.Proto, l4); got != want {
		t.Fatalf("L4 checksum %#x, want %#x\n% x", got, want, b)
	}
}

// An address drawn so that all-ones and all-zeros words come up often.
func randomAddr(r *rand.Rand, family uint8) netip.Addr {
	var b [16]byte
	for i := 0; i < 16; i += 2 {
		w := uint16(r.Uint32())
		switch r.IntN(6) {
		case 0:
			w = 0
		case 1:
			w = 0xffff
		}
		binary.BigEndian.PutUint16(b[i:], w)
	}
	if family == IPv4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	b[0] = 0x20
	return netip.AddrFrom16(b)
}

func randomPort(r *rand.Rand) uint16 {
	switch r.IntN(6) {
	case 0:
		return 0
	case 1:
		return 0xffff
	}
	return uint16(r.Uint32())
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
