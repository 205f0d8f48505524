// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// variants are the ways in which modelNet may differ, a bit for each.
var variants = []func(*dataplanev1.Snapshot){
	without("c"),
	policy("in", "b", all(isolateIngress, ingressRule("a", allow, "set-a"))),
	policy("out", "a", all(isolateEgress, egressRule("b", allow, "set-b"), egressRule("world", allow, "world"))),
	policy("tiers", "bc", func(p *dataplanev1.Policy) {
		p.Ingress = []*dataplanev1.Rule{
			{Name: "pass", Tier: 1, Action: dataplanev1.Action_PASS, Peers: []string{"set-a"}},
			{Name: "no udp", Tier: 1, Priority: 1, Action: deny, L4: []*dataplanev1.L4Match{{Protocol: 17}}},
			{Name: "no 80", Tier: 2, Action: deny, L4: []*dataplanev1.L4Match{{Protocol: 6, FirstPort: 80}}},
		}
	}),
	services,
	func(s *dataplanev1.Snapshot) { // a second backend
		for _, n := range s.DestinationNats {
			n.Backends = append(n.Backends, &dataplanev1.Backend{Address: "10.0.0.3", Port: 8080, Weight: 3})
			if !v4(n.Address) {
				n.Backends[1].Address = "fd00::3"
			}
		}
	},
	masquerade,
	func(s *dataplanev1.Snapshot) { // the world is behind the other port
		for _, r := range s.Routes[:2] {
			r.Port = "uplink"
		}
	},
	policy("audit", "c", all(isolateIngress, isolateEgress, audited)),
	narrow(1280),
	func(s *dataplanev1.Snapshot) { // no backends
		for _, n := range s.DestinationNats {
			n.Backends = nil
		}
	},
	func(s *dataplanev1.Snapshot) { // addresses change hands
		s.Ports[0].Addresses, s.Ports[1].Addresses = s.Ports[1].Addresses, s.Ports[0].Addresses
	},
	func(s *dataplanev1.Snapshot) { // hardly any ports to choose from
		for _, n := range s.SourceNats {
			n.FirstPort, n.LastPort = 1024, 1026
		}
	},
	policy("shut", "a", isolateIngress),
	func(s *dataplanev1.Snapshot) { s.Settings = &dataplanev1.Settings{} },
	func(s *dataplanev1.Snapshot) { // no way out
		s.Routes = s.Routes[2:]
	},
	serviceSource,
	hosts("198.51.100.7", "2001:db8::7"),
	func(s *dataplanev1.Snapshot) { // other backends for what comes from outside
		for i, n := range s.DestinationNats {
			n.External = &dataplanev1.External{Silent: i%2 == 0}
			if i > 1 && len(n.Backends) > 0 {
				n.External.Backends = n.Backends[:1]
			}
		}
	},
	func(s *dataplanev1.Snapshot) { // of a few clients only
		for _, n := range s.DestinationNats {
			n.Sources = []string{"10.0.0.0/30", "fd00::/126"}
		}
	},
	func(s *dataplanev1.Snapshot) { // one address is shared
		for _, n := range s.DestinationNats[:min(len(s.DestinationNats), 1)] {
			n.Shared = true
		}
	},
	func(s *dataplanev1.Snapshot) { // each client with a backend of its own
		for _, n := range s.DestinationNats {
			n.AffinitySeconds, n.Silent = 60, true
		}
	},
}

func modelNet(bits uint32) *dataplanev1.Snapshot {
	changes := []func(*dataplanev1.Snapshot){sets, func(s *dataplanev1.Snapshot) {
		s.Ports = append(s.Ports, &dataplanev1.Port{Name: "uplink", Kind: dataplanev1.Port_HOST, Ifname: "netio1"})
	}}
	for i, v := range variants {
		if bits>>i&1 != 0 && i != 0 {
			changes = append(changes, v)
		}
	}
	if bits&1 != 0 {
		changes = append(changes, variants[0]) // last: others count ports
	}
	return podNet(changes...)
}

// oracle runs the forwarder and the model side by side.
type oracle struct {
	*bed
	m *model
	// past are packets that were sent, to be answered.
	past []sentPacket
	log  []string
}

type sentPacket struct {
	from, to uint32
	in, out  spec
}

func newOracle(t *testing.T) *oracle {
	o := &oracle{bed: newBedOn(t, modelNet(0), memdev.Config{}, 4096), m: &model{conns: map[packet.Tuple]*modelConn{}}}
	o.m.now = o.now
	o.m.configure(modelNet(0), maps.Clone(o.f.ids))
	return o
}

func (o *oracle) note(format string, args ...any) {
	o.log = append(o.log, fmt.Sprintf(format, args...))
}

