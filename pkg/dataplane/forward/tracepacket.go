// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"

	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// description is a packet to be made for a trace.
type description struct {
	tuple        packet.Tuple // of ICMP, DstPort is type and code
	flags        uint8        // TCP
	ttl          uint8
	total        int // bytes, headers included
	dontFragment bool
}

// l4 is the length of the header behind the IP header.
func (d *description) l4() int {
	switch d.tuple.Proto {
	case packet.ProtoTCP:
		return 20
	case packet.ProtoSCTP, packet.ProtoDCCP:
		return 12
	case packet.ProtoUDP, packet.ProtoUDPLite, packet.ProtoICMP, packet.ProtoICMPv6:
		return 8
	}
	return 0
}

func (d *description) ip() int {
	if d.tuple.Src.Is4() {
		return 20
	}
	return 40
}

func (d *description) headers() int { return d.ip() + d.l4() }

// build writes the packet, with right checksums and zeros for data.
func (d *description) build() ([]byte, int) {
	b := make([]byte, d.total)
	t := &d.tuple
	src, dst := t.Src.As16(), t.Dst.As16()
	if t.Src.Is4() {
		b[0], b[8], b[9] = 0x45, d.ttl, t.Proto
		binary.BigEndian.PutUint16(b[2:], uint16(d.total))
		if d.dontFragment {
			b[6] = 0x40
		}
		copy(b[12:], src[12:])
		copy(b[16:], dst[12:])
		binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20], 0))
	} else {
		b[0], b[6], b[7] = 0x60, t.Proto, d.ttl
		binary.BigEndian.PutUint16(b[4:], uint16(d.total-40))
		copy(b[8:], src[:])
		copy(b[24:], dst[:])
	}
	l4 := b[d.ip():]
	if packet.HasPorts(t.Proto) {
		binary.BigEndian.PutUint16(l4, t.SrcPort)
		binary.BigEndian.PutUint16(l4[2:], t.DstPort)
	}
	sum := 0 // where the checksum is
	switch t.Proto {
	case packet.ProtoTCP:
		l4[12], l4[13] = 5<<4, d.flags
		binary.BigEndian.PutUint16(l4[14:], 65535)
		sum = 16
	case packet.ProtoUDP, packet.ProtoUDPLite:
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		sum = 6
	case packet.ProtoDCCP:
		l4[4] = 3 // words of the header
		sum = 6
	case packet.ProtoSCTP:
		binary.LittleEndian.PutUint32(l4[8:], packet.SCTPChecksum(l4))
	case packet.ProtoICMP, packet.ProtoICMPv6:
		binary.BigEndian.PutUint16(l4, t.DstPort)
		binary.BigEndian.PutUint16(l4[4:], t.SrcPort)
		sum = 2
	}
	var info packet.Info
	if sum == 0 || packet.Parse(b, len(b), &info) != packet.OK {
		return b, d.total
	}
	if c, ok := packet.L4Checksum(b, &info); ok {
		binary.BigEndian.PutUint16(l4[sum:], c)
	}
	return b, d.total
}

// chooseSource gives a packet a source port, or an ICMP request an identifier, that
// no connection has, if it has none: it is a first packet then.
func (w *Worker) chooseSource(d *description) {
	t := &d.tuple
	if t.SrcPort != 0 || !packet.HasPorts(t.Proto) && !t.IsICMPRequest() {
		return
	}
	for t.SrcPort = 49152; t.SrcPort != 0; t.SrcPort++ { // the dynamic ones, RFC 6335
		if key := conntrack.MakeKey(*t); w.unused(&key) {
			return
		}
	}
	t.SrcPort = 49152
}
