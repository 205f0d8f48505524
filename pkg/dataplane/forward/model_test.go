// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// model is the router as one would write it on a sheet of paper: maps, linear
// searches, the configuration's messages as they are. It says what must become
// of a packet. Where the forwarder may choose (a backend, a source port), the
// model says what it may choose from and takes note of the choice.
type model struct {
	snap  *dataplanev1.Snapshot
	ids   map[string]uint32 // of ports that have a knet
	gen   int
	now   time.Duration
	conns map[packet.Tuple]*modelConn // by both tuples
}

type modelConn struct {
	orig, reply   packet.Tuple // as packets arrive
	in, out       uint32       // ports of the original direction
	owner         uint32
	gen           int
	state         string
	fins          [2]bool
	seen, timeout time.Duration
}

// expect is what must become of a packet.
type expect struct {
	reason Reason
	answer *spec // ICMP error or echo reply, to where the packet came from
	to     uint32
	out    spec // as it leaves, but for what is chosen
	// choose is set if NAT may choose: it is told how the packet has left.
	choose func(packet.Tuple) error
}

func (s spec) tuple() packet.Tuple {
	t := packet.Tuple{Src: addr(s.src), Dst: addr(s.dst), SrcPort: s.sport, DstPort: s.dport, Proto: s.protocol()}
	if t.Proto == packet.ProtoICMP || t.Proto == packet.ProtoICMPv6 {
		t.DstPort = uint16(s.typ)<<8 | uint16(s.code)
	}
	return t
}

// as is the packet with another tuple.
func (s spec) as(t packet.Tuple) spec {
	s.src, s.dst, s.sport = t.Src.String(), t.Dst.String(), t.SrcPort
	if t.Proto != packet.ProtoICMP && t.Proto != packet.ProtoICMPv6 {
		s.dport = t.DstPort
	}
	return s
}

func (m *model) port(id uint32) *dataplanev1.Port {
	for _, p := range m.snap.Ports {
		if m.ids[p.Name] == id && id != 0 {
			return p
		}
	}
	return nil
}

func mtuOfPort(p *dataplanev1.Port) int {
	if p.Mtu == 0 {
		return 1500
	}
	return int(p.Mtu)
}

func has(p *dataplanev1.Port, a packet.Addr) bool {
	return slices.ContainsFunc(p.Addresses, func(s string) bool { return addr(s) == a })
}

// owner is the pod's port that has an address.
func (m *model) owner(a packet.Addr) uint32 {
	for _, p := range m.snap.Ports {
		if p.Kind == dataplanev1.Port_POD && has(p, a) {
			return m.ids[p.Name]
		}
	}
	return 0
}

func (m *model) route(a packet.Addr) uint32 {
	best, id := -1, uint32(0)
	for _, p := range m.snap.Ports {
		if m.ids[p.Name] != 0 && has(p, a) {
			return m.ids[p.Name]
		}
	}
	for _, r := range m.snap.Routes {
		if p := netip.MustParsePrefix(r.Prefix); p.Contains(a.Netip()) && p.Bits() > best {
			best, id = p.Bits(), m.ids[r.Port]
		}
	}
	return id
}

func (m *model) sourceOK(p *dataplanev1.Port, a packet.Addr) bool {
	if p.Kind == dataplanev1.Port_POD {
		return has(p, a)
	}
	return m.owner(a) == 0
}

// allows evaluates the policies of a port for a direction.
func (m *model) allows(port *dataplanev1.Port, ingress bool, peer packet.Addr, t packet.Tuple) bool {
	type entry struct {
		*dataplanev1.Rule
		order int
	}
	var list []entry
	closed := false
	for _, name := range port.Policies {
		for _, p := range m.snap.Policies {
			if p.Name != name || p.Audit {
				continue
			}
			rules, isolates := p.Egress, p.IsolatesEgress
			if ingress {
				rules, isolates = p.Ingress, p.IsolatesIngress
			}
			closed = closed || isolates
			for _, r := range rules {
				list = append(list, entry{r, len(list)})
			}
		}
	}
	rank := map[dataplanev1.Action]int{deny: 0, allow: 1, dataplanev1.Action_PASS: 2}
	slices.SortStableFunc(list, func(a, b entry) int {
		for _, d := range []int{int(a.Tier) - int(b.Tier), int(a.Priority) - int(b.Priority), rank[a.Action] - rank[b.Action]} {
			if d != 0 {
				return d
			}
		}
		return a.order - b.order
	})
	passed := -1
	for _, r := range list {
		if int(r.Tier) == passed || !m.matches(r.Rule, peer, t) {
			continue
		}
		switch r.Action {
		case allow:
			return true
		case deny:
			return false
		}
		passed = int(r.Tier)
	}
	return !closed
}

