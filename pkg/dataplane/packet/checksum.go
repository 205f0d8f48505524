// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"math/bits"
)

// Fold reduces a sum of 16-, 32- or 48-bit pieces to 16 bits in one's
// complement. It is 0 only for 0.
func Fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s&0xffff)
}

// Sum is the one's complement sum of b as big-endian 16-bit words, added to
// initial, which may be a sum of earlier parts, all but the last of them of
// even length. It is not inverted. (RFC 1071.)
func Sum(b []byte, initial uint16) uint16 {
	var s, c uint64
	for len(b) >= 64 {
		_ = b[63]
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[56:]), c)
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		b = b[8:]
	}
	var rest uint64
	if len(b) >= 4 {
		rest = uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		rest += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		rest += uint64(b[0])
	}
	s, c = bits.Add64(s, rest, c)
	s, c = bits.Add64(s, 0, c)
	s += c
	return Fold(uint64(bits.ReverseBytes16(Fold(s))) + uint64(initial))
}

// Checksum is the Internet checksum of b: the inverse of Sum.
func Checksum(b []byte, initial uint16) uint16 { return ^Sum(b, initial) }

// Words is the sum of an address's 32-bit words as they count in a
// pseudo-header: IPv4 addresses have one.
func (a Addr) Words() uint64 {
	if a.Is4() {
		return uint64(a.V4())
	}
	return a.Hi>>32 + a.Hi&0xffffffff + a.Lo>>32 + a.Lo&0xffffffff
}

// PseudoSum is the sum, not inverted, of the pseudo-header that TCP, UDP and
// ICMPv6 checksums cover (RFC 9293 section 3.1, RFC 8200 section 8.1). length
// is that of the L4 header and payload.
func PseudoSum(src, dst Addr, proto uint8, length int) uint16 {
	return Fold(src.Words() + dst.Words() + uint64(proto) + uint64(uint32(length)))
}

// L4Checksum computes what belongs into the L4 checksum field of a whole
// packet that is not a fragment, the present content of the field
// notwithstanding. ok is false for protocols without one that the package
// knows, and if b is shorter than info.TotalLen. UDP's 0 comes as 0xffff.
// SCTP has a checksum of another kind: see SCTPChecksum.
func L4Checksum(b []byte, info *Info) (sum uint16, ok bool) {
	d := &l4sums[info.Proto]
	if !d.has || info.IsFragment || len(b) < int(info.TotalLen) {
		return 0, false
	}
	l4 := b[info.L4Off:info.TotalLen]
	cover := len(l4)
	switch info.Proto {
	case ProtoUDP:
		cover = int(binary.BigEndian.Uint16(l4[4:]))
	case ProtoUDPLite: // RFC 3828 section 3.1
		if n := int(binary.BigEndian.Uint16(l4[4:])); n >= 8 && n <= cover {
			cover = n
		}
	case ProtoDCCP: // RFC 4340 section 9.2
		if n := int(l4[5] & 15); n > 0 {
			cover = min(cover, int(l4[4])*4+(n-1)*4)
		}
	}
	var initial uint16
	if d.pseudo {
		n := len(l4)
		if info.Proto == ProtoUDP {
			n = cover
		}
		initial = PseudoSum(info.Src, info.Dst, info.Proto, n)
	}
	at := int(d.off)
	s := Sum(l4[:at], initial)
	s = ^Sum(l4[at+2:cover], s)
	if s == 0 && d.zero {
		s = 0xffff
	}
	return s, true
}

// CompleteChecksum does for a whole packet what the device does for
// CSUM_PARTIAL: it sums b[start:] together with the pseudo-header sum that is in
// the field and stores the inverse there, 0xffff for 0. It tells
// false, and changes nothing, if the field does not lie in b.
func CompleteChecksum(b []byte, start, offset int) bool {
	if start < 0 || offset < 0 || start > len(b) || offset > len(b)-start-2 {
		return false
	}
	s := Checksum(b[start:], 0)
	if s == 0 {
		s = 0xffff
	}
	binary.BigEndian.PutUint16(b[start+offset:], s)
	return true
}

// adjust is RFC 1624 equation 3 for a complete checksum; delta is the folded
// sum of ~old and new words.
func adjust(check, delta uint16) uint16 {
	s := uint32(^check) + uint32(delta)
	return ^uint16(s + s>>16)
}

// addSum is the one's complement sum of two words.
func addSum(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s + s>>16)
}
