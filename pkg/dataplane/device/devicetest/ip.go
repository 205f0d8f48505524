// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"encoding/binary"
	"net/netip"

	"netio.dev/netio/pkg/dataplane/abi"
)

// udpPacket is an IPv4 packet with a UDP datagram, complete with checksums. A
// partial one has only the pseudo header's sum in the UDP checksum.
func udpPacket(src, dst netip.Addr, sport, dport uint16, payload []byte, partial bool) []byte {
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(b[:20], 0)))
	binary.BigEndian.PutUint16(b[20:], sport)
	binary.BigEndian.PutUint16(b[22:], dport)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	pseudo := sum(b[12:20], 17+8+uint32(len(payload)))
	if partial {
		binary.BigEndian.PutUint16(b[26:], fold(pseudo))
		return append(b, payload...)
	}
	b = append(b, payload...)
	c := ^fold(sum(b[20:], pseudo))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[26:], c)
	return b
}

func sum(b []byte, s uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// setPartial writes the offload fields of a partial udpPacket.
func setPartial(nb *abi.Nbuf) {
	nb.Flags |= abi.NbCsumPartial
	nb.CsumStart, nb.CsumOffset, nb.HdrLen = 20, 6, 28
}