func (m *model) matches(r *dataplanev1.Rule, peer packet.Addr, t packet.Tuple) bool {
	ok := len(r.Peers) == 0
	for _, name := range r.Peers {
		for _, s := range m.snap.AddressSets {
			in := func(list []string) bool {
				return slices.ContainsFunc(list, func(p string) bool {
					if prefix, err := netip.ParsePrefix(p); err == nil {
						return prefix.Contains(peer.Netip())
					}
					return addr(p) == peer
				})
			}
			ok = ok || s.Name == name && in(s.Prefixes) && !in(s.Except)
		}
	}
	if !ok {
		return false
	}
	for _, l := range r.L4 {
		last := max(l.LastPort, l.FirstPort)
		if last == 0 {
			last = 65535
		}
		if l.Protocol == uint32(t.Proto) && (uint32(t.DstPort) >= l.FirstPort && uint32(t.DstPort) <= last) {
			return true
		}
	}
	return len(r.L4) == 0
}

// verdict on a connection.
type verdict struct {
	reason Reason
	out    packet.Tuple // with every backend that may be chosen in backends
	to     uint32
	// backends to choose from; empty if there is no choice.
	backends []packet.Tuple
	// moved: a connection's destination is none of them.
	moved bool
	// Sources to choose from, with their ports; empty if the source stays.
	sources     []packet.Addr
	first, last uint16
}

// judge holds a connection's first packet against the configuration.
func (m *model) judge(in uint32, t packet.Tuple, kept *packet.Tuple) verdict {
	v := verdict{out: t}
	var dnat *dataplanev1.DestinationNat
	for _, n := range m.snap.DestinationNats {
		if addr(n.Address) == t.Dst && n.Protocol == uint32(t.Proto) && n.Port == uint32(t.DstPort) {
			dnat = n
		}
	}
	dsts := []packet.Tuple{t}
	host := m.port(in).Kind != dataplanev1.Port_POD && slices.Contains(m.snap.GetSettings().GetHostAddresses(), t.Src.String())
	service := func(n *dataplanev1.DestinationNat) bool { return addr(n.Address) == t.Dst }
	notAlone := func(n *dataplanev1.DestinationNat) bool { return service(n) && n.Shared }
	if dnat == nil && slices.ContainsFunc(m.snap.DestinationNats, service) && !slices.ContainsFunc(m.snap.DestinationNats, notAlone) {
		v.reason = ReasonNoBackend
		return v
	}
	if dnat != nil {
		if takes := func(p string) bool { return netip.MustParsePrefix(p).Contains(t.Src.Netip()) }; !host && len(dnat.Sources) > 0 && !slices.ContainsFunc(dnat.Sources, takes) {
			v.reason = ReasonServiceSource
			return v
		}
		list, silent := dnat.Backends, dnat.Silent
		if dnat.External != nil && m.port(in).Kind != dataplanev1.Port_POD && !host {
			list, silent = dnat.External.Backends, dnat.External.Silent
		}
		dsts = nil
		for _, b := range list {
			o := t
			o.Dst, o.DstPort = addr(b.Address), uint16(b.Port)
			if kept != nil && kept.Dst == o.Dst && kept.DstPort == o.DstPort {
				dsts = []packet.Tuple{o}
				break
			}
			dsts = append(dsts, o)
		}
		if len(dsts) == 0 {
			v.reason = ReasonNoBackend
			if silent {
				v.reason = ReasonNoLocalBackend
			}
			return v
		}
	}
	if kept != nil && !slices.ContainsFunc(dsts, func(o packet.Tuple) bool { return o.Dst == kept.Dst && o.DstPort == kept.DstPort }) {
		v.moved = true
		return v
	}
	if len(dsts) > 1 {
		v.backends = dsts
		return v // the caller finds out which
	}
	return m.judgeTo(in, t, dsts[0], dnat != nil)
}

