// SPDX-License-Identifier: Apache-2.0

package packet

// IP protocol numbers that the package knows (IANA).
const (
	ProtoICMP    = 1
	ProtoTCP     = 6
	ProtoUDP     = 17
	ProtoDCCP    = 33
	ProtoESP     = 50
	ProtoAH      = 51
	ProtoICMPv6  = 58
	ProtoNoNext  = 59
	ProtoSCTP    = 132
	ProtoUDPLite = 136

	protoHopByHop = 0
	protoRouting  = 43
	protoFragment = 44
	protoDestOpts = 60
)

// TCP flags as in Info.TCPFlags.
const (
	TCPFin = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// Families as in Info.Family.
const (
	IPv4 = 4
	IPv6 = 6
)

// Tuple names a flow in one direction. It is comparable with ==.
//
// For ICMP and ICMPv6, SrcPort is the identifier of a query or reply (echo,
// timestamp, ...) and 0 for every other type, and DstPort is type<<8 | code.
// Protocols without ports have 0 in both.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            uint8
}

// Reply returns the tuple of the packets that answer: addresses and ports
// swapped; for ICMP queries the identifier stays and the type becomes that
// of the reply, and back again. An ICMP type without a counterpart stays as it
// is. t.Reply().Reply() == t.
func (t Tuple) Reply() Tuple {
	r := Tuple{t.Dst, t.Src, t.DstPort, t.SrcPort, t.Proto}
	if t.Proto == ProtoICMP || t.Proto == ProtoICMPv6 {
		r.SrcPort, r.DstPort = t.SrcPort, icmpCounterpart(t.Proto, t.DstPort)
	}
	return r
}

// IsICMPRequest tells whether the tuple is of an ICMP query, which may begin
// a flow, rather than of a reply, an error, or anything unanswered.
func (t Tuple) IsICMPRequest() bool {
	k := icmpKind(t.Proto, uint8(t.DstPort>>8))
	return k == icmpQuery
}

// HasPorts tells whether the protocol has port numbers that the package reads
// and rewrites.
func HasPorts(proto uint8) bool {
	switch proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP, ProtoDCCP, ProtoUDPLite:
		return true
	}
	return false
}

// Info is what Parse learns from a packet's headers. Offsets and lengths are
// in bytes from the first byte of the outer IP header. It has no pointers and is
// meant to be reused.
type Info struct {
	Tuple
	Family   uint8 // IPv4 or IPv6
	TTL      uint8 // TTL or hop limit
	TOS      uint8 // TOS or traffic class
	TCPFlags uint8 // TCPFin, ...
	ICMPType uint8
	ICMPCode uint8

	// IsICMPError is set for ICMP and ICMPv6 messages that quote the packet
	// they are about: ParseInner reads it.
	IsICMPError bool
	// IsFragment is set unless this is a whole datagram; an IPv6 "atomic"
	// fragment (RFC 6946) is whole.
	IsFragment bool
	MoreFrags  bool
	DontFrag   bool   // IPv4 DF; always set for IPv6
	FragOff    uint16 // in bytes; if not 0 there is no L4 header and no ports
	FragID     uint32

	L4Off    uint16 // where the L4 header begins, or a later fragment's data
	HdrLen   uint16 // where the payload begins: all of b[:HdrLen] is there
	TotalLen uint32 // of the packet, from the IP header
}

// PayloadLen is the number of bytes after the L4 header.
func (i *Info) PayloadLen() int { return int(i.TotalLen) - int(i.HdrLen) }

// IsMartian tells whether the addresses are such that no packet with them may
// cross a router (RFC 1812 section 5.3.7): the source is not one host's or the
// destination is unspecified, loopback or reserved. Multicast destinations are
// not martians.
func (i *Info) IsMartian() bool {
	return !i.Src.IsUnicast() || i.Dst.IsUnspecified() || i.Dst.IsLoopback() || i.Dst.IsReserved4()
}

// Where the checksum is in an L4 header, and what it covers.
type l4sum struct {
	off    uint8
	has    bool
	pseudo bool // covers the pseudo-header: addresses count
	zero   bool // 0 means that there is none (UDP)
	ports  bool // 16-bit ports at offsets 0 and 2, covered by it
	id     bool // ICMP: identifier at offset 4
}

var l4sums = [256]l4sum{
	ProtoTCP:     {off: 16, has: true, pseudo: true, ports: true},
	ProtoUDP:     {off: 6, has: true, pseudo: true, zero: true, ports: true},
	ProtoUDPLite: {off: 6, has: true, pseudo: true, ports: true},
	ProtoDCCP:    {off: 6, has: true, pseudo: true, ports: true},
	ProtoICMP:    {off: 2, has: true, id: true},
	ProtoICMPv6:  {off: 2, has: true, pseudo: true, id: true},
}

// IsPartial tells whether an nbuf's csum_start and csum_offset (with
// CSUM_PARTIAL set) mean this packet's own L4 checksum, which is the
// partial that Rewrite and EchoReply ask about. In an encapsulated packet they
// mean the inner one, and the outer checksum, if any, is complete.
func (i *Info) IsPartial(start, offset uint16) bool {
	if start != i.L4Off {
		return false
	}
	if i.Proto == ProtoSCTP {
		return offset == sctpSumOff
	}
	s := &l4sums[i.Proto]
	return s.has && offset == uint16(s.off)
}