func (o *oracle) fail(format string, args ...any) {
	o.Helper()
	log := o.log[max(0, len(o.log)-30):]
	o.Fatalf("%s\nafter:\n  %s", fmt.Sprintf(format, args...), strings.Join(log, "\n  "))
}

// run carries out a program: every byte is a decision.
func (o *oracle) run(program []byte) {
	next := func(n int) int {
		if len(program) == 0 {
			return 0
		}
		b := program[0]
		program = program[1:]
		return int(b) % n
	}
	for len(program) > 0 {
		switch next(10) {
		case 0:
			bits := uint32(next(256)) | uint32(next(256))<<8 | uint32(next(256))<<16
			o.note("configuration %024b", bits)
			snap := modelNet(bits)
			o.apply(snap)
			o.m.configure(snap, maps.Clone(o.f.ids))
		case 1:
			d := []time.Duration{time.Second, 29 * time.Second, 31 * time.Second, 119 * time.Second, 2 * time.Hour}[next(5)]
			o.note("%v pass", d)
			o.sleep(d)
			o.m.now = o.now.Truncate(time.Millisecond) // as the connection table counts
			o.m.expire()
		case 2, 3, 4, 5: // something that was sent, or its answer, again
			if len(o.past) == 0 {
				continue
			}
			p := o.past[len(o.past)-1-next(min(len(o.past), 8))]
			switch next(8) {
			case 0, 1:
				o.send(p.from, o.flags(p.in, next), nil)
			case 2: // the answer comes from elsewhere
				o.send(1+uint32(next(5)), o.flags(p.out.answer(), next), nil)
			case 3, 4: // it is refused
				kind := []packet.ErrorKind{packet.PortUnreachable, packet.TimeExceeded}[next(2)]
				src := p.out.dst
				if next(3) == 0 {
					src = map[bool]string{true: "198.51.100.9", false: "2001:db8::9"}[v4(src)]
				}
				p.out.partial = false
				e := errorFrom(src, p.out.src, p.out, kind)
				o.send(p.to, e, &p.out)
			default:
				o.send(p.to, o.flags(p.out.answer(), next), nil)
			}
		default:
			o.send(1+uint32(next(6)), o.packet(next), nil)
		}
	}
	o.compare()
}

// packet makes a packet of few kinds, so that some belong together.
func (o *oracle) packet(next func(int) int) spec {
	ends := [][]string{
		{"10.0.0.1", "10.0.0.2", "10.0.0.3", "198.51.100.7", "10.96.0.1", "10.0.0.254", "10.0.0.99", "224.0.0.1", "127.0.0.1"},
		{"fd00::1", "fd00::2", "fd00::3", "2001:db8::7", "fd00:96::1", "fd00::fe", "fd00::99", "ff02::1", "::1"},
	}[next(2)]
	s := spec{src: ends[next(4)], dst: ends[next(len(ends))], size: 24}
	switch next(4) {
	case 0:
		s.proto, s.tcp = packet.ProtoTCP, packet.TCPSyn
	case 1:
		s = echo(s.src, s.dst, 0).with(func(s *spec) { s.size = 24 })
	}
	s.sport = []uint16{1024, 1025, 8080, 40000}[next(4)]
	if s.proto != packet.ProtoICMP && s.proto != packet.ProtoICMPv6 {
		s.dport = []uint16{80, 8080, 53}[next(3)]
	}
	return o.flags(s, next)
}

// flags varies what may differ between packets of a flow.
func (o *oracle) flags(s spec, next func(int) int) spec {
	if s.proto == packet.ProtoTCP {
		s.tcp = []uint8{packet.TCPSyn, packet.TCPSyn | packet.TCPAck, packet.TCPAck, packet.TCPAck, packet.TCPAck | packet.TCPFin, packet.TCPRst}[next(6)]
	}
	s.ttl, s.df, s.partial, s.size, s.data = 64, false, false, 24, nil
	switch next(8) {
	case 0:
		s.ttl = 1
	case 1:
		s.size, s.df = 1300, true
	case 2:
		s.partial = true
	}
	return s
}