// judgeTo is judge for one destination.
func (m *model) judgeTo(in uint32, t, out packet.Tuple, dnat bool) verdict {
	v := verdict{out: out, to: m.route(out.Dst)}
	from, to := m.port(in), m.port(v.to)
	switch {
	case to == nil:
		v.reason = ReasonNoRoute
		return v
	case v.to == in && !dnat:
		v.reason = ReasonLoop
		return v
	}
	if v.to != in {
		peerTuple := out
		if from.Kind == dataplanev1.Port_POD && !m.allows(from, false, out.Dst, peerTuple) {
			v.reason = ReasonPolicyEgress
			return v
		}
		if to.Kind == dataplanev1.Port_POD && !m.allows(to, true, t.Src, peerTuple) {
			v.reason = ReasonPolicyIngress
			return v
		}
	}
	for _, n := range m.snap.SourceNats {
		if !netip.MustParsePrefix(n.Source).Contains(t.Src.Netip()) || n.OutPort != "" && m.ids[n.OutPort] != v.to {
			continue
		}
		if slices.ContainsFunc(n.DestinationsExcept, func(p string) bool { return netip.MustParsePrefix(p).Contains(out.Dst.Netip()) }) {
			continue
		}
		for _, a := range n.Addresses {
			v.sources = append(v.sources, addr(a))
		}
		v.first, v.last = 1024, 65535
		if n.FirstPort != 0 {
			v.first, v.last = uint16(n.FirstPort), uint16(n.LastPort)
		}
		return v
	}
	if v.to == in && from.Kind == dataplanev1.Port_POD {
		v.sources, v.first, v.last = []packet.Addr{t.Dst}, 1024, 65535
	} else if v.to == in {
		source := m.snap.GetSettings().GetServiceIpv4()
		if !t.Dst.Is4() {
			source = m.snap.GetSettings().GetServiceIpv6()
		}
		if source != "" {
			v.sources, v.first, v.last = []packet.Addr{addr(source)}, 1024, 65535
		}
	}
	return v
}

// renew judges a connection of an older configuration; false if it is over.
func (m *model) renew(c *modelConn) (bool, Reason) {
	in := c.in
	if p := m.port(in); p == nil || !m.sourceOK(p, c.orig.Src) {
		if in = m.owner(c.orig.Src); in == 0 {
			in = m.route(c.orig.Src)
		}
		if in == 0 {
			return false, ReasonNone
		}
	}
	if r := addressesOK(c.orig); r != ReasonNone {
		return false, r
	}
	if !m.sourceOK(m.port(in), c.orig.Src) {
		return false, ReasonSpoofed
	}
	kept := c.reply.Reply()
	v := m.judge(in, c.orig, &kept)
	if v.moved || v.reason != ReasonNone {
		return false, v.reason
	}
	if len(v.sources) > 0 {
		if !slices.Contains(v.sources, kept.Src) {
			return false, ReasonNone
		}
		v.out.Src, v.out.SrcPort = kept.Src, kept.SrcPort
	} else if kept.Src == c.orig.Src {
		v.out.SrcPort = kept.SrcPort // told apart from another one
	}
	if v.out != kept {
		return false, ReasonNone
	}
	c.in, c.out, c.gen = in, v.to, m.gen
	return true, ReasonNone
}

func addressesOK(t packet.Tuple) Reason {
	src, dst := t.Src.Netip(), t.Dst.Netip()
	bad := func(a netip.Addr) bool {
		return a.IsLoopback() || a.IsUnspecified() || a.Is6() && a.IsLinkLocalUnicast() || a.Is4() && a.As4()[0] == 0
	}
	reserved := func(a netip.Addr) bool { return a.Is4() && a.As4()[0] >= 240 }
	switch {
	case dst.IsMulticast() || reserved(dst):
		return ReasonMulticast
	case bad(src) || bad(dst) || src.IsMulticast() || reserved(src):
		return ReasonMartian
	}
	return ReasonNone
}

