// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// flow is what the golden evaluation is asked about.
type flow struct {
	peer      netip.Addr
	proto     uint8
	port      uint16
	typ, code uint8
}

// golden says what the comments of messages Port, Policy and Rule mean: tier by
// tier the best of the rules that match decides, found by search. It returns the
// deciding rule's name.
func golden(policies []*dataplanev1.Policy, sets map[string]*dataplanev1.AddressSet, ingress bool, f flow) (v Verdict, rule string) {
	allow, log, rule := goldenDecide(policies, sets, ingress, f, false)
	v.Allow, v.Log = allow, log
	if allow {
		if all, _, by := goldenDecide(policies, sets, ingress, f, true); !all {
			v.Audit, rule = true, by
		}
	}
	return v, rule
}

func goldenDecide(policies []*dataplanev1.Policy, sets map[string]*dataplanev1.AddressSet, ingress bool, f flow, audited bool) (allow, log bool, by string) {
	type candidate struct {
		*dataplanev1.Rule
		policy string
		order  int
	}
	tiers := map[uint32][]candidate{}
	closed, auditClosed := "", ""
	order := 0
	for _, p := range policies {
		rules, isolates := p.Egress, p.IsolatesEgress
		if ingress {
			rules, isolates = p.Ingress, p.IsolatesIngress
		}
		if isolates {
			to := &closed
			if p.Audit {
				to = &auditClosed
			}
			if *to != "" {
				*to += ", "
			}
			*to += p.Name
		}
		for _, r := range rules {
			order++
			if (audited || !p.Audit) && goldenMatches(r, sets, f) {
				tiers[r.Tier] = append(tiers[r.Tier], candidate{r, p.Name, order})
			}
		}
	}
	var numbers []uint32
	for t := range tiers {
		numbers = append(numbers, t)
	}
	slices.Sort(numbers)
	for _, t := range numbers {
		best := slices.MinFunc(tiers[t], func(a, b candidate) int {
			of := map[dataplanev1.Action]int{dataplanev1.Action_DENY: 0, dataplanev1.Action_ALLOW: 1, dataplanev1.Action_PASS: 2}
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(of[a.Action], of[b.Action]), cmp.Compare(a.order, b.order))
		})
		log = log || best.Log
		if best.Action != dataplanev1.Action_PASS {
			return best.Action == dataplanev1.Action_ALLOW, log, best.policy + "/" + best.Name
		}
	}
	if closed != "" {
		return false, log, "isolation by " + closed
	}
	if audited && auditClosed != "" {
		return false, log, "isolation by " + auditClosed
	}
	return true, log, ""
}

func goldenMatches(r *dataplanev1.Rule, sets map[string]*dataplanev1.AddressSet, f flow) bool {
	in := func(prefixes []string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return netip.MustParsePrefix(p).Contains(f.peer) })
	}
	if len(r.Peers) > 0 && !slices.ContainsFunc(r.Peers, func(n string) bool { return in(sets[n].Prefixes) && !in(sets[n].Except) }) {
		return false
	}
	return len(r.L4) == 0 || slices.ContainsFunc(r.L4, func(m *dataplanev1.L4Match) bool {
		if uint8(m.Protocol) != f.proto {
			return false
		}
		if f.proto == 1 || f.proto == 58 {
			return (m.IcmpType == nil || *m.IcmpType == uint32(f.typ)) && (m.IcmpCode == nil || *m.IcmpCode == uint32(f.code))
		}
		port := uint32(f.port)
		switch {
		case m.FirstPort == 0 && m.LastPort == 0:
			return true
		case m.LastPort == 0:
			return port == m.FirstPort
		}
		return m.FirstPort <= port && port <= m.LastPort
	})
}

// random makes policies in a world so small that rules meet.
type random struct{ *rand.Rand }

func (r random) one(n int) bool { return r.IntN(n) == 0 }

func (r random) addr() netip.Addr {
	if r.one(3) {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(r.IntN(16))})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))})
}

func (r random) prefixes(n int) []string {
	var out []string
	for range r.IntN(n + 1) {
		a := r.addr()
		out = append(out, netip.PrefixFrom(a, a.BitLen()-r.IntN(5)).Masked().String())
	}
	return out
}

func (r random) proto() uint8 { return []uint8{1, 6, 6, 17, 47, 58, 132}[r.IntN(7)] }

func (r random) flow() flow {
	return flow{r.addr(), r.proto(), uint16(r.IntN(8)), uint8(r.IntN(3)), uint8(r.IntN(3))}
}

