// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// DecTTL lowers the TTL or hop limit of b by one. The caller has seen
// info.TTL > 1 and sends TimeExceeded otherwise.
func DecTTL(b []byte, info *Info) {
	if info.Family == IPv4 {
		decTTL4(b)
	} else {
		b[7]--
	}
}

// decTTL4 adds to the header checksum what the TTL, the high byte of its
// word, has lost (RFC 1141); 0xffff is not a value that a sum of
// nonzero bytes has.
func decTTL4(b []byte) {
	_ = b[19]
	b[8]--
	c := uint32(binary.BigEndian.Uint16(b[10:])) + 0x0100
	if c >= 0xffff {
		c -= 0xffff
	}
	binary.BigEndian.PutUint16(b[10:], uint16(c))
}

// SetDSCP writes the six DSCP bits and leaves the ECN bits alone (RFC 2474,
// RFC 3168). info.TOS follows.
func SetDSCP(b []byte, info *Info, dscp uint8) {
	tos := dscp<<2 | info.TOS&3
	if info.Family == IPv4 {
		old := binary.BigEndian.Uint16(b)
		b[1] = tos
		delta := addSum(^old, binary.BigEndian.Uint16(b))
		binary.BigEndian.PutUint16(b[10:], adjust(binary.BigEndian.Uint16(b[10:]), delta))
	} else {
		b[0] = b[0]&0xf0 | tos>>4
		b[1] = b[1]&0x0f | tos<<4
	}
	info.TOS = tos
}
