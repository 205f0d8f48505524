// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// translate rewrites a packet of a connection with NAT. What it becomes is
// the answer of the other direction's tuple, so no other record of the
// translation is kept.
func (w *Worker) translate(p *pkt, other *conntrack.Dir) {
	info := &w.natInfo
	info.Tuple = p.key.Tuple()
	info.Family = p.data[0] >> 4
	info.L4Off = p.l4
	info.FragOff = 0
	w.rewrite(p, info, other)
}

// rewrite is translate for a packet that has been parsed.
func (w *Worker) rewrite(p *pkt, info *packet.Info, other *conntrack.Dir) {
	rw := packet.NewRewrite(info.Tuple, other.Tuple().Reply())
	partial := p.nb.Flags&abi.NbCsumPartial != 0 && info.IsPartial(p.nb.CsumStart, p.nb.CsumOffset)
	rw.Apply(p.data, info, partial)
}
