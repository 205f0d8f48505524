// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// ErrorKind is an ICMP error that a router sends.
type ErrorKind uint8

// The kinds, with the messages that they become: RFC 792, RFC 1812 section
// 5.2.7 and RFC 4443 section 3.
const (
	TimeExceeded       ErrorKind = iota // in transit
	NetUnreachable                      // ICMPv6: no route to destination
	HostUnreachable                     // ICMPv6: address unreachable
	ProtoUnreachable                    // ICMPv6: parameter problem, next header
	PortUnreachable                     //
	AdminProhibited                     // communication administratively prohibited
	PacketTooBig                        // ICMP: fragmentation needed and DF set
	ReassemblyExceeded                  // fragment reassembly time exceeded
	errorKinds
)

var errorCodes = [errorKinds]struct{ t4, c4, t6, c6 uint8 }{
	TimeExceeded:       {icmpTimeExceeded, 0, icmp6TimeExceeded, 0},
	NetUnreachable:     {icmpUnreachable, 0, icmp6Unreachable, 0},
	HostUnreachable:    {icmpUnreachable, 1, icmp6Unreachable, 3},
	ProtoUnreachable:   {icmpUnreachable, 2, icmp6Parameter, 1},
	PortUnreachable:    {icmpUnreachable, 3, icmp6Unreachable, 4},
	AdminProhibited:    {icmpUnreachable, 13, icmp6Unreachable, 1},
	PacketTooBig:       {icmpUnreachable, 4, icmp6PacketTooBig, 0},
	ReassemblyExceeded: {icmpTimeExceeded, 1, icmp6TimeExceeded, 1},
}

const (
	// ErrorMaxLen4 and ErrorMaxLen6 are the sizes of the longest errors that
	// BuildError makes (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4c).
	ErrorMaxLen4 = 576
	ErrorMaxLen6 = 1280

	// ReplyTTL is the TTL of the packets that the router makes itself (RFC 1700).
	ReplyTTL = 64
)

// MayAnswer tells whether an ICMP error may be sent about the packet: never
// about an ICMP error or redirect, a later fragment, or a packet from or to
// anything but one host (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4e;
// more strictly than that also never about multicast too big).
func MayAnswer(info *Info) bool {
	return !info.IsICMPError &&
		info.FragOff == 0 &&
		!(info.Proto == ProtoICMPv6 && info.ICMPType == icmp6Redirect) &&
		info.Src.IsUnicast() &&
		!info.Dst.IsMulticast() && !info.Dst.IsReserved4()
}

// BuildError writes an ICMP error about a packet to its sender into dst and
// returns its length, 0 if dst has no room for the headers. b and info are
// the packet as it was received, before any rewrite; what of it is in b is
// quoted, up to ErrorMaxLen4 or ErrorMaxLen6 in all. from is an address of the router
// of the packet's family. arg is the MTU for PacketTooBig and, in IPv6, the
// pointer for ProtoUnreachable; other kinds ignore it. dst and b must not overlap.
func BuildError(dst []byte, kind ErrorKind, b []byte, info *Info, from Addr, arg uint32) int {
	if kind >= errorKinds {
		return 0
	}
	b = b[:min(len(b), int(info.TotalLen))]
	code := &errorCodes[kind]
	if kind != PacketTooBig && (kind != ProtoUnreachable || info.Family == IPv4) {
		arg = 0
	}
	if info.Family == IPv4 {
		// RFC 1191: the MTU is 16 bits; the high half is unused.
		return buildError(dst, ip4HdrLen, ErrorMaxLen4, code.t4, code.c4, min(arg, 0xffff), b, info, from)
	}
	return buildError(dst, ip6HdrLen, ErrorMaxLen6, code.t6, code.c6, arg, b, info, from)
}

func buildError(dst []byte, hlen, limit int, typ, code uint8, arg uint32, quote []byte, info *Info, from Addr) int {
	head := hlen + icmpHdrLen
	if len(dst) < head {
		return 0
	}
	n := head + copy(dst[head:min(len(dst), limit)], quote)
	proto := uint8(ProtoICMP)
	var initial uint16
	if info.Family == IPv6 {
		proto = ProtoICMPv6
		initial = PseudoSum(from, info.Src, ProtoICMPv6, n-hlen)
	}
	putIPHeader(dst, info.Family, proto, from, info.Src, n)
	m := dst[hlen:n]
	m[0], m[1] = typ, code
	m[2], m[3] = 0, 0
	binary.BigEndian.PutUint32(m[4:], arg)
	binary.BigEndian.PutUint16(m[2:], Checksum(m, initial))
	return n
}

// putIPHeader writes the header of a packet of n bytes that the router makes
// itself: no options; IPv4 with DF and ID 0, as it is never fragmented (RFC
// 6864); ICMP over IPv4 with precedence 6 (RFC 1812 section 4.3.2.5).
func putIPHeader(h []byte, family, proto uint8, src, dst Addr, n int) {
	if family == IPv4 {
		h = h[:ip4HdrLen]
		clear(h)
		h[0] = 0x45
		if proto == ProtoICMP {
			h[1] = 0xc0
		}
		binary.BigEndian.PutUint16(h[2:], uint16(n))
		h[6] = 0x40
		h[8] = ReplyTTL
		h[9] = proto
		binary.BigEndian.PutUint32(h[12:], src.V4())
		binary.BigEndian.PutUint32(h[16:], dst.V4())
		binary.BigEndian.PutUint16(h[10:], Checksum(h, 0))
		return
	}
	h = h[:ip6HdrLen]
	binary.BigEndian.PutUint32(h, 6<<28)
	binary.BigEndian.PutUint16(h[4:], uint16(n-ip6HdrLen))
	h[6] = proto
	h[7] = ReplyTTL
	src.put16(h[8:])
	dst.put16(h[24:])
}
