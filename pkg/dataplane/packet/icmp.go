// SPDX-License-Identifier: Apache-2.0

package packet

// ICMP types that the package makes or treats apart (IANA).
const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpSourceQuench = 4
	icmpRedirect     = 5
	icmpEcho         = 8
	icmpTimeExceeded = 11
	icmpParameter    = 12

	icmp6Unreachable  = 1
	icmp6PacketTooBig = 2
	icmp6TimeExceeded = 3
	icmp6Parameter    = 4
	icmp6Echo         = 128
	icmp6EchoReply    = 129
	icmp6Redirect     = 137

	icmpHdrLen = 8
)

type icmpClass uint8

const (
	icmpOther icmpClass = iota
	icmpQuery
	icmpReply
	icmpError
)

// icmpPair gives an IPv4 query's reply and the other way round.
var icmpPair = [...]struct {
	kind icmpClass
	peer uint8
}{
	icmpEchoReply:    {icmpReply, icmpEcho},
	icmpUnreachable:  {icmpError, 0},
	icmpSourceQuench: {icmpError, 0},
	icmpRedirect:     {icmpError, 0},
	icmpEcho:         {icmpQuery, icmpEchoReply},
	icmpTimeExceeded: {icmpError, 0},
	icmpParameter:    {icmpError, 0},
	13:               {icmpQuery, 14}, // timestamp
	14:               {icmpReply, 13},
	15:               {icmpQuery, 16}, // information
	16:               {icmpReply, 15},
	17:               {icmpQuery, 18}, // address mask
	18:               {icmpReply, 17},
}

// icmpKind classifies a message; icmpOther for protocols other than ICMP.
func icmpKind(proto, typ uint8) icmpClass {
	switch proto {
	case ProtoICMP:
		if int(typ) < len(icmpPair) {
			return icmpPair[typ].kind
		}
	case ProtoICMPv6:
		switch {
		case typ < 128: // RFC 4443 section 2.1: errors have a high-order 0
			return icmpError
		case typ == icmp6Echo:
			return icmpQuery
		case typ == icmp6EchoReply:
			return icmpReply
		}
	}
	return icmpOther
}

// icmpCounterpart maps type<<8 | code of a query to that of its reply and back.
func icmpCounterpart(proto uint8, tc uint16) uint16 {
	typ := uint8(tc >> 8)
	switch icmpKind(proto, typ) {
	case icmpQuery, icmpReply:
		if proto == ProtoICMPv6 {
			return tc ^ (icmp6Echo^icmp6EchoReply)<<8
		}
		return uint16(icmpPair[typ].peer)<<8 | tc&0xff
	}
	return tc
}
