// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"math/bits"
)

const (
	ip4HdrLen = 20
	ip6HdrLen = 40

	// maxExtHeaders bounds the walk. RFC 8200 section 4.1 lists seven.
	maxExtHeaders = 8
)

// Parse reads the headers of a packet. b is what the nbuf has of it, from its
// first byte; total is the length of the whole packet, parked bytes included. On
// OK info is complete and b[:info.HdrLen] is there. On any other Reason
// info has what was read until then, Family and addresses if they were reached,
// for showing and counting only.
func Parse(b []byte, total int, info *Info) Reason {
	*info = Info{}
	if total <= 0 {
		return TooShort
	}
	if len(b) > total {
		b = b[:total]
	}
	if len(b) == 0 {
		return Truncated
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b, total, info)
	case 6:
		return parse6(b, total, info)
	}
	return BadVersion
}

func parse4(b []byte, total int, info *Info) Reason {
	if len(b) < ip4HdrLen {
		return tooShortOr(total < ip4HdrLen, TooShort)
	}
	// Words in the order of memory on a little-endian machine, so that
	// the checksum needs no more loads.
	w0, w1, w2 := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:])
	info.Src.Lo = mapped4 | uint64(bits.ReverseBytes32(uint32(w1>>32)))
	info.Dst.Lo = mapped4 | uint64(bits.ReverseBytes32(w2))
	info.Proto = uint8(w1 >> 8)
	info.Family = IPv4
	info.TTL = uint8(w1)
	info.TOS = uint8(w0 >> 8)
	info.FragID = uint32(bits.ReverseBytes16(uint16(w0 >> 32)))
	hlen := int(w0&15) * 4
	length := int(bits.ReverseBytes16(uint16(w0 >> 16)))
	info.TotalLen = uint32(length)
	info.L4Off = uint16(hlen)
	info.HdrLen = uint16(hlen)
	if length > total || hlen < ip4HdrLen || hlen > min(length, len(b)) {
		return badLengths4(hlen, length, total)
	}
	// RFC 1812 section 5.2.2. One's complement sums do not depend on the
	// byte order.
	s := w0>>32 + w0&0xffffffff + w1>>32 + w1&0xffffffff + uint64(w2)
	for o := b[ip4HdrLen:hlen]; len(o) >= 4; o = o[4:] {
		s += uint64(binary.LittleEndian.Uint32(o))
	}
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	if s>>16+s&0xffff != 0xffff {
		return BadChecksum
	}
	if hlen > ip4HdrLen {
		if r := checkOptions(b[ip4HdrLen:hlen]); r != OK {
			return r
		}
	}
	b = b[:min(len(b), length)]

	frag := bits.ReverseBytes16(uint16(w0 >> 48))
	info.DontFrag = frag&0x4000 != 0
	if frag&0x3fff != 0 {
		info.FragOff = frag & 0x1fff << 3
		info.MoreFrags = frag&0x2000 != 0
		info.IsFragment = true
		if r := checkFragment(info, length-hlen, hlen); r != OK {
			return r
		}
		if info.FragOff != 0 {
			return OK
		}
	}
	return parseL4(b, info)
}

// badLengths4 names what is wrong with an IPv4 header's lengths.
func badLengths4(hlen, length, total int) Reason {
	switch {
	case hlen < ip4HdrLen || hlen > total:
		return BadHeaderLen
	case length > total || length < hlen:
		return BadTotalLen
	}
	return Truncated
}

// tooShortOr picks between a packet that is malformed and one of which the
// nbuf has too little.
func tooShortOr(malformed bool, r Reason) Reason {
	if malformed {
		return r
	}
	return Truncated
}

// checkOptions walks IPv4 options (RFC 791 section 3.1).
func checkOptions(o []byte) Reason {
	for len(o) > 0 {
		switch o[0] {
		case 0: // end of list
			return OK
		case 1: // no operation
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return BadOption
		}
		if o[0] == 131 || o[0] == 137 { // loose and strict source route
			return SourceRoute
		}
		o = o[o[1]:]
	}
	return OK
}

// checkFragment judges a fragment that carries n bytes of a datagram whose
// unfragmentable part is unfrag bytes long.
func checkFragment(info *Info, n, unfrag int) Reason {
	if n == 0 || info.MoreFrags && n%8 != 0 {
		return BadFragment
	}
	if int(info.FragOff)+n+unfrag > 0xffff {
		return BadFragment
	}
	// RFC 1858 section 3.2.2: it would overwrite the TCP flags.
	if info.Proto == ProtoTCP && info.FragOff != 0 && info.FragOff < 16 {
		return TinyFragment
	}
	return OK
}

func parse6(b []byte, total int, info *Info) Reason {
	if len(b) < ip6HdrLen {
		return tooShortOr(total < ip6HdrLen, TooShort)
	}
	info.Family = IPv6
	info.TTL = b[7]
	info.TOS = b[0]<<4 | b[1]>>4
	info.DontFrag = true
	info.Src = addr16(b[8:24])
	info.Dst = addr16(b[24:40])
	length := ip6HdrLen + int(binary.BigEndian.Uint16(b[4:]))
	if length > total {
		return BadTotalLen
	}
	if info.Src.Is4() || info.Dst.Is4() {
		return BadAddress
	}
	info.TotalLen = uint32(length)
	b = b[:min(len(b), length)]
	info.Proto = b[6]
	info.L4Off = ip6HdrLen
	info.HdrLen = ip6HdrLen
	switch b[6] {
	case ProtoTCP, ProtoUDP, ProtoICMPv6:
	default:
		if r := walkExtHeaders(b, length, info); r != OK || info.FragOff != 0 {
			return r
		}
	}
	return parseL4(b, info)
}

