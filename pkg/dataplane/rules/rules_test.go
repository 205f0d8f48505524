// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

const (
	allow = dataplanev1.Action_ALLOW
	deny  = dataplanev1.Action_DENY
	pass  = dataplanev1.Action_PASS
)

func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

// r is a rule in a word: tier, priority, action, peers.
func r(name string, tier, prio uint32, action dataplanev1.Action, peers ...string) *dataplanev1.Rule {
	return &dataplanev1.Rule{Name: name, Tier: tier, Priority: prio, Action: action, Peers: peers}
}

var townSets = map[string]*dataplanev1.AddressSet{
	"web": {Name: "web", Prefixes: []string{"10.0.1.0/24"}},
	"db":  {Name: "db", Prefixes: []string{"10.0.2.0/24"}},
	"all": {Name: "all", Prefixes: []string{"10.0.0.0/8"}, Except: []string{"10.0.2.0/24"}},
}

func TestMerging(t *testing.T) {
	const web, db, world = "10.0.1.5", "10.0.2.5", "192.0.2.1"
	enforced := func(name string, isolates bool, rules ...*dataplanev1.Rule) *dataplanev1.Policy {
		return &dataplanev1.Policy{Name: name, IsolatesIngress: isolates, Ingress: rules}
	}
	audited := func(name string, isolates bool, rules ...*dataplanev1.Rule) *dataplanev1.Policy {
		return &dataplanev1.Policy{Name: name, IsolatesIngress: isolates, Ingress: rules, Audit: true}
	}
	type verdicts map[string]string // peer: verdict and rule
	tests := map[string]struct {
		policies []*dataplanev1.Policy
		want     verdicts
	}{
		"an isolating policy closes what its rules do not open": {
			[]*dataplanev1.Policy{enforced("p", true, r("web", 0, 0, allow, "web"))},
			verdicts{web: "allow p/web", world: "deny isolation by p"},
		},
		"one that does not isolate leaves the rest open": {
			[]*dataplanev1.Policy{enforced("p", false, r("web", 0, 0, deny, "web"))},
			verdicts{web: "deny p/web", world: "allow "},
		},
		"a policy without rules closes all": {
			[]*dataplanev1.Policy{enforced("p", true)},
			verdicts{web: "deny isolation by p"},
		},
		"deny goes before allow at the same priority, wherever it stands": {
			[]*dataplanev1.Policy{enforced("p", true, r("a", 0, 5, allow)), enforced("q", true, r("d", 0, 5, deny, "web"))},
			verdicts{web: "deny q/d", world: "allow p/a"},
		},
		"a lower priority number goes first": {
			[]*dataplanev1.Policy{enforced("p", true, r("d", 0, 5, deny)), enforced("q", true, r("a", 0, 4, allow, "web"))},
			verdicts{web: "allow q/a", world: "deny p/d"},
		},
		"a lower tier goes before any priority": {
			[]*dataplanev1.Policy{enforced("p", true, r("d", 1, 0, deny)), enforced("q", true, r("a", 0, 1000, allow, "web"))},
			verdicts{web: "allow q/a", world: "deny p/d"},
		},
		"equals are tried in order, and the first names itself": {
			[]*dataplanev1.Policy{enforced("p", true, r("one", 0, 0, allow, "web"), r("two", 0, 0, allow))},
			verdicts{web: "allow p/one", world: "allow p/two"},
		},
		"pass leaves the tier": {
			[]*dataplanev1.Policy{enforced("p", true, r("pass", 0, 0, pass, "web"), r("d", 0, 1, deny), r("late", 1, 0, allow))},
			verdicts{web: "allow p/late", world: "deny p/d"},
		},
		"pass in the last tier leads to isolation": {
			[]*dataplanev1.Policy{enforced("p", true, r("pass", 0, 0, pass, "web"), r("a", 0, 1, allow))},
			verdicts{web: "deny isolation by p", world: "allow p/a"},
		},
		"an exception is not in the set": {
			[]*dataplanev1.Policy{enforced("p", true, r("all", 0, 0, allow, "all"))},
			verdicts{web: "allow p/all", db: "deny isolation by p"},
		},
		"an audited policy closes nothing, and says what it would": {
			[]*dataplanev1.Policy{audited("p", true, r("web", 0, 0, allow, "web"), r("db", 0, 0, deny, "db"))},
			verdicts{web: "allow ", db: "audit p/db", world: "audit isolation by p"},
		},
		"an audited policy opens nothing": {
			[]*dataplanev1.Policy{audited("p", true, r("web", 0, 0, allow, "web")), enforced("q", true)},
			verdicts{web: "deny isolation by q"},
		},
		"an audited deny hides no enforced deny behind it": {
			[]*dataplanev1.Policy{audited("p", false, r("d", 0, 0, deny)), enforced("q", false, r("web", 0, 1, deny, "web"))},
			verdicts{web: "deny q/web", world: "audit p/d"},
		},
		"what an enforced rule allows before an audited deny is not reported": {
			[]*dataplanev1.Policy{audited("p", false, r("d", 0, 1, deny)), enforced("q", true, r("web", 0, 0, allow, "web"))},
			verdicts{web: "allow q/web", world: "deny isolation by q"},
		},
		"an audited isolation does not report what an enforced rule allows": {
			[]*dataplanev1.Policy{audited("p", true), enforced("q", true, r("web", 0, 0, allow, "web"))},
			verdicts{web: "allow q/web", world: "deny isolation by q"},
		},
		"an audited pass would lead past an allow to enforced isolation": {
			[]*dataplanev1.Policy{audited("p", false, r("pass", 0, 0, pass, "web")), enforced("q", true, r("a", 0, 1, allow))},
			verdicts{web: "audit isolation by q", world: "allow q/a"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := compileAll(tt.policies, townSets, true)
			for peer, want := range tt.want {
				v := l.Evaluate(addr(peer), packet.ProtoTCP, 80, 0, 0)
				got := map[bool]string{true: "allow", false: "deny"}[v.Allow]
				if v.Audit {
					got = "audit"
				}
				if got += " " + l.RuleName(v.Rule); got != want {
					t.Errorf("%s: %q, want %q", peer, got, want)
				}
			}
			if compileAll(tt.policies, townSets, false) != nil {
				t.Error("the other direction is not open")
			}
		})
	}
}