func (m *model) forget(c *modelConn) {
	delete(m.conns, c.orig)
	delete(m.conns, c.reply)
}

// drop is for a connection that is over; what policy forbids stays known.
func (m *model) drop(c *modelConn, r Reason) {
	if r == ReasonPolicyEgress || r == ReasonPolicyIngress {
		c.seen = m.now
		return
	}
	m.forget(c)
}

// receive says what must become of a packet from a port. quoted is set for ICMP
// errors.
func (m *model) receive(from uint32, s spec, quoted *spec) expect {
	t := s.tuple()
	port := m.port(from)
	if port == nil {
		return expect{reason: ReasonUnknownPort}
	}
	if r := addressesOK(t); r != ReasonNone {
		return expect{reason: r}
	}
	if !m.sourceOK(port, t.Src) {
		return expect{reason: ReasonSpoofed}
	}
	if s.ttl == 1 {
		e := expect{reason: ReasonTTL}
		if quoted == nil {
			e.answer = m.icmp(s, packet.TimeExceeded, 0)
		}
		return e
	}
	if quoted != nil {
		return m.icmpError(from, s, *quoted)
	}
	if m.isLocal(t) {
		if port.Kind == dataplanev1.Port_POD && !m.allows(port, false, t.Dst, t) {
			return expect{reason: ReasonPolicyEgress}
		}
		a := s.answer()
		a.ttl = 64
		return expect{answer: &a}
	}
	c := m.conns[t]
	if c != nil && t.Proto == packet.ProtoTCP && s.tcp&(packet.TCPSyn|packet.TCPAck|packet.TCPRst) == packet.TCPSyn && (c.state == "closing" || c.state == "reset") {
		m.forget(c)
		c = nil
	}
	if c != nil && c.gen != m.gen {
		original := t == c.orig
		if ok, r := m.renew(c); !ok {
			m.drop(c, r)
			if r != ReasonNone {
				e := expect{reason: r}
				if original {
					e.answer = m.unreachable(s, r)
				}
				return e
			}
			c = nil
		}
	}
	if c == nil {
		return m.open(from, s, t)
	}
	return m.follow(c, from, s, t)
}

// follow is receive for a packet of a valid connection.
func (m *model) follow(c *modelConn, from uint32, s spec, t packet.Tuple) expect {
	dir, in, to, out := 0, c.in, c.out, c.reply.Reply()
	if t != c.orig {
		dir, in, to, out = 1, c.out, c.in, c.orig.Reply()
	}
	if in != from {
		return expect{reason: ReasonSpoofed}
	}
	m.advance(c, dir, s)
	if e := m.tooBig(s, to); e != nil {
		return *e
	}
	c.seen = m.now
	return expect{to: to, out: s.as(out).hop()}
}

func (m *model) tooBig(s spec, to uint32) *expect {
	if mtu := mtuOfPort(m.port(to)); len(s.bytes()) > mtu {
		return &expect{reason: ReasonTooBig, answer: m.icmp(s, packet.PacketTooBig, uint32(mtu))}
	}
	return nil
}

// open is receive for what may be a first packet.
func (m *model) open(from uint32, s spec, t packet.Tuple) expect {
	icmp := t.Proto == packet.ProtoICMP || t.Proto == packet.ProtoICMPv6
	if icmp && !t.IsICMPRequest() || t.Proto == packet.ProtoTCP && s.tcp&packet.TCPRst != 0 {
		return expect{reason: ReasonNoConnection}
	}
	v := m.judge(from, t, nil)
	if len(v.backends) > 0 {
		// Any of them. All lead to the same kind of verdict or not: see.
		return expect{choose: func(o packet.Tuple) error { return m.chosen(from, s, t, v.backends, o) }}
	}
	return m.enter(from, s, t, v)
}

