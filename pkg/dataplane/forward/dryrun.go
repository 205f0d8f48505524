// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"slices"
	"time"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// A dry run takes a packet through the code that forwards packets, in a worker
// that has a copy of all that the code changes:
//
//	worker ── tables, homes, affinities ──────> shadow    read by both
//	       ── connections ── overlay ─────────> shadow    its changes stay in the overlay
//	       ── fragments, limits, nbufs ─ copy ─> shadow
//	                                             │ queue
//	                                             v
//	                                    what would be sent
//
// So there is no second set of rules that could say something else. What the code
// decides on its way it tells dryRun, wherever Worker.dry is not nil.
type dryRun struct {
	tables *config.Tables
	steps  []step
	lane   int          // whose worker it is handed over to; -1: none
	local  bool         // the router answers it
	remote *config.Port // the tunnel by which it leaves
}

// rehearsal is a packet for a dry run.
type rehearsal struct {
	port  uint32   // that it comes from
	nb    abi.Nbuf // what the device says of it: flags, checksum, segments
	data  []byte   // its first bytes, all headers among them
	total int      // bytes of the whole packet
	// handed: another lane's worker has handed it over.
	handed bool
}

// outcome is what becomes of it.
type outcome struct {
	*dryRun
	reason Reason // of a drop
	sent   []sentNbuf
}

// sentNbuf is what would be sent.
type sentNbuf struct {
	nb   abi.Nbuf
	data []byte // as far as it is in the nbuf
	own  bool   // the router has made it: an answer, or a piece
}

// rehearseNbufs is how many nbufs a dry run has: for the packet and, like a worker,
// for what the router makes itself.
const rehearseNbufs = 1 + 4*stockFill

// newRehearsalArea makes the memory for a dry run.
func newRehearsalArea() (*abi.Area, error) {
	h, err := abi.Layout(abi.Geometry{Lanes: 1, NbufCount: rehearseNbufs, PortMax: 2, Device: abi.DevSoft})
	if err != nil {
		return nil, err
	}
	mem := make([]byte, h.AreaSize+abi.PageSize)
	skip := -uintptr(unsafe.Pointer(&mem[0])) % abi.PageSize
	mem = mem[skip:][:h.AreaSize]
	*(*abi.AreaHeader)(unsafe.Pointer(&mem[0])) = h
	return abi.OpenArea(mem)
}

// rehearse tells what would become of a packet, on the worker's goroutine. Nothing
// of the worker changes.
func (w *Worker) rehearse(area *abi.Area, r rehearsal) (outcome, error) {
	conns, err := w.conns.Overlay()
	if err != nil {
		return outcome{}, err
	}
	defer conns.Close()
	s := w.shadow(area, conns)
	s.handed = r.handed

	nb := area.Nbuf(0)
	*nb = r.nb
	n := copy(area.NbufBytes(0)[abi.NbufData:], r.data)
	nb.IPort, nb.Off, nb.Len, nb.Total = r.port, abi.NbufData, uint16(n), uint32(r.total)
	s.ents[0] = abi.Entry(abi.InRX, 0)
	s.try()

	o := outcome{dryRun: s.dry}
	for _, c := range s.ports {
		if c == nil {
			continue
		}
		if i := slices.IndexFunc(c.Drops[:], func(n uint64) bool { return n != 0 }); i >= 0 {
			o.reason = Reason(i)
		}
	}
	for _, e := range s.queue {
		if i := abi.Param(e); abi.Action(e) == abi.OutTX {
			nb := area.Nbuf(i)
			data := area.NbufBytes(i)[nb.Off:][:nb.Len]
			o.sent = append(o.sent, sentNbuf{nb: *nb, data: slices.Clone(data), own: i != 0})
		}
	}
	if o.reason != ReasonNone {
		o.dropped(o.reason)
	}
	return o, nil
}