func (r random) l4() *dataplanev1.L4Match {
	m := &dataplanev1.L4Match{Protocol: uint32(r.proto())}
	switch {
	case m.Protocol == 1 || m.Protocol == 58:
		if !r.one(3) {
			m.IcmpType = new(uint32)
			*m.IcmpType = uint32(r.IntN(3))
			if r.one(2) {
				m.IcmpCode = new(uint32)
				*m.IcmpCode = uint32(r.IntN(3))
			}
		}
	case packet.HasPorts(uint8(m.Protocol)) && !r.one(3):
		m.FirstPort = uint32(1 + r.IntN(6))
		if r.one(2) {
			m.LastPort = m.FirstPort + uint32(r.IntN(3))
		}
	}
	return m
}

func (r random) rules(policy string, sets []string) []*dataplanev1.Rule {
	var out []*dataplanev1.Rule
	for i := range r.IntN(5) {
		rule := &dataplanev1.Rule{
			Name: fmt.Sprintf("r%d", i), Tier: uint32(r.IntN(3)), Priority: uint32(r.IntN(3)),
			Action: dataplanev1.Action(1 + r.IntN(3)), Log: r.one(4),
		}
		for range r.IntN(3) {
			rule.Peers = append(rule.Peers, sets[r.IntN(len(sets))])
		}
		for range r.IntN(3) {
			rule.L4 = append(rule.L4, r.l4())
		}
		out = append(out, rule)
	}
	return out
}

// world is the policies of a port.
func (r random) world(nsets int) ([]*dataplanev1.Policy, map[string]*dataplanev1.AddressSet) {
	sets := map[string]*dataplanev1.AddressSet{}
	var names []string
	for i := range nsets {
		s := &dataplanev1.AddressSet{Name: fmt.Sprintf("set%d", i), Prefixes: r.prefixes(4), Except: r.prefixes(2)}
		sets[s.Name] = s
		names = append(names, s.Name)
	}
	var policies []*dataplanev1.Policy
	for i := range r.IntN(5) {
		p := &dataplanev1.Policy{Name: fmt.Sprintf("p%d", i), Audit: r.one(3), IsolatesIngress: r.one(2), IsolatesEgress: r.one(3)}
		p.Ingress, p.Egress = r.rules(p.Name, names), r.rules(p.Name, names)
		policies = append(policies, p)
	}
	return policies, sets
}

func prefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func compileAll(policies []*dataplanev1.Policy, sets map[string]*dataplanev1.AddressSet, ingress bool) *List {
	compiled := map[string]*Set{}
	for n, s := range sets {
		compiled[n] = NewSet(n, prefixes(s.Prefixes), prefixes(s.Except))
	}
	var list []Policy
	for _, p := range policies {
		list = append(list, Policy{p, compiled})
	}
	return Compile(list, ingress)
}

func TestEvaluateAgainstGolden(t *testing.T) {
	r := random{rand.New(rand.NewPCG(1, 1))}
	worlds := 1500
	if testing.Short() {
		worlds = 400
	}
	outcomes := map[string]int{}
	for w := range worlds {
		nsets := 1 + r.IntN(6)
		if w%50 == 0 {
			nsets = memoSets + 40 // more than are remembered
		}
		policies, sets := r.world(nsets)
		for _, ingress := range []bool{true, false} {
			l := compileAll(policies, sets, ingress)
			for range 30 {
				f := r.flow()
				want, rule := golden(policies, sets, ingress, f)
				if l == nil {
					if !want.Allow || want.Audit || want.Log || rule != "" {
						t.Fatalf("no list, but golden says %+v by %q", want, rule)
					}
					continue
				}
				peer := packet.AddrFrom(f.peer)
				got := l.Evaluate(peer, f.proto, f.port, f.typ, f.code)
				want.Rule = got.Rule
				if got != want || l.RuleName(got.Rule) != rule {
					t.Fatalf("%+v\n got %+v by %q\nwant %+v by %q\n%v\n%v", f, got, l.RuleName(got.Rule), want, rule, policies, sets)
				}
				traced, steps := l.Trace(peer, f.proto, f.port, f.typ, f.code)
				if traced != got {
					t.Fatalf("trace says %+v, evaluation %+v", traced, got)
				}
				checkSteps(t, steps, got, rule)
				outcomes[fmt.Sprintf("%v %v", got.Allow, got.Audit)]++
			}
		}
	}
	for _, o := range []string{"true false", "true true", "false false"} {
		if outcomes[o] < 500 {
			t.Errorf("outcome (allow, audit) %s came %d times only", o, outcomes[o])
		}
	}
}

// checkSteps holds what is told against what was decided.
func checkSteps(t *testing.T, steps []Step, v Verdict, rule string) {
	t.Helper()
	last := steps[len(steps)-1]
	want := "deny"
	if v.Allow && !v.Audit {
		want = "allow"
	}
	if last.Outcome != want {
		t.Fatalf("last step %+v, verdict %+v", last, v)
	}
	if (v.Audit || !last.Audit) && last.Rule != rule {
		t.Fatalf("last step %+v, rule %q", last, rule)
	}
	for _, s := range steps {
		if s.Detail == "" {
			t.Fatalf("step %+v says nothing", s)
		}
	}
}