// enter makes the connection that the verdict allows.
func (m *model) enter(from uint32, s spec, t packet.Tuple, v verdict) expect {
	if v.reason != ReasonNone {
		return expect{reason: v.reason, answer: m.unreachable(s, v.reason)}
	}
	free := func(src packet.Addr, port uint16) bool {
		o := v.out
		o.Src, o.SrcPort = src, port
		return m.conns[o.Reply()] == nil
	}
	icmp := t.Proto == packet.ProtoICMP || t.Proto == packet.ProtoICMPv6
	if len(v.sources) == 0 {
		if free(v.out.Src, v.out.SrcPort) {
			return m.made(from, s, t, v.out, v.to)
		}
		// Told apart by another source port.
		v.sources, v.first, v.last = []packet.Addr{t.Src}, 1024, 65535
	}
	// With a port of its own that is free, it keeps it, if there is one address.
	if len(v.sources) == 1 && (icmp || t.SrcPort >= v.first && t.SrcPort <= v.last) && free(v.sources[0], t.SrcPort) {
		v.out.Src = v.sources[0]
		return m.made(from, s, t, v.out, v.to)
	}
	any := false
	for _, a := range v.sources {
		for p := int(v.first); p <= int(v.last) && !any; p++ {
			any = free(a, uint16(p))
		}
		any = any || icmp && free(a, t.SrcPort)
	}
	if !any {
		return expect{reason: ReasonNATExhausted}
	}
	return expect{to: v.to, choose: func(o packet.Tuple) error {
		inRange := o.SrcPort >= v.first && o.SrcPort <= v.last || icmp && o.SrcPort == t.SrcPort
		if !slices.Contains(v.sources, o.Src) || !inRange || !free(o.Src, o.SrcPort) {
			return fmt.Errorf("source %s port %d: want a free one of %v ports %d to %d", o.Src, o.SrcPort, v.sources, v.first, v.last)
		}
		if o.Dst != v.out.Dst || o.DstPort != v.out.DstPort {
			return fmt.Errorf("destination %s port %d, want %s port %d", o.Dst, o.DstPort, v.out.Dst, v.out.DstPort)
		}
		m.made(from, s, t, o, v.to)
		return nil
	}}
}

// chosen is told which of several backends it was.
func (m *model) chosen(from uint32, s spec, t packet.Tuple, backends []packet.Tuple, o packet.Tuple) error {
	for _, b := range backends {
		if b.Dst != o.Dst || b.DstPort != o.DstPort {
			continue
		}
		e := m.enter(from, s, t, m.judgeTo(from, t, b, true))
		switch {
		case e.reason != ReasonNone:
			return fmt.Errorf("to backend %s, which is to be dropped for %s", b.Dst, e.reason)
		case e.choose != nil:
			return e.choose(o)
		case e.out.tuple() != o:
			return fmt.Errorf("left as %v, want %v", o, e.out.tuple())
		}
		return nil
	}
	return fmt.Errorf("%s port %d is none of the backends %v", o.Dst, o.DstPort, backends)
}

// made notes a connection.
func (m *model) made(from uint32, s spec, t, out packet.Tuple, to uint32) expect {
	c := &modelConn{orig: t, reply: out.Reply(), in: from, out: to, owner: from, gen: m.gen, seen: m.now}
	m.conns[c.orig], m.conns[c.reply] = c, c
	switch {
	case t.Proto == packet.ProtoTCP && s.tcp&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn:
		c.state, c.timeout = "syn-sent", 30*time.Second
	case t.Proto == packet.ProtoTCP && s.tcp&packet.TCPFin != 0:
		c.state, c.timeout = "fin-wait", 30*time.Second
		c.fins[0] = true
	case t.Proto == packet.ProtoTCP:
		c.state, c.timeout = "established", 7200*time.Second
	default:
		c.state, c.timeout = "new", 30*time.Second
	}
	if e := m.tooBig(s, to); e != nil {
		return *e
	}
	return expect{to: to, out: s.as(out).hop()}
}

