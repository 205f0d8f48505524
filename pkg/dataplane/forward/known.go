// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// forward sends a batch of packets on. Most are of a connection that is known, one nbuf long,
// and change nothing but counters: what is done for them is all in here, where a call costs as
// much as the work, and touches the packet's own cache lines and the direction's. The others
// go by handle.
func (w *Worker) forward(b *batch) {
	const (
		closing = packet.TCPFin | packet.TCPSyn | packet.TCPRst
		steady  = conntrack.FlagLive | conntrack.FlagSteady
	)
	if w.tapped {
		for i := range b.pkts[:b.n] {
			w.handle(&b.pkts[i])
		}
		return
	}
	// Of the packet before, if it was one of those: what a train has in common.
	var d *conntrack.Dir
	var in, out *PortCounters
	for i := range b.pkts[:b.n] {
		p := &b.pkts[i]
		nb := p.nb
		if !p.train || d == nil {
			d = w.conns.At(p.ref)
			if d == nil || !p.fast || !d.Has(&p.key) || d.Flags&^conntrack.FlagNAT != steady || d.Gen != w.gen || d.Out >= w.tunnels {
				w.handle(p)
				d = nil
				continue
			}
			in, out = w.known(d.In), w.known(d.Out)
		}
		if p.tcp&closing != 0 || d.In != nb.IPort || p.size > uint32(d.MTU) || p.n != 1 || in == nil || out == nil {
			w.handle(p)
			d = nil
			continue
		}
		if d.Flags&conntrack.FlagNAT != 0 {
			w.pipe.translated = true
			w.translate(p, d, w.conns.Dir(p.ref.Other()))
		}
		if d.Count(nb.Total, w.ms) {
			w.conns.Conn(p.ref).Spill(p.ref.Dir())
		}
		n := uint64(nb.Total)
		in.RxPackets++
		in.RxBytes += n
		out.TxPackets++
		out.TxBytes += n
		w.Stats.TxPackets++
		w.Stats.TxBytes += n
		p.hop()
		nb.EPort = d.Out
		nb.Flags |= abi.NbDirty
		w.queue = append(w.queue, abi.Entry(abi.OutTX, p.idx))
	}
}