func TestLog(t *testing.T) {
	logged := func(rule *dataplanev1.Rule) *dataplanev1.Rule { rule.Log = true; return rule }
	p := &dataplanev1.Policy{Name: "p", IsolatesIngress: true, Ingress: []*dataplanev1.Rule{
		logged(r("web", 0, 0, pass, "web")), r("a", 1, 0, allow, "web"), logged(r("never", 2, 0, allow, "web")), logged(r("db", 2, 0, deny, "db")),
	}}
	l := compileAll([]*dataplanev1.Policy{p}, townSets, true)
	for peer, want := range map[string]bool{"10.0.1.5": true, "10.0.2.5": true, "10.0.3.5": false} {
		if v := l.Evaluate(addr(peer), packet.ProtoTCP, 1, 0, 0); v.Log != want {
			t.Errorf("%s: logged %v", peer, v.Log)
		}
	}
}

func TestL4Matches(t *testing.T) {
	num := func(n uint32) *uint32 { return &n }
	tests := map[string]struct {
		m         *dataplanev1.L4Match
		proto     uint8
		port      uint16
		typ, code uint8
		want      bool
	}{
		"protocol":            {&dataplanev1.L4Match{Protocol: 6}, 6, 0, 0, 0, true},
		"highest port":        {&dataplanev1.L4Match{Protocol: 6}, 6, 65535, 0, 0, true},
		"other protocol":      {&dataplanev1.L4Match{Protocol: 6}, 17, 0, 0, 0, false},
		"port":                {&dataplanev1.L4Match{Protocol: 17, FirstPort: 53}, 17, 53, 0, 0, true},
		"one above":           {&dataplanev1.L4Match{Protocol: 17, FirstPort: 53}, 17, 54, 0, 0, false},
		"first of range":      {&dataplanev1.L4Match{Protocol: 132, FirstPort: 5, LastPort: 7}, 132, 5, 0, 0, true},
		"last of range":       {&dataplanev1.L4Match{Protocol: 132, FirstPort: 5, LastPort: 7}, 132, 7, 0, 0, true},
		"below range":         {&dataplanev1.L4Match{Protocol: 132, FirstPort: 5, LastPort: 7}, 132, 4, 0, 0, false},
		"portless":            {&dataplanev1.L4Match{Protocol: 47}, 47, 0, 0, 0, true},
		"any ICMP":            {&dataplanev1.L4Match{Protocol: 1}, 1, 0, 8, 0, true},
		"type":                {&dataplanev1.L4Match{Protocol: 1, IcmpType: num(8)}, 1, 0, 8, 3, true},
		"other type":          {&dataplanev1.L4Match{Protocol: 1, IcmpType: num(8)}, 1, 0, 0, 0, false},
		"type 0":              {&dataplanev1.L4Match{Protocol: 1, IcmpType: num(0)}, 1, 0, 8, 0, false},
		"type and code":       {&dataplanev1.L4Match{Protocol: 58, IcmpType: num(1), IcmpCode: num(4)}, 58, 0, 1, 4, true},
		"type and other code": {&dataplanev1.L4Match{Protocol: 58, IcmpType: num(1), IcmpCode: num(4)}, 58, 0, 1, 0, false},
		"the other ICMP":      {&dataplanev1.L4Match{Protocol: 58}, 1, 0, 8, 0, false},
	}
	for name, tt := range tests {
		p := &dataplanev1.Policy{Name: "p", IsolatesIngress: true, Ingress: []*dataplanev1.Rule{{Name: "r", Action: allow, L4: []*dataplanev1.L4Match{tt.m}}}}
		l := compileAll([]*dataplanev1.Policy{p}, nil, true)
		if v := l.Evaluate(addr("10.0.0.1"), tt.proto, tt.port, tt.typ, tt.code); v.Allow != tt.want {
			t.Errorf("%s: %v", name, v.Allow)
		}
	}
}