// advance moves a connection's state on.
func (m *model) advance(c *modelConn, dir int, s spec) {
	if c.orig.Proto != packet.ProtoTCP {
		if dir == 1 && c.state == "new" {
			c.state, c.timeout = "established", 120*time.Second
			if c.orig.Proto != packet.ProtoUDP {
				c.timeout = 30 * time.Second
			}
		}
		return
	}
	is := func(f uint8) bool { return s.tcp&f != 0 }
	switch {
	case is(packet.TCPRst):
		c.state, c.timeout = "reset", 30*time.Second
		return
	case is(packet.TCPFin):
		c.fins[dir] = true
	}
	switch {
	case c.fins[0] && c.fins[1]:
		c.state, c.timeout = "closing", 30*time.Second
	case c.fins[0] || c.fins[1]:
		c.state, c.timeout = "fin-wait", 7200*time.Second
	case c.state == "syn-sent" && dir == 1 && is(packet.TCPSyn):
		c.state, c.timeout = "syn-received", 30*time.Second
	case c.state == "syn-sent" && dir == 1 && is(packet.TCPAck),
		c.state == "syn-received" && dir == 0 && is(packet.TCPAck),
		c.state == "reset" && is(packet.TCPAck) && !is(packet.TCPSyn):
		c.state, c.timeout = "established", 7200*time.Second
	}
}

func (m *model) icmpError(from uint32, s, quoted spec) expect {
	q := quoted.tuple()
	c := m.conns[q.Reply()]
	if c == nil {
		return expect{reason: ReasonUnrelatedICMP}
	}
	if c.gen != m.gen {
		if ok, r := m.renew(c); !ok {
			m.drop(c, r)
			if r == ReasonNone {
				r = ReasonUnrelatedICMP
			}
			return expect{reason: r}
		}
	}
	// The quoted packet left with the tuple q; it had come in as was.
	in, to, was := c.out, c.in, c.orig
	if q.Reply() == c.orig {
		in, to, was = c.in, c.out, c.reply
	}
	if in != from {
		return expect{reason: ReasonSpoofed}
	}
	if len(s.bytes()) > mtuOfPort(m.port(to)) {
		return expect{reason: ReasonTooBig}
	}
	src := addr(s.src)
	if src == q.Dst {
		src = was.Dst
	}
	out := s.hop()
	out.src, out.dst = src.String(), was.Src.String()
	out.data = quoted.as(was).bytes()[:len(s.data)]
	return expect{to: to, out: out}
}

func (m *model) isLocal(t packet.Tuple) bool {
	router := m.snap.Settings.GetIpv4()
	if !t.Dst.Is4() {
		router = m.snap.Settings.GetIpv6()
	}
	if router == "" || t.Dst != addr(router) || !t.IsICMPRequest() {
		return false
	}
	p := m.port(m.route(t.Dst))
	return p == nil || !has(p, t.Dst)
}

// icmp is the router's ICMP error about a packet, nil if it has no address.
func (m *model) icmp(s spec, kind packet.ErrorKind, mtu uint32) *spec {
	router := m.snap.Settings.GetIpv4()
	if !s.is4() {
		router = m.snap.Settings.GetIpv6()
	}
	if router == "" {
		return nil
	}
	e := icmpError(s, kind, mtu)
	e.src = router
	return &e
}

func (m *model) unreachable(s spec, r Reason) *spec {
	switch r {
	case ReasonNoRoute:
		return m.icmp(s, packet.NetUnreachable, 0)
	case ReasonNoBackend:
		return m.icmp(s, packet.PortUnreachable, 0)
	}
	return nil
}

// expire forgets connections that were silent for too long.
func (m *model) expire() {
	for _, c := range m.conns {
		if m.now-c.seen >= c.timeout {
			m.forget(c)
		}
	}
}

// configure takes another configuration; gone are the numbers of ports that were
// removed.
func (m *model) configure(snap *dataplanev1.Snapshot, ids map[string]uint32) {
	for _, c := range m.conns {
		still := false
		for name, id := range ids {
			still = still || id == c.owner && m.ids[name] == id
		}
		if !still {
			m.forget(c)
		}
	}
	m.snap, m.ids = snap, ids
	m.gen++
}
