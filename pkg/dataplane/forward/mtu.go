// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// oversize handles a packet of a connection that is larger than the MTU of its
// egress port: the sender is told (RFC 1191, RFC 8201), or, where it allows, the
// packet is cut (RFC 791, section 3.2). Cutting needs the packet whole in its
// nbuf; a larger one counts as too big.
func (w *Worker) oversize(p *pkt, info *packet.Info, ref conntrack.Ref) Reason {
	c := w.conns.Conn(ref)
	d := &c.Dirs[ref.Dir()]
	mtu := int(d.MTU)
	pieces := int(info.TotalLen)/max(mtu-60, 8) + 2
	if info.DontFrag || p.nb.GSOType != abi.GSONone || int(p.nb.Total) != len(p.data) || pieces > len(w.stock) {
		if w.dry != nil {
			w.dry.say("MTU", "drop", "%d bytes do not fit into the %d of port %s", segmentSize(p, info), mtu, w.dry.port(d.Out))
		}
		w.answer(p, info, packet.PacketTooBig, uint32(mtu))
		return ReasonTooBig
	}
	if w.dry != nil {
		w.dry.say("MTU", "cut", "%d bytes do not fit into the %d of port %s: cut into pieces, which the sender allows", info.TotalLen, mtu, w.dry.port(d.Out))
	}
	if p.nb.Flags&abi.NbCsumPartial != 0 {
		if !complete(p, info) {
			return Reason(packet.BadL4)
		}
		p.nb.Flags &^= abi.NbCsumPartial
	}
	if d.Flags&conntrack.FlagNAT != 0 {
		w.rewrite(p, info, &c.Dirs[ref.Other().Dir()])
	}
	packet.DecTTL(p.data, info)
	r := packet.FragmentIPv4(p.data[:info.TotalLen], info, mtu, &w.fragHdr, func(hdr, data []byte) {
		buf := w.blank()
		n := copy(buf, hdr)
		n += copy(buf[n:], data)
		w.originate(n, d.Out)
	})
	if r != packet.OK {
		return Reason(r)
	}
	w.account(p, c, ref.Dir())
	w.free(p)
	return ReasonNone
}

// complete finishes a partial checksum of a packet that is whole in its nbuf.
func complete(p *pkt, info *packet.Info) bool {
	b := p.data[:info.TotalLen]
	if info.Proto == packet.ProtoSCTP && !info.IsFragment && info.IsPartial(p.nb.CsumStart, p.nb.CsumOffset) {
		l4 := b[info.L4Off:]
		binary.LittleEndian.PutUint32(l4[p.nb.CsumOffset:], packet.SCTPChecksum(l4))
		return true
	}
	return packet.CompleteChecksum(b, int(p.nb.CsumStart), int(p.nb.CsumOffset))
}