func TestUnknownSetMatchesNobody(t *testing.T) {
	p := &dataplanev1.Policy{Name: "p", IsolatesIngress: true, Ingress: []*dataplanev1.Rule{r("r", 0, 0, allow, "no such set")}}
	l := compileAll([]*dataplanev1.Policy{p}, nil, true)
	if v := l.Evaluate(addr("10.0.0.1"), 6, 80, 0, 0); v.Allow {
		t.Error("allowed")
	}
	if s := l.Explain(addr("10.0.0.1"), 6, 80, 0, 0); !strings.Contains(s, "name no address set") {
		t.Error(s)
	}
}

func TestExplain(t *testing.T) {
	policies := []*dataplanev1.Policy{
		{Name: "base", IsolatesIngress: true, Ingress: []*dataplanev1.Rule{
			{Name: "dns", Action: allow, L4: []*dataplanev1.L4Match{{Protocol: 17, FirstPort: 53}, {Protocol: 6, FirstPort: 53}}},
			r("guests", 0, 1, pass, "db"), r("nobody", 0, 2, deny, "db"),
			r("inside", 1, 0, allow, "all"),
		}},
		{Name: "trial", Audit: true, Ingress: []*dataplanev1.Rule{r("no-web", 0, 0, deny, "web")}},
	}
	l := compileAll(policies, townSets, true)
	for peer, want := range map[string]string{
		"10.0.2.5": "trial/no-web: audit, its policy is in audit mode and not enforced" +
			"; base/dns: no match, TCP port 80 is not UDP port 53 or TCP port 53" +
			"; base/guests: pass, matches; the other rules of tier 0 do not count" +
			"; base/nobody: skipped, a rule before it has passed the packet to the next tier" +
			"; base/inside: no match, 10.0.2.5 is not in all (it is excepted)" +
			"; isolation by base: deny, no rule allows it, and the policy isolates the pod",
		"10.0.1.5": "trial/no-web: audit, its policy is in audit mode and not enforced" +
			"; base/dns: no match, TCP port 80 is not UDP port 53 or TCP port 53" +
			"; base/guests: no match, 10.0.1.5 is not in db" +
			"; base/nobody: no match, 10.0.1.5 is not in db" +
			"; base/inside: allow, matches" +
			"; if policies in audit mode were enforced: trial/no-web: deny, matches",
	} {
		if got := l.Explain(addr(peer), packet.ProtoTCP, 80, 0, 0); got != want {
			t.Errorf("%s:\n got %s\nwant %s", peer, got, want)
		}
	}
}

func TestRuleNameOutOfRange(t *testing.T) {
	l := compileAll([]*dataplanev1.Policy{{Name: "p", Ingress: []*dataplanev1.Rule{r("r", 0, 0, allow)}}}, nil, true)
	for _, i := range []int32{-1, -2, 1, 2, 3, 1 << 30} {
		if s := l.RuleName(i); s != "" {
			t.Errorf("%d: %q", i, s)
		}
	}
	if l.RuleName(0) != "p/r" || l.Len() != 1 {
		t.Error("the rule has lost its name")
	}
}

func TestSetUpdate(t *testing.T) {
	rnd := random{newRand()}
	for range 300 {
		in, ex := rnd.prefixes(20), rnd.prefixes(5)
		s := NewSet("s", prefixes(in), prefixes(ex))
		for range 5 {
			c := Change{Remove: prefixes(rnd.prefixes(3)), Insert: prefixes(rnd.prefixes(3)), RemoveExcept: prefixes(rnd.prefixes(2)), InsertExcept: prefixes(rnd.prefixes(2))}
			before := describe(s, rnd)
			next := s.Update(c)
			if describe(s, rnd) != before {
				t.Fatal("the old set has changed")
			}
			in = remake(in, c.Remove, c.Insert)
			ex = remake(ex, c.RemoveExcept, c.InsertExcept)
			want := NewSet("s", prefixes(in), prefixes(ex))
			if describe(next, rnd) != describe(want, rnd) || next.Len() != want.Len() {
				t.Fatalf("%+v on %v except %v", c, in, ex)
			}
			s = next
		}
		if s.Update(Change{}) != s || s.Name() != "s" {
			t.Fatal("no change makes another set")
		}
	}
}

// describe tells of every address in the small world whether it is in.
func describe(s *Set, _ random) string {
	var b strings.Builder
	for i := range 16 {
		fmt.Fprint(&b, s.Contains(addr(fmt.Sprintf("10.0.0.%d", i))), s.Contains(addr(fmt.Sprintf("fd00::%x", i))))
	}
	return b.String()
}

func remake(list []string, remove, insert []netip.Prefix) []string {
	have := map[string]bool{}
	for _, s := range list {
		have[s] = true
	}
	for _, p := range remove {
		delete(have, p.String())
	}
	for _, p := range insert {
		have[p.String()] = true
	}
	var out []string
	for s := range have {
		out = append(out, s)
	}
	return out
}
