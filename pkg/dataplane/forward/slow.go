// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/observe"
	"netio.dev/netio/pkg/dataplane/packet"
)

// slow takes a packet that the fast path did not: the first one of a flow or of
// a new configuration, what is not TCP or UDP, fragments, errors.
func (w *Worker) slow(p *pkt) {
	w.Stats.SlowPath++
	info := &w.info
	if r := packet.Parse(p.data, int(p.nb.Total), info); r != packet.OK {
		w.discard(p, info, Reason(r))
		return
	}
	in := w.tables.Port(p.nb.IPort)
	if in == nil {
		w.discard(p, info, ReasonUnknownPort)
		return
	}
	if r := w.route(p, info, in); r != ReasonNone {
		w.discard(p, info, r)
	}
}

// route forwards a well-formed packet, or says why not.
func (w *Worker) route(p *pkt, info *packet.Info, in *config.Port) Reason {
	// The source first: nobody gets an ICMP error, or a place in a table, by a
	// packet from an address that is not its own.
	f := &w.flow
	*f = flow{tables: w.tables, orig: info.Tuple, in: in, inID: p.nb.IPort}
	if r := antiSpoofing(w, f); r != ReasonNone {
		return r
	}
	if info.TTL <= 1 {
		w.answer(p, info, packet.TimeExceeded, 0)
		return ReasonTTL
	}
	switch {
	case info.FragOff != 0:
		return w.laterFragment(p, info)
	case info.IsICMPError:
		return w.icmpError(p, info)
	}
	ref, r := w.connection(p, info, f)
	if r != ReasonNone {
		return r
	}
	c := w.conns.Conn(ref)
	if info.IsFragment && !w.frags.add(info, p.nb.IPort, ref, w.ms, w.tables.Settings.FragmentTimeout) {
		return ReasonFragmentFull
	}
	if info.Proto == packet.ProtoTCP {
		c.TCPUpdate(ref.Dir(), info.TCPFlags, &w.timeouts)
	} else {
		c.DatagramUpdate(ref.Dir(), &w.timeouts)
	}
	if segmentSize(p, info) > uint32(c.Dirs[ref.Dir()].MTU) {
		return w.oversize(p, info, ref)
	}
	w.deliver(p, info, c, ref.Dir())
	return ReasonNone
}

// deliver rewrites, counts and sends a packet of a connection.
func (w *Worker) deliver(p *pkt, info *packet.Info, c *conntrack.Conn, dir int) {
	d := &c.Dirs[dir&1]
	if d.Flags&conntrack.FlagNAT != 0 {
		w.rewrite(p, info, &c.Dirs[dir&1^1])
	}
	w.account(p, c, dir)
	w.send(p, d.Out)
}

// connection finds the packet's connection and sees that it is valid under
// the present tables, or makes a new one.
func (w *Worker) connection(p *pkt, info *packet.Info, f *flow) (conntrack.Ref, Reason) {
	key := conntrack.MakeKey(info.Tuple)
	ref := w.conns.Lookup(&key)
	if ref != conntrack.NoRef {
		switch c := w.conns.Conn(ref); {
		case info.Proto == packet.ProtoTCP && c.TCPReopens(info.TCPFlags):
			w.conns.Delete(ref)
		case c.Dirs[ref.Dir()].Gen == w.gen:
			if c.Dirs[ref.Dir()].In != p.nb.IPort {
				return ref, ReasonSpoofed
			}
			return ref, ReasonNone
		default:
			keep, r := w.revalidate(p, ref)
			if r != ReasonNone {
				return ref, r
			}
			if keep {
				return ref, ReasonNone
			}
			w.conns.Delete(ref)
		}
	}
	return w.newConnection(p, info, f)
}

