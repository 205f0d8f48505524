// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// icmpError passes on an ICMP error about a packet of a connection: to whoever
// sent that packet, with the quoted packet as it was when it was sent.
func (w *Worker) icmpError(p *pkt, info *packet.Info) Reason {
	inner := &w.inner
	if r := packet.ParseInner(p.data, info, inner); r != packet.OK {
		return Reason(r)
	}
	// The quoted packet travelled towards where the error comes from, as it left
	// here: its answer is what would arrive.
	key := conntrack.MakeKey(inner.Reply())
	ref := w.conns.Lookup(&key)
	if ref == conntrack.NoRef {
		return ReasonUnrelatedICMP
	}
	c := w.conns.Conn(ref)
	if c.Dirs[ref.Dir()].Gen != w.gen {
		keep, r := w.revalidate(p, ref)
		if r != ReasonNone {
			return r
		}
		if !keep {
			return ReasonUnrelatedICMP
		}
	}
	back, quoted := &c.Dirs[ref.Dir()], &c.Dirs[ref.Other().Dir()]
	if back.In != p.nb.IPort {
		return ReasonSpoofed
	}
	if back.Flags&conntrack.FlagNAT != 0 {
		src := info.Src
		if src == back.Src { // from the far end itself: it has another name here
			src = quoted.Dst
		}
		partial := p.nb.Flags&abi.NbCsumPartial != 0 && info.IsPartial(p.nb.CsumStart, p.nb.CsumOffset)
		packet.RewriteError(p.data, info, inner, src, quoted.Src, quoted.Tuple(), partial)
	}
	in := w.counters(p.nb.IPort)
	in.RxPackets++
	in.RxBytes += uint64(p.nb.Total)
	w.send(p, back.Out)
	return ReasonNone
}

// unreachable answers drops that the sender should know of at once.
func (w *Worker) unreachable(p *pkt, info *packet.Info, r Reason) {
	switch r {
	case ReasonNoRoute:
		w.answer(p, info, packet.NetUnreachable, 0)
	case ReasonNoBackend:
		w.answer(p, info, packet.PortUnreachable, 0)
	}
}

// answer sends an ICMP error about a packet to where it came from, if there may
// be one, an nbuf is at hand, and the rate allows it (RFC 4443, section 2.4f).
func (w *Worker) answer(p *pkt, info *packet.Info, kind packet.ErrorKind, arg uint32) {
	from := w.tables.Settings.Router(info.Family)
	if from == (packet.Addr{}) || !packet.MayAnswer(info) || len(w.stock) == 0 || !w.limiter.allow(w.now) {
		return
	}
	idx := w.stock[len(w.stock)-1]
	buf := w.area.NbufBytes(idx)[abi.NbufData:]
	n := packet.BuildError(buf, kind, p.data, info, from, arg)
	if n == 0 {
		return
	}
	w.stock = w.stock[:len(w.stock)-1]
	nb := w.area.Nbuf(idx)
	*nb = abi.Nbuf{EPort: p.nb.IPort, Off: abi.NbufData, Len: uint16(n), Total: uint32(n), Flags: abi.NbDirty}
	c := w.counters(p.nb.IPort)
	c.TxPackets++
	c.TxBytes += uint64(n)
	w.queue = append(w.queue, abi.Entry(abi.OutTX, idx))
}

// limiter bounds the rate of ICMP errors: a token bucket.
type limiter struct {
	tokens float64
	last   time.Duration
}

const (
	icmpRate  = 1000 // per second and worker
	icmpBurst = 100
)

func (l *limiter) allow(now time.Duration) bool {
	l.tokens = min(icmpBurst, l.tokens+(now-l.last).Seconds()*icmpRate)
	l.last = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
