// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"math/bits"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// What a packet becomes under NAT is the answer of the other direction's tuple,
// so no other record of the translation is kept.

// translate rewrites a packet that prepare has parsed, of a connection with NAT:
// whole, TCP or UDP.
func (w *Worker) translate(p *pkt, d, other *conntrack.Dir) {
	b := p.data
	sum := other.Dst.Words() + other.Src.Words() + minus(d.Src.Words()+d.Dst.Words())
	folded := packet.Fold(sum)
	if b[0]>>4 == 4 {
		h := b[:20]
		binary.BigEndian.PutUint32(h[12:], other.Dst.V4())
		binary.BigEndian.PutUint32(h[16:], other.Src.V4())
		binary.BigEndian.PutUint16(h[10:], adjust(binary.BigEndian.Uint16(h[10:]), folded))
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
	ports := bits.RotateLeft32(other.Ports(), 16)
	binary.BigEndian.PutUint16(l4, uint16(ports))
	binary.BigEndian.PutUint16(l4[2:], uint16(ports>>16))
	c := binary.BigEndian.Uint16(l4[at:])
	if p.nb.Flags&abi.NbCsumPartial != 0 && p.nb.CsumStart == p.l4 && p.nb.CsumOffset == at {
		// The pseudo-header's sum, in which addresses count and ports do not.
		c = ^adjust(^c, folded)
	} else if c != 0 || p.proto == packet.ProtoTCP { // 0: UDP without a checksum
		c = adjust(c, packet.Fold(sum+uint64(ports)+minus(uint64(d.Ports()))))
		if c == 0 && p.proto == packet.ProtoUDP {
			c = 0xffff
		}
	}
	binary.BigEndian.PutUint16(l4[at:], c)
}

// minus is the negative of a sum of up to sixteen 32-bit words, in one's complement, where
// 0xffffffff is 0 (RFC 1624).
func minus(words uint64) uint64 { return 16*0xffffffff - words }

// adjust changes a checksum by the sum of ~old and new words (RFC 1624).
func adjust(check, delta uint16) uint16 {
	s := uint32(^check) + uint32(delta)
	return ^uint16(s + s>>16)
}

// rewrite is translate for any packet that has been parsed.
func (w *Worker) rewrite(p *pkt, info *packet.Info, other *conntrack.Dir) {
	rw := packet.NewRewrite(info.Tuple, other.Tuple().Reply())
	partial := p.nb.Flags&abi.NbCsumPartial != 0 && info.IsPartial(p.nb.CsumStart, p.nb.CsumOffset)
	rw.Apply(p.data, info, partial)
}
