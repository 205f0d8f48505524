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
	info, f := &w.info, &w.flow
	r := Reason(packet.Parse(p.data, int(p.nb.Total), info))
	*f = flow{tables: w.tables, orig: info.Tuple, in: w.tables.Port(p.nb.IPort), inID: p.nb.IPort, rule: noRule}
	if w.dry != nil {
		f.trace = w.dry.headers(p, info, r)
	}
	switch {
	case r != ReasonNone:
	case f.in == nil:
		r = ReasonUnknownPort
	default:
		r = w.route(p, info, f)
	}
	if r != ReasonNone && r != reasonHanded {
		w.discard(p, info, r)
	}
}

// route forwards a well-formed packet, or says why not.
func (w *Worker) route(p *pkt, info *packet.Info, f *flow) Reason {
	// The source first: nobody gets an ICMP error, or a place in a table, by a
	// packet from an address that is not its own.
	if r := antiSpoofing(w, f); r != ReasonNone {
		return r
	}
	if info.TTL <= 1 {
		w.answer(p, info, packet.TimeExceeded, 0)
		return ReasonTTL
	}
	if w.dry != nil {
		w.dry.say("hop limit", "pass", "%d left", info.TTL)
	}
	switch {
	case info.FragOff != 0:
		return w.laterFragment(p, info)
	case info.IsICMPError:
		return w.icmpError(p, info)
	case w.isLocal(f) && !info.IsFragment: // nothing is put together here
		return w.local(p, info, f)
	}
	ref, r := w.connection(p, info, f)
	if r != ReasonNone {
		return r
	}
	c := w.conns.Conn(ref)
	if info.IsFragment {
		if r := w.firstFragment(p, info, ref); r != ReasonNone {
			return r
		}
	}
	if size := segmentSize(p, info); size > uint32(c.Dirs[ref.Dir()].MTU) {
		return w.oversize(p, info, ref)
	} else if w.dry != nil {
		w.dry.fits(size, &c.Dirs[ref.Dir()])
	}
	w.deliver(p, info, c, ref.Dir())
	return ReasonNone
}

// deliver rewrites, counts and sends a packet of a connection.
func (w *Worker) deliver(p *pkt, info *packet.Info, c *conntrack.Conn, dir int) {
	d := &c.Dirs[dir&1]
	if d.Flags&conntrack.FlagNAT != 0 {
		w.rewrite(p, info, &c.Dirs[dir&1^1])
		if w.dry != nil {
			w.dry.rewritten(d.Tuple(), c.Dirs[dir&1^1].Tuple().Reply())
		}
	}
	w.account(p, c, dir)
	w.send(p, d.Out)
}

// connection finds the packet's connection and sees that it is valid under
// the present tables, or makes a new one. Its state follows the packet.
func (w *Worker) connection(p *pkt, info *packet.Info, f *flow) (conntrack.Ref, Reason) {
	key := conntrack.MakeKey(info.Tuple)
	ref := w.conns.Lookup(&key)
	if ref == conntrack.NoRef {
		if lane, ok := w.homeOf(&key); ok {
			return ref, w.handOver(p, info, lane)
		}
		if w.dry != nil {
			w.dry.say("connection", "new", "none has these addresses and ports")
		}
		return w.newConnection(p, info, f)
	}
	c := w.conns.Conn(ref)
	if w.dry != nil {
		w.dry.connection(c, ref, info.TCPFlags)
	}
	if info.Proto == packet.ProtoTCP && c.TCPReopens(info.TCPFlags) {
		w.conns.Delete(ref)
		return w.newConnection(p, info, f)
	}
	switch keep, r := w.valid(p, ref); {
	case r != ReasonNone:
		if ref.Dir() == conntrack.Original {
			w.unreachable(p, info, r)
		}
		return ref, r
	case !keep:
		return w.newConnection(p, info, f)
	}
	if info.Proto == packet.ProtoTCP {
		c.TCPUpdate(ref.Dir(), info.TCPFlags, &w.timeouts)
	} else {
		c.DatagramUpdate(ref.Dir(), &w.timeouts)
	}
	return ref, ReasonNone
}

