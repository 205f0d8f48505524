// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// EchoReply turns an ICMP or ICMPv6 echo request into its reply in place,
// for an address of the router itself: the payload may stay parked. partial is as
// for Rewrite.Apply. info follows. It tells false, and changes nothing, if
// the packet is not a whole echo request (a fragmented one is not answered) or
// its source is not one host.
func EchoReply(b []byte, info *Info, partial bool) bool {
	request := info.Proto == ProtoICMP && info.ICMPType == icmpEcho ||
		info.Proto == ProtoICMPv6 && info.ICMPType == icmp6Echo
	if !request || info.IsFragment || !info.Src.IsUnicast() || info.Dst.IsMulticast() {
		return false
	}
	// Swapping the addresses changes no sum.
	if info.Family == IPv4 {
		h := b[:ip4HdrLen]
		old := binary.BigEndian.Uint16(h[8:])
		h[8] = ReplyTTL
		change := addSum(^old, binary.BigEndian.Uint16(h[8:]))
		putAddrs4(h, info.Dst, info.Src, change)
	} else {
		b[7] = ReplyTTL
		info.Dst.put16(b[8:])
		info.Src.put16(b[24:])
	}
	info.Tuple = info.Tuple.Reply()
	info.TTL = ReplyTTL
	m := b[info.L4Off:info.HdrLen]
	old := binary.BigEndian.Uint16(m)
	m[0] = uint8(info.DstPort >> 8)
	info.ICMPType = m[0]
	if !partial {
		change := addSum(^old, binary.BigEndian.Uint16(m))
		binary.BigEndian.PutUint16(m[2:], icmpSum(m, adjust(binary.BigEndian.Uint16(m[2:]), change)))
	}
	return true
}

// icmpSum settles which zero an adjusted checksum of the message m is. An echo
// reply is the one message that may be all zeros, and then it has to be 0xffff
// (RFC 1624 section 3). The payload may be parked, but 0xffff passes
// verification whatever it is.
func icmpSum(m []byte, sum uint16) uint16 {
	if sum == 0 && binary.BigEndian.Uint16(m)|binary.BigEndian.Uint16(m[4:])|binary.BigEndian.Uint16(m[6:]) == 0 {
		return 0xffff
	}
	return sum
}