// walkExtHeaders finds the upper-layer header (RFC 8200 section 4). After it
// info.Proto and L4Off are those of the first header that is not an extension
// header, or, in a later fragment, of what the fragment header names.
func walkExtHeaders(b []byte, length int, info *Info) Reason {
	off := ip6HdrLen
	fragmented := false
	for n := 0; ; n++ {
		var size int
		switch info.Proto {
		case protoHopByHop, protoRouting, protoDestOpts, protoFragment, ProtoAH:
		default:
			info.L4Off = uint16(off)
			info.HdrLen = uint16(off)
			return OK
		}
		if n == maxExtHeaders {
			return BadExtHeader
		}
		if length-off < 8 {
			return tinyOr(info, BadExtHeader)
		}
		if len(b)-off < 8 {
			return Truncated
		}
		h := b[off : off+8]
		switch info.Proto {
		case protoHopByHop:
			if off != ip6HdrLen {
				return BadExtHeader
			}
			size = int(h[1])*8 + 8
		case protoRouting:
			if h[2] == 0 && h[3] != 0 {
				return SourceRoute
			}
			size = int(h[1])*8 + 8
		case protoDestOpts:
			size = int(h[1])*8 + 8
		case ProtoAH:
			size = int(h[1])*4 + 8
		case protoFragment:
			if fragmented {
				return BadExtHeader
			}
			fragmented = true
			size = 8
			field := binary.BigEndian.Uint16(h[2:])
			info.FragOff = field &^ 7
			info.MoreFrags = field&1 != 0
			info.FragID = binary.BigEndian.Uint32(h[4:])
			info.IsFragment = info.FragOff != 0 || info.MoreFrags
		}
		if size > length-off {
			return tinyOr(info, BadExtHeader)
		}
		if size > len(b)-off {
			return Truncated
		}
		frag := info.Proto == protoFragment
		info.Proto = h[0]
		off += size
		if frag && info.IsFragment {
			// Lengths in fragments count from the end of the IPv6 header.
			if r := checkFragment(info, length-off, off-8-ip6HdrLen); r != OK {
				return r
			}
			if info.FragOff != 0 {
				info.L4Off = uint16(off)
				info.HdrLen = uint16(off)
				return OK
			}
		}
	}
}

// tinyOr is what it means that a packet ends before its headers do.
func tinyOr(info *Info, r Reason) Reason {
	if info.MoreFrags {
		return TinyFragment
	}
	return r
}

// l4MinLen is the length of the fixed part of an L4 header.
var l4MinLen = [256]uint8{
	ProtoICMP:    icmpHdrLen,
	ProtoTCP:     20,
	ProtoUDP:     8,
	ProtoDCCP:    12,
	ProtoICMPv6:  icmpHdrLen,
	ProtoSCTP:    12,
	ProtoUDPLite: 8,
}

// parseL4 reads the L4 header at info.L4Off of a packet of info.TotalLen
// bytes, of which b is the first part. Other protocols have no header.
func parseL4(b []byte, info *Info) Reason {
	need := int(l4MinLen[info.Proto])
	if need == 0 {
		return OK
	}
	off := int(info.L4Off)
	left := int(info.TotalLen) - off
	if len(b)-off < need {
		if left < need {
			return tinyOr(info, BadL4)
		}
		return Truncated
	}
	h := b[off:]
	_ = h[7]
	info.SrcPort = binary.BigEndian.Uint16(h)
	info.DstPort = binary.BigEndian.Uint16(h[2:])
	switch info.Proto {
	case ProtoTCP:
		_ = h[13]
		info.TCPFlags = h[13]
		need = int(h[12]>>4) * 4
		if need < 20 {
			return BadL4
		}
	case ProtoUDP:
		if n := int(binary.BigEndian.Uint16(h[4:])); n < 8 || n > left && !info.MoreFrags {
			return BadL4
		}
	case ProtoICMP, ProtoICMPv6:
		if (info.Proto == ProtoICMP) != (info.Family == IPv4) {
			return BadL4
		}
		parseICMP(h, info)
	case ProtoDCCP:
		need = int(h[4]) * 4
		if need < 12 {
			return BadL4
		}
	}
	if len(h) < need {
		if left < need {
			return tinyOr(info, BadL4)
		}
		return Truncated
	}
	info.HdrLen = uint16(off + need)
	return OK
}

func parseICMP(h []byte, info *Info) {
	info.ICMPType, info.ICMPCode = h[0], h[1]
	info.SrcPort, info.DstPort = 0, info.SrcPort
	switch icmpKind(info.Proto, h[0]) {
	case icmpQuery, icmpReply:
		info.SrcPort = binary.BigEndian.Uint16(h[4:])
	case icmpError:
		info.IsICMPError = true
	}
}
