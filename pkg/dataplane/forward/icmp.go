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
		if lane, ok := w.homeOf(&key); ok {
			return w.handOver(p, info, lane)
		}
		return ReasonUnrelatedICMP
	}
	c := w.conns.Conn(ref)
	if w.dry != nil {
		w.dry.connection(c, ref, 0)
	}
	switch keep, r := w.valid(p, ref); {
	case r != ReasonNone:
		return r
	case !keep:
		return ReasonUnrelatedICMP
	}
	back, quoted := &c.Dirs[ref.Dir()], &c.Dirs[ref.Other().Dir()]
	if info.TotalLen > uint32(back.MTU) {
		return ReasonTooBig // no honest one is: RFC 1812, RFC 4443 bound them
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
	port := w.tables.Port(p.nb.IPort)
	if from == (packet.Addr{}) || port == nil || !packet.MayAnswer(info) || len(w.stock) == 0 || !w.counters(p.nb.IPort).errors.allow(w.now) {
		return
	}
	buf := w.blank()
	if n := packet.BuildError(buf[:min(len(buf), port.MTU)], kind, p.data, info, from, arg); n != 0 {
		if w.dry != nil {
			w.dry.answers(kind, arg, info.Src)
		}
		w.originate(n, p.nb.IPort)
	}
}

// blank is the room for a packet in the nbuf of the stock that originate sends
// next; the stock must not be empty.
func (w *Worker) blank() []byte {
	return w.area.NbufBytes(w.stock[len(w.stock)-1])[abi.NbufData:]
}

// originate sends the n bytes that were written to blank.
func (w *Worker) originate(n int, port uint32) {
	idx := w.stock[len(w.stock)-1]
	w.stock = w.stock[:len(w.stock)-1]
	nb := w.area.Nbuf(idx)
	*nb = abi.Nbuf{Off: abi.NbufData, Len: uint16(n), Total: uint32(n)}
	w.own = pkt{nb: nb, data: w.area.NbufBytes(idx)[abi.NbufData : abi.NbufData+n], idx: idx, n: 1}
	w.emit(&w.own, port)
}

// limiter bounds the rate of ICMP errors to a port: a token bucket that is full
// at first.
type limiter struct {
	spent float64 // tokens that are missing
	last  time.Duration
}

const (
	icmpRate  = 200 // per second
	icmpBurst = 50
)

func (l *limiter) allow(now time.Duration) bool {
	l.spent = max(0, l.spent-(now-l.last).Seconds()*icmpRate)
	l.last = now
	if l.spent > icmpBurst-1 {
		return false
	}
	l.spent++
	return true
}