// try does to the packet of nbuf 0 what vector does.
func (w *Worker) try() {
	p := &w.pipe.first().pkts[0]
	p.idx, p.n = 0, 1
	if !w.open(p) || p.nb.IPort == w.carrier && !w.decapsulate(p) {
		return
	}
	w.prepare(p)
	p.hash = w.conns.Hash(&p.key)
	var c conntrack.Conn
	var ref conntrack.Ref
	if p.fast { // the fast path looks for its connection in the overlay alone
		if ref = w.conns.Lookup(&p.key); ref != conntrack.NoRef {
			c = *w.conns.Conn(ref)
		}
	}
	before := *p
	before.data = slices.Clone(p.data)
	p.ref = w.conns.Guess(p.hash)
	w.handle(p)
	if w.Stats.SlowPath == 0 {
		w.dry.fast(&before, &c, ref)
	}
}

// shadow is a worker that can do nothing but rehearse one packet.
func (w *Worker) shadow(area *abi.Area, conns *conntrack.Table) *Worker {
	s := &Worker{
		lane: w.lane, area: area, tables: w.tables, gen: w.gen, carrier: w.carrier, tunnels: w.tunnels, ipID: w.ipID,
		conns: conns, timeouts: w.timeouts, frags: w.frags, clock: w.clock, epoch: w.epoch,
		ports: make([]*PortCounters, len(w.ports)), affinity: w.affinity, peers: w.peers,
		dry: &dryRun{tables: w.tables, lane: -1},
	}
	s.now = w.clock()
	s.ms = uint32(s.now / time.Millisecond)
	for i, c := range w.ports {
		if c != nil {
			s.ports[i] = &PortCounters{errors: c.errors}
		}
	}
	for i := range min(len(w.stock), rehearseNbufs-1) {
		s.stock = append(s.stock, uint32(1+i))
	}
	return s
}

func (d *dryRun) say(stage, verdict, format string, args ...any) {
	d.add(step{stage: stage, verdict: verdict, detail: fmt.Sprintf(format, args...)})
}

// add notes a step, unless it says what another one has said: the source is checked
// before anything else, and again as a connection's.
func (d *dryRun) add(s step) {
	if !slices.Contains(d.steps, s) {
		d.steps = append(d.steps, s)
	}
}

// headers tells of a packet that has been parsed, if it could be, and returns whom
// the stages are to tell.
func (d *dryRun) headers(p *pkt, info *packet.Info, r Reason) func(step) {
	if r != ReasonNone {
		return d.add
	}
	text := fmt.Sprintf("IPv%d %s %s", info.Family, packet.ProtocolName(info.Proto), between(info.Tuple))
	switch {
	case info.FragOff != 0:
		text += fmt.Sprintf(", fragment at byte %d", info.FragOff)
	case info.Proto == packet.ProtoTCP:
		text += " " + flagNames(info.TCPFlags)
	case info.Proto == packet.ProtoICMP, info.Proto == packet.ProtoICMPv6:
		text += fmt.Sprintf(", type %d code %d", info.ICMPType, info.ICMPCode)
	}
	text += fmt.Sprintf(", %d bytes", info.TotalLen)
	if p.nb.GSOType != abi.GSONone && p.nb.GSOSize != 0 {
		text += fmt.Sprintf(", to be cut into segments of %d", p.nb.GSOSize)
	}
	if p.nb.Flags&abi.NbCsumPartial != 0 {
		text += ", checksum left to the device"
	}
	d.add(step{stage: "headers", verdict: "pass", detail: text})
	return d.add
}

// connection tells of the one that the packet, with these TCP flags, belongs to.
func (d *dryRun) connection(c *conntrack.Conn, ref conntrack.Ref, flags uint8) {
	o := &c.Dirs[conntrack.Original]
	if o.Proto() == packet.ProtoTCP && c.TCPReopens(flags) {
		d.say("connection", "new", "the one with these addresses and ports is over (%s): it is forgotten", c.State())
		return
	}
	direction := "as the packet that opened it"
	if ref.Dir() == conntrack.Reply {
		direction = "an answer"
	}
	packets, _ := c.Counts(conntrack.Original)
	answers, _ := c.Counts(conntrack.Reply)
	s := step{stage: "connection", verdict: "known", detail: fmt.Sprintf("%s, %s; opened by %s; %d packets, %d answers", c.State(), direction, between(o.Tuple()), packets, answers)}
	if c.Dirs[ref.Dir()].Gen == d.tables.Generation {
		s.rule = RuleName(d.tables, c.Rule, o.In, o.Out)
		s.detail += "; service, route, policies and NAT are as they were decided then"
	}
	d.add(s)
}