func (o *oracle) send(from uint32, s spec, quoted *spec) {
	o.Helper()
	what := ""
	if quoted != nil {
		what = " about " + fmt.Sprint(quoted.tuple())
	}
	o.note("port %d sends %v flags %#x hops %d size %d%s", from, s.tuple(), s.tcp, s.ttl, s.size, what)
	want := o.m.receive(from, s, quoted)
	before := o.total()
	sent := o.bed.receive(received{memdev.Rx{Port: from, Data: s.bytes(), Tune: s.tune}})
	got := o.reasons(before)

	if want.choose != nil && want.reason == ReasonNone && want.answer == nil {
		o.chosen(from, s, want, sent, got)
		return
	}
	var names []string
	if want.reason != ReasonNone {
		names = []string{want.reason.String()}
	}
	if !slices.Equal(got, names) {
		o.fail("dropped for %v, want %v", got, names)
	}
	switch {
	case want.reason != ReasonNone && want.answer == nil, want.answer != nil && len(sent) == 0 && o.spent(from):
		if len(sent) != 0 {
			o.fail("sent %s", describePacket(sent[0].Data))
		}
	case len(sent) != 1:
		o.fail("%d packets came out, want one", len(sent))
	case want.answer != nil:
		o.check(sent[0], from, *want.answer)
	default:
		o.check(sent[0], want.to, want.out)
		o.remember(from, want.to, s, want.out, quoted)
	}
}

// spent tells whether a port's ICMP errors may be over the limit.
func (o *oracle) spent(port uint32) bool { return o.w.counters(port).errors.spent > icmpBurst-1 }

func (o *oracle) remember(from, to uint32, in, out spec, quoted *spec) {
	if quoted == nil {
		o.past = append(o.past, sentPacket{from, to, in, out})
	}
}

// chosen sees that the forwarder has chosen well.
func (o *oracle) chosen(from uint32, s spec, want expect, sent []memdev.Packet, dropped []string) {
	o.Helper()
	if len(dropped) > 0 {
		// A backend that cannot be reached is a choice as well.
		o.possible(from, s, dropped[0])
		return
	}
	if len(sent) != 1 {
		o.fail("%d packets came out, want one", len(sent))
	}
	var info packet.Info
	if r := packet.Parse(sent[0].Data, len(sent[0].Data), &info); r != packet.OK {
		o.fail("sent what does not parse: %s", r)
	}
	if err := want.choose(info.Tuple); err != nil {
		o.fail("%v", err)
	}
	c := o.m.conns[s.tuple()]
	out := s.as(info.Tuple).hop()
	o.check(sent[0], c.out, out)
	o.remember(from, c.out, s, out, nil)
}

// possible sees that a backend may be chosen with which the packet is dropped for
// this reason. What the forwarder noted of it cannot be known here: a packet
// that is too big leaves a connection.
func (o *oracle) possible(from uint32, s spec, reason string) {
	o.Helper()
	v := o.m.judge(from, s.tuple(), nil)
	if len(v.backends) == 0 { // the choice is of a source port, and the packet too big
		v.backends = []packet.Tuple{v.out}
	}
	if reason == ReasonTooBig.String() {
		c := o.bed.connOf(s)
		e := o.m.open(from, s, s.tuple())
		if err := e.choose(c.Dirs[1].Tuple().Reply()); err != nil && !strings.Contains(err.Error(), reason) {
			o.fail("%v", err)
		}
		return
	}
	for _, b := range v.backends {
		if r := o.m.judgeTo(from, s.tuple(), b, true).reason; r.String() == reason {
			return
		}
	}
	o.fail("dropped for %s, which no choice leads to", reason)
}

// check compares a packet with what it should be.
func (o *oracle) check(got memdev.Packet, to uint32, want spec) {
	o.Helper()
	if got.Port != to {
		o.fail("sent to port %d, want %d", got.Port, to)
	}
	want.partial = false
	if data := completed(got); string(data) != string(want.bytes()) {
		o.fail("sent %s\nwant %s", describePacket(data), describePacket(want.bytes()))
	}
}

// compare holds the connection table against the model's.
func (o *oracle) compare() {
	o.Helper()
	seen := map[*modelConn]bool{}
	for _, c := range o.m.conns {
		seen[c] = true
	}
	if n := o.w.conns.Len(); n != len(seen) {
		o.fail("%d connections, want %d", n, len(seen))
	}
	for c := range seen {
		got := o.connOfTuple(c.orig)
		if got.State().String() != c.state || time.Duration(got.Timeout)*time.Millisecond != c.timeout || got.Dirs[1].Tuple() != c.reply || got.Owner != c.owner {
			o.fail("connection %v is %+v, want %+v", c.orig, got, *c)
		}
	}
}

func randomProgram(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// TestModel runs random programs, a quarter of them with dry runs.
func TestModel(t *testing.T) {
	programs := 300
	if testing.Short() {
		programs = 20
	}
	for seed := range uint64(programs) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			o := newOracle(t)
			o.blind = seed%4 != 0
			o.run(randomProgram(seed, 1500))
		})
	}
}

// FuzzForward lets the fuzzer write the programs.
func FuzzForward(f *testing.F) {
	for seed := range uint64(12) {
		f.Add(randomProgram(seed, 100+int(seed)*40))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 4000 {
			return
		}
		newOracle(t).run(program)
	})
}
