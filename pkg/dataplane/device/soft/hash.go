// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"math/bits"
)

// flowHash is a symmetric hash of an IP packet's flow: both directions, the
// fragments of one datagram among themselves, and ICMP errors about a flow and
// the flow itself, have the same value. Only its quality depends on the packet
// being well-formed.
func flowHash(b []byte) uint32 {
	if len(b) == 0 {
		return 0
	}
	switch b[0] >> 4 {
	case 4:
		return hash4(b, true)
	case 6:
		return hash6(b, true)
	}
	return 0
}

// mix combines what both directions have in common: the exclusive or and the
// sum of the two ends of the flow.
func mix(xor, sum uint64, ports uint32, proto uint8) uint32 {
	a, b := uint64(ports>>16), uint64(ports&0xffff)
	p := (a^b)<<32 | (a+b)<<8 | uint64(proto)
	hi, lo := bits.Mul64(xor^0x9e3779b97f4a7c15, sum|1)
	h := (hi ^ lo ^ p) * 0xd6e8feb86659fd93
	return uint32(h>>32) ^ uint32(h)
}

func hash4(b []byte, errors bool) uint32 {
	if len(b) < 20 {
		return 0
	}
	src, dst := uint64(binary.BigEndian.Uint32(b[12:])), uint64(binary.BigEndian.Uint32(b[16:]))
	ihl := int(b[0]&15) * 4
	proto := b[9]
	if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 || ihl < 20 || ihl > len(b) {
		return mix(src^dst, src+dst, 0, 0) // a fragment: not each has the ports
	}
	l4 := b[ihl:]
	if proto == 1 && errors && len(l4) > 8 && l4[0] != 0 && l4[0] != 8 {
		switch l4[0] {
		case 3, 4, 5, 11, 12: // RFC 792: they quote the packet
			return hash4(l4[8:], false)
		}
	}
	return mix(src^dst, src+dst, l4Ports(l4, proto), proto)
}

func hash6(b []byte, errors bool) uint32 {
	if len(b) < 40 {
		return 0
	}
	s0, s1 := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	d0, d1 := binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])
	src, dst := s0*31+s1, d0*31+d1
	proto, l4 := b[6], b[40:]
extensions:
	for range 4 { // RFC 8200
		switch proto {
		case 0, 43, 60:
			if len(l4) < 8 {
				return mix(src^dst, src+dst, 0, 0)
			}
			n := (int(l4[1]) + 1) * 8
			proto, l4 = l4[0], l4[min(n, len(l4)):]
			continue
		case 44:
			return mix(src^dst, src+dst, 0, 0)
		default:
			break extensions
		}
	}
	if proto == 58 && errors && len(l4) > 8 && l4[0] >= 1 && l4[0] <= 4 { // RFC 4443
		return hash6(l4[8:], false)
	}
	return mix(src^dst, src+dst, l4Ports(l4, proto), proto)
}

// l4Ports are the two ports, or an echo's identifier as both of them.
func l4Ports(l4 []byte, proto uint8) uint32 {
	switch proto {
	case 6, 17, 132: // TCP, UDP, SCTP
		if len(l4) >= 4 {
			return binary.BigEndian.Uint32(l4)
		}
	case 1, 58: // ICMP echo and its answer
		if len(l4) >= 8 {
			id := uint32(binary.BigEndian.Uint16(l4[4:]))
			return id<<16 | id
		}
	}
	return 0
}

// laneOf spreads hashes over n lanes.
func laneOf(hash, n uint32) uint32 { return uint32(uint64(hash) * uint64(n) >> 32) }