// newConnection judges the first packet of a connection and, if it may pass,
// enters the connection.
func (w *Worker) newConnection(p *pkt, info *packet.Info, f *flow) (conntrack.Ref, Reason) {
	if !opens(info.Tuple, info.TCPFlags) {
		return conntrack.NoRef, ReasonNoConnection
	}
	if r := w.judge(f); r != ReasonNone {
		w.unreachable(p, info, r)
		return conntrack.NoRef, r
	}
	ref, err := w.insert(f)
	for try := 1; try < claimTries; try++ {
		if errors.Is(err, conntrack.ErrClash) {
			if r := w.keepApart(f); r != ReasonNone {
				return ref, r
			}
		} else if errors.Is(err, errElsewhere) {
			key := conntrack.MakeKey(f.orig)
			if lane, ok := w.homeOf(&key); ok { // since a moment ago
				return ref, w.handOver(p, info, lane)
			}
		} else {
			break
		}
		ref, err = w.insert(f)
	}
	switch {
	case errors.Is(err, errElsewhere):
		return ref, ReasonNoConnection
	case errors.Is(err, conntrack.ErrClash):
		return ref, ReasonNATExhausted
	case errors.Is(err, conntrack.ErrPortFull):
		return ref, ReasonPortLimit
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

// opens tells whether a packet may be the first one of a connection. flags are
// those of TCP.
func opens(t packet.Tuple, flags uint8) bool {
	switch t.Proto {
	case packet.ProtoTCP:
		return conntrack.TCPOpens(flags)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return t.IsICMPRequest()
	}
	return true
}

func (w *Worker) insert(f *flow) (conntrack.Ref, error) {
	orig, reply := conntrack.MakeKey(f.orig), conntrack.MakeKey(f.out.Reply())
	if w.conns.Has(&reply) {
		return conntrack.NoRef, conntrack.ErrClash
	}
	if err := w.claim(&orig, &reply); err != nil {
		return conntrack.NoRef, err
	}
	ref, err := w.conns.Insert(&orig, &reply, f.inID, w.ms, w.timeouts.UDP)
	if err != nil && w.peers != nil && w.dry == nil {
		w.peers.disclaim(&orig, &reply, w.lane)
	}
	return ref, err
}

// settle writes what the stages have decided into a connection's flow entries.
func (w *Worker) settle(c *conntrack.Conn, f *flow) {
	nat := uint8(0)
	if f.out != f.orig {
		nat = conntrack.FlagNAT
	}
	o, r := &c.Dirs[conntrack.Original], &c.Dirs[conntrack.Reply]
	o.In, o.Out, o.MTU, o.Gen = f.inID, f.toID, mtuOf(f.to), w.gen
	r.In, r.Out, r.MTU, r.Gen = f.toID, f.inID, mtuOf(f.in), w.gen
	o.Flags, r.Flags = o.Flags&^conntrack.FlagNAT|nat, r.Flags&^conntrack.FlagNAT|nat
	c.Rule = f.rule.pack()
}

// valid sees that a connection holds under the present tables, and that the
// packet comes from the port that this direction's packets come from. Without
// keep the connection is gone: for a reason, or, with none, because what it
// relied on is not there any more, and the packet may open another one.
//
// One that policy forbids stays while packets come: without it the next answer
// would be picked up as the first packet of a connection the other way round,
// which policy may allow.
func (w *Worker) valid(p *pkt, ref conntrack.Ref) (keep bool, r Reason) {
	c := w.conns.Conn(ref)
	if c.Dirs[ref.Dir()].Gen != w.gen {
		keep, r := w.revalidate(c, ref)
		if r == ReasonPolicyEgress || r == ReasonPolicyIngress {
			c.Touch(w.ms)
			return true, r
		}
		if !keep {
			w.conns.Delete(ref)
			if w.dry != nil && r == ReasonNone {
				w.dry.forgotten()
			}
			return false, r
		}
	}
	if c.Dirs[ref.Dir()].In != p.nb.IPort {
		return true, ReasonSpoofed
	}
	return true, ReasonNone
}

// revalidate judges a connection of older tables anew, by its first packet.
func (w *Worker) revalidate(c *conntrack.Conn, ref conntrack.Ref) (keep bool, r Reason) {
	f := &w.again
	*f = flow{tables: w.tables, orig: c.Dirs[conntrack.Original].Tuple(), inID: c.Dirs[conntrack.Original].In}
	// The sender may have another port now: the old one's number may even be
	// somebody else's.
	if f.in = w.tables.Port(f.inID); f.in == nil || !f.sourceOK(f.orig.Src) {
		id, ok := senderOf(w.tables, f.orig.Src)
		if !ok {
			return false, ReasonNone
		}
		f.inID, f.in = id, w.tables.Port(id)
	}
	f.kept, f.keep = c.Dirs[conntrack.Reply].Tuple().Reply(), true
	if w.dry != nil {
		f.trace = w.dry.again(f.orig)
	}
	r = w.judge(f)
	switch {
	case f.moved:
		return false, ReasonNone // whatever is to be said of the new destination
	case r != ReasonNone:
		// For the report, which is about the packet.
		w.flow.rule, w.flow.toID = f.rule, f.toID
		if ref.Dir() == conntrack.Reply {
			w.flow.rule.reply, w.flow.toID = true, f.inID
		}
		return false, r
	case f.out != f.kept:
		return false, ReasonNone // its source has moved
	}
	w.settle(c, f)
	return true, ReasonNone
}

// senderOf is the port that packets from an address come from: its owner, or
// where the route to it leads.
func senderOf(t *config.Tables, src packet.Addr) (id uint32, ok bool) {
	if id, ok = t.OwnerOf(src); !ok {
		id, ok = t.Route(src)
	}
	return id, ok && t.Port(id) != nil
}

func mtuOf(port *config.Port) uint16 { return uint16(min(port.MTU, 0xffff)) }

// segmentSize is the size on the wire of a packet's largest segment.
func segmentSize(p *pkt, info *packet.Info) uint32 {
	if p.nb.GSOType != abi.GSONone && p.nb.GSOSize != 0 {
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
	if w.events == nil || !w.events.Wants(f.log) {
		return
	}
	rec := observe.Record{
		Time: w.wall(), Generation: uint64(w.gen), Rule: f.rule.pack(),
		InPort: p.nb.IPort, OutPort: f.toID, Length: p.nb.Total, Verdict: v, Reason: uint16(r), Logged: f.log,
		Tuple: observe.Tuple{Src: info.Src.As16(), Dst: info.Dst.As16(), SrcPort: info.SrcPort, DstPort: info.DstPort, Protocol: info.Proto},
	}
	w.events.Emit(&rec)
}
