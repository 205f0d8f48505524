// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// VXLAN (RFC 7348) carries IP packets here: between the outer headers and the inner
// IP header there is an Ethernet header, because the format has it, whose
// addresses say nothing.
const (
	// VXLANPort is the UDP port that IANA has assigned.
	VXLANPort = 4789
	// VXLANOverhead4 and VXLANOverhead6 are the bytes in front of an inner packet, by
	// the outer IP version.
	VXLANOverhead4 = 20 + 8 + 8 + 14
	VXLANOverhead6 = 40 + 8 + 8 + 14

	vxlanFlagVNI = 0x08
	tunnelTTL    = 64
	// Source ports of tunnels: the dynamic range, as RFC 7348 section 5 asks.
	vxlanFirstSource = 49152
	vxlanSourceMask  = 65535 - vxlanFirstSource

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

// VXLANHeader is what packets to one end of a tunnel begin with. It is a value,
// and safe for concurrent use.
type VXLANHeader struct {
	b [VXLANOverhead6]byte
	n int
}

// NewVXLANHeader makes the header of packets from src to dst, which are of the
// same family.
func NewVXLANHeader(src, dst Addr, vni uint32, port uint16) VXLANHeader {
	var h VXLANHeader
	ip := 20
	if src.Is4() {
		h.n = VXLANOverhead4
		h.b[0], h.b[8], h.b[9] = 0x45, tunnelTTL, ProtoUDP
		binary.BigEndian.PutUint32(h.b[12:], src.V4())
		binary.BigEndian.PutUint32(h.b[16:], dst.V4())
	} else {
		ip, h.n = 40, VXLANOverhead6
		h.b[0], h.b[6], h.b[7] = 6<<4, ProtoUDP, tunnelTTL
		src.put16(h.b[8:])
		dst.put16(h.b[24:])
	}
	u := h.b[ip:]
	binary.BigEndian.PutUint16(u[2:], port)
	u[8] = vxlanFlagVNI
	binary.BigEndian.PutUint32(u[12:], vni<<8)
	// Two locally administered unicast addresses (IEEE 802, U/L bit).
	u[16], u[22] = 0x02, 0x02
	u[21], u[27] = 0x02, 0x01
	return h
}

// Len is the header's length in bytes.
func (h *VXLANHeader) Len() int { return h.n }

// Put writes the header into b, behind which there is an inner IP packet of which b
// has the first header, of total bytes. entropy spreads flows over paths, id
// identifies the packet should it be fragmented. The ECN field is the inner
// packet's (RFC 6040 section 4.1).
func (h *VXLANHeader) Put(b []byte, total int, entropy, id uint16) {
	copy(b, h.b[:h.n])
	inner := b[h.n:]
	ether, ecn := uint16(etherIPv4), inner[1]&3
	if inner[0]>>4 == 6 {
		ether, ecn = etherIPv6, inner[1]>>4&3
	}
	binary.BigEndian.PutUint16(b[h.n-2:], ether)
	total += h.n
	ip := 20
	if h.n == VXLANOverhead4 {
		b[1] = ecn
		binary.BigEndian.PutUint16(b[2:], uint16(total))
		binary.BigEndian.PutUint16(b[4:], id)
		binary.BigEndian.PutUint16(b[10:], Checksum(b[:20], 0))
	} else {
		ip = 40
		b[1] = ecn << 4
		binary.BigEndian.PutUint16(b[4:], uint16(total-40))
	}
	binary.BigEndian.PutUint16(b[ip:], vxlanFirstSource|entropy&vxlanSourceMask)
	binary.BigEndian.PutUint16(b[ip+4:], uint16(total-ip))
}

// VXLAN is what the outer headers of a packet say.
type VXLAN struct {
	Src, Dst Addr
	VNI      uint32
	// Len is the number of bytes before the inner packet.
	Len int
	// Valid: what follows the UDP header is VXLAN's, and begins an IP packet.
	Valid bool
	ecn   uint8
}

// ParseVXLAN reads the outer headers of a packet, of which b has the first bytes and
// total is the length. It is false if the packet is not a whole UDP datagram
// to the port.
func ParseVXLAN(b []byte, total int, port uint16, v *VXLAN) bool {
	if len(b) < 28 {
		return false
	}
	ip := 20
	switch {
	case b[0] == 0x45:
		if b[9] != ProtoUDP || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 || int(binary.BigEndian.Uint16(b[2:])) != total {
			return false
		}
		v.Src, v.Dst = Addr4(binary.BigEndian.Uint32(b[12:])), Addr4(binary.BigEndian.Uint32(b[16:]))
		v.ecn = b[1] & 3
	case b[0]>>4 == 6 && len(b) >= 48:
		if b[6] != ProtoUDP || int(binary.BigEndian.Uint16(b[4:]))+40 != total {
			return false
		}
		ip = 40
		v.Src, v.Dst = addr16(b[8:]), addr16(b[24:])
		v.ecn = b[1] >> 4 & 3
	default:
		return false
	}
	u := b[ip:]
	if binary.BigEndian.Uint16(u[2:]) != port {
		return false
	}
	v.Len, v.Valid = ip+8+8+14, false
	if len(b) < v.Len+20 || int(binary.BigEndian.Uint16(u[4:])) != total-ip {
		return true
	}
	v.VNI = binary.BigEndian.Uint32(u[12:]) >> 8
	ether, version := binary.BigEndian.Uint16(u[28:]), b[v.Len]>>4
	v.Valid = u[8]&vxlanFlagVNI != 0 && (ether == etherIPv4 && version == 4 || ether == etherIPv6 && version == 6)
	return true
}

// Decapsulate gives the inner packet the ECN field that it has after the tunnel (RFC
// 6040 section 4.2). It is false if the packet has to be dropped: it was marked on
// its way, and its sender does not understand that.
func (v *VXLAN) Decapsulate(inner []byte) bool {
	six := inner[0]>>4 == 6
	ecn := inner[1] & 3
	if six {
		ecn = inner[1] >> 4 & 3
	}
	const ect1, ect0, ce = 1, 2, 3
	switch {
	case v.ecn == ce && ecn == 0:
		return false
	case v.ecn == ce || v.ecn == ect1 && ecn == ect0:
	default:
		return true
	}
	if six {
		inner[1] = inner[1]&^0x30 | v.ecn<<4
		return true
	}
	delta := Sum([]byte{0, ^inner[1]}, 0)
	inner[1] = inner[1]&^3 | v.ecn
	delta = Sum([]byte{0xff, inner[1]}, delta)
	binary.BigEndian.PutUint16(inner[10:], adjust(binary.BigEndian.Uint16(inner[10:]), delta))
	return true
}