// again tells that a connection's first packet is judged once more, and returns
// whom the stages are to tell.
func (d *dryRun) again(first packet.Tuple) func(step) {
	d.say("connection", "judge", "the configuration has changed since: %s is judged again", between(first))
	return d.add
}

// fast tells of a packet that the fast path has forwarded.
func (d *dryRun) fast(p *pkt, c *conntrack.Conn, ref conntrack.Ref) {
	var info packet.Info
	// Header checksums are not its business: an endpoint that sends a wrong one harms
	// its own connection.
	_ = packet.Parse(p.data, int(p.nb.Total), &info)
	info.Tuple, info.TCPFlags = p.key.Tuple(), p.tcp
	d.headers(p, &info, ReasonNone)
	d.connection(c, ref, p.tcp)
	dir := &c.Dirs[ref.Dir()]
	d.fits(p.size, dir)
	if dir.Flags&conntrack.FlagNAT != 0 {
		d.rewritten(dir.Tuple(), c.Dirs[ref.Other().Dir()].Tuple().Reply())
	}
}

// forgotten tells that a connection is no more, whatever was said of its first packet.
func (d *dryRun) forgotten() {
	for i := range d.steps {
		if d.steps[i].verdict == "drop" {
			d.steps[i].verdict = "gone"
		}
	}
	d.say("connection", "new", "what the old one relied on is no more: it is forgotten")
}

func (d *dryRun) rewritten(was, is packet.Tuple) {
	d.say("rewrite", "pass", "%s becomes %s", between(was), between(is))
}

func (d *dryRun) fits(size uint32, dir *conntrack.Dir) {
	d.say("MTU", "pass", "%d bytes fit into the %d of port %s", size, dir.MTU, d.port(dir.Out))
}

func (d *dryRun) answers(kind packet.ErrorKind, arg uint32, to packet.Addr) {
	text := map[packet.ErrorKind]string{
		packet.TimeExceeded: "time exceeded", packet.NetUnreachable: "no route to the destination",
		packet.PortUnreachable: "port unreachable", packet.PacketTooBig: fmt.Sprintf("too big, the MTU is %d", arg),
	}[kind]
	d.say("ICMP error", "sent", "%s: %s", to, text)
}

// dropped notes the stage that drops the packet, if it has not said so itself. The
// sender is told after that.
func (d *dryRun) dropped(r Reason) {
	if slices.ContainsFunc(d.steps, func(s step) bool { return s.verdict == "drop" }) {
		return
	}
	at := len(d.steps)
	if at > 0 && d.steps[at-1].verdict == "sent" {
		at--
	}
	d.steps = slices.Insert(d.steps, at, step{stage: stageOf(r), verdict: "drop", detail: r.Description()})
}

// stageOf is the stage that drops packets for a reason.
func stageOf(r Reason) string {
	switch r {
	case ReasonUnknownPort:
		return "ingress port"
	case ReasonSpoofed, ReasonMulticast, ReasonMartian:
		return "anti-spoofing"
	case ReasonTTL:
		return "hop limit"
	case ReasonFragmentOrder, ReasonFragmentFull, ReasonFragmentNAT:
		return "fragment"
	case ReasonNoConnection, ReasonUnrelatedICMP, ReasonTableFull, ReasonPortLimit:
		return "connection"
	case ReasonNoBackend, ReasonNoLocalBackend, ReasonServiceSource:
		return "destination NAT"
	case ReasonNoRoute, ReasonLoop:
		return "route"
	case ReasonPolicyEgress:
		return "egress policy"
	case ReasonPolicyIngress:
		return "ingress policy"
	case ReasonNATExhausted:
		return "source NAT"
	case ReasonTooBig:
		return "MTU"
	case ReasonTunnelEnd, ReasonTunnelMalformed, ReasonTunnelCongestion:
		return "tunnel"
	}
	return "headers"
}

// port is a port's name, for people.
func (d *dryRun) port(id uint32) string {
	if p := d.tables.Port(id); p != nil {
		return p.Name
	}
	return fmt.Sprintf("%d", id)
}