// newConnection judges the first packet of a connection and, if it may pass,
// enters the connection.
func (w *Worker) newConnection(p *pkt, info *packet.Info, f *flow) (conntrack.Ref, Reason) {
	switch info.Proto {
	case packet.ProtoTCP:
		if !conntrack.TCPOpens(info.TCPFlags) {
			return conntrack.NoRef, ReasonNoConnection
		}
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if !info.IsICMPRequest() {
			return conntrack.NoRef, ReasonNoConnection
		}
	}
	if r := w.judge(f); r != ReasonNone {
		w.unreachable(p, info, r)
		return conntrack.NoRef, r
	}
	orig := conntrack.MakeKey(f.orig)
	reply := conntrack.MakeKey(f.out.Reply())
	ref, err := w.conns.Insert(&orig, &reply, f.inID, w.ms, w.timeouts.UDP)
	switch {
	case errors.Is(err, conntrack.ErrPortFull):
		return ref, ReasonPortLimit
	case errors.Is(err, conntrack.ErrClash):
		return ref, ReasonNATExhausted
	case err != nil:
		return ref, ReasonTableFull
	}
	c := w.conns.Conn(ref)
	if info.Proto == packet.ProtoTCP {
		c.TCPStart(info.TCPFlags, &w.timeouts)
	} else {
		c.DatagramStart(&w.timeouts)
	}
	w.settle(c, f)
	verdict := observe.Allow
	if f.audit {
		verdict = observe.Audit
	}
	w.report(p, info, f, verdict, ReasonNone)
	return ref, ReasonNone
}

// settle writes what the stages have decided into a connection's flow entries.
func (w *Worker) settle(c *conntrack.Conn, f *flow) {
	nat := uint16(0)
	if f.out != f.orig {
		nat = conntrack.FlagNAT
	}
	o, r := &c.Dirs[conntrack.Original], &c.Dirs[conntrack.Reply]
	o.In, o.Out, o.MTU, o.Flags, o.Gen = f.inID, f.toID, mtuOf(f.to), nat, w.gen
	r.In, r.Out, r.MTU, r.Flags, r.Gen = f.toID, f.inID, mtuOf(f.in), nat, w.gen
	c.Rule = f.rule.pack()
}

// revalidate judges a connection of older tables anew. It returns whether it
// goes on; if not, the packet may open a new one. A reason other than none
// drops the packet, and the connection with it.
func (w *Worker) revalidate(p *pkt, ref conntrack.Ref) (bool, Reason) {
	c := w.conns.Conn(ref)
	f := &w.again
	*f = flow{tables: w.tables, orig: c.Dirs[conntrack.Original].Tuple(), inID: c.Dirs[conntrack.Original].In}
	if f.in = w.tables.Port(f.inID); f.in == nil {
		return false, ReasonNone
	}
	f.kept = c.Dirs[conntrack.Reply].Tuple().Reply()
	f.keep = true
	if r := w.judge(f); r != ReasonNone {
		w.conns.Delete(ref)
		return false, r
	}
	if f.out != f.kept {
		return false, ReasonNone // its service has moved
	}
	w.settle(c, f)
	if c.Dirs[ref.Dir()].In != p.nb.IPort {
		return false, ReasonNone
	}
	return true, ReasonNone
}

func mtuOf(port *config.Port) uint16 { return uint16(min(port.MTU, 0xffff)) }

// segmentSize is the size on the wire of a packet's largest segment.
func segmentSize(p *pkt, info *packet.Info) uint32 {
	if p.nb.GSOType != abi.GSONone && p.nb.GSOSize > 0 {
		return uint32(info.HdrLen) + uint32(p.nb.GSOSize)
	}
	return info.TotalLen
}

// discard drops a packet, counts and reports it.
func (w *Worker) discard(p *pkt, info *packet.Info, r Reason) {
	verdict := observe.Drop
	if r == ReasonPolicyEgress || r == ReasonPolicyIngress {
		verdict = observe.Deny
	}
	w.report(p, info, &w.flow, verdict, r)
	w.drop(p, r)
}

// report tells monitors of a verdict, if there are any.
func (w *Worker) report(p *pkt, info *packet.Info, f *flow, v observe.Verdict, r Reason) {
	if w.events == nil || !w.events.Active() {
		return
	}
	rec := observe.Record{
		Time: w.wall(), Generation: uint64(w.gen), Rule: f.rule.pack(),
		InPort: p.nb.IPort, OutPort: f.toID, Length: p.nb.Total, Verdict: v, Reason: uint16(r),
		Tuple: observe.Tuple{Src: info.Src.As16(), Dst: info.Dst.As16(), SrcPort: info.SrcPort, DstPort: info.DstPort, Protocol: info.Proto},
	}
	w.events.Emit(&rec)
}
