// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// What a packet becomes under NAT is the answer of the other direction's tuple,
// so no other record of the translation is kept, but for what it adds to
// checksums.

// translate rewrites a packet that prepare has parsed, of a connection with NAT:
// whole, TCP or UDP.
func (w *Worker) translate(p *pkt, d, other *conntrack.Dir) {
	b := p.data
	if b[0]>>4 == 4 {
		h := b[:20]
		binary.BigEndian.PutUint32(h[12:], other.Dst.V4())
		binary.BigEndian.PutUint32(h[16:], other.Src.V4())
		binary.BigEndian.PutUint16(h[10:], adjust(binary.BigEndian.Uint16(h[10:]), d.SumIP))
	} else {
		h := b[:40]
		binary.BigEndian.PutUint64(h[8:], other.Dst.Hi)
		binary.BigEndian.PutUint64(h[16:], other.Dst.Lo)
		binary.BigEndian.PutUint64(h[24:], other.Src.Hi)
		binary.BigEndian.PutUint64(h[32:], other.Src.Lo)
	}
	l4, at := b[p.l4:], uint16(6)
	if p.proto == packet.ProtoTCP {
		at = 16
	}
	binary.BigEndian.PutUint16(l4, uint16(other.L4>>16))
	binary.BigEndian.PutUint16(l4[2:], uint16(other.L4))
	c := binary.BigEndian.Uint16(l4[at:])
	switch {
	case p.nb.Flags&abi.NbCsumPartial != 0 && p.nb.CsumStart == p.l4 && p.nb.CsumOffset == at:
		// The pseudo-header's sum, in which addresses count and ports do not.
		c = ^adjust(^c, d.SumIP)
	case p.proto == packet.ProtoTCP:
		c = adjust(c, d.SumL4)
	case c != 0: // 0: UDP without a checksum
		if c = adjust(c, d.SumL4); c == 0 {
			c = 0xffff
		}
	}
	binary.BigEndian.PutUint16(l4[at:], c)
}

// adjust changes a checksum by the sum of ~old and new words (RFC 1624).
func adjust(check, delta uint16) uint16 {
	s := uint32(^check) + uint32(delta)
	return ^uint16(s + s>>16)
}

// setSums works out what translate adds to the checksums of a direction.
func setSums(d, other *conntrack.Dir) {
	from, to := d.Tuple(), other.Tuple().Reply()
	change := func(old, new packet.Addr, initial uint16) uint16 {
		o, n := old.As16(), new.As16()
		return packet.Sum(n[:], packet.Sum(complement(o), initial))
	}
	d.SumIP = change(from.Dst, to.Dst, change(from.Src, to.Src, 0))
	words := [8]byte{}
	binary.BigEndian.PutUint16(words[0:], ^from.SrcPort)
	binary.BigEndian.PutUint16(words[2:], ^from.DstPort)
	binary.BigEndian.PutUint16(words[4:], to.SrcPort)
	binary.BigEndian.PutUint16(words[6:], to.DstPort)
	d.SumL4 = packet.Sum(words[:], d.SumIP)
}

func complement(b [16]byte) []byte {
	for i := range b {
		b[i] = ^b[i]
	}
	return b[:]
}

// rewrite is translate for any packet that has been parsed.
func (w *Worker) rewrite(p *pkt, info *packet.Info, other *conntrack.Dir) {
	rw := packet.NewRewrite(info.Tuple, other.Tuple().Reply())
	partial := p.nb.Flags&abi.NbCsumPartial != 0 && info.IsPartial(p.nb.CsumStart, p.nb.CsumOffset)
	rw.Apply(p.data, info, partial)
}
