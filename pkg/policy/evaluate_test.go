// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/oracle"
)

// evaluate judges a packet by the tables, as the comments of messages Port,
// Policy and Rule in dataplane.proto say it.
func evaluate(t *testing.T, r policy.Result, endpoint string, ingress bool, p oracle.Packet) oracle.Verdict {
	t.Helper()
	names, ok := r.PoliciesOf(endpoint)
	if !ok {
		t.Fatalf("endpoint %s is not in the result", endpoint)
	}
	var rules []entry
	var closed, auditClosed bool
	for _, name := range names {
		i := slices.IndexFunc(r.Policies, func(p *dataplanev1.Policy) bool { return p.Name == name })
		if i < 0 {
			t.Fatalf("policy %s of endpoint %s is not in the result", name, endpoint)
		}
		list, isolates := r.Policies[i].Egress, r.Policies[i].IsolatesEgress
		if ingress {
			list, isolates = r.Policies[i].Ingress, r.Policies[i].IsolatesIngress
		}
		auditClosed = auditClosed || isolates
		closed = closed || isolates && !r.Policies[i].Audit
		for _, rule := range list {
			rules = append(rules, entry{rule, name, r.Policies[i].Audit})
		}
	}
	slices.SortStableFunc(rules, func(a, b entry) int {
		rank := func(e entry) int {
			return slices.Index([]dataplanev1.Action{dataplanev1.Action_DENY, dataplanev1.Action_ALLOW, dataplanev1.Action_PASS}, e.Action)
		}
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Priority, b.Priority), cmp.Compare(rank(a), rank(b)))
	})

	peer := p.Dst
	if ingress {
		peer = p.Src
	}
	rules = slices.DeleteFunc(rules, func(e entry) bool { return !matches(t, r, e.Rule, peer, p) })
	out := first(rules, auditClosed)
	audited := !out.Allowed
	out = first(slices.DeleteFunc(rules, func(e entry) bool { return e.audit }), closed)
	out.Audited = out.Allowed && audited
	return out
}

// entry is a rule of an endpoint.
type entry struct {
	*dataplanev1.Rule
	policy string
	audit  bool
}

// first gives the verdict of rules that all match, in the order in which they are
// tried.
func first(rules []entry, closed bool) oracle.Verdict {
	var out oracle.Verdict
	passed := uint32(0)
	for _, rule := range rules {
		if rule.Tier == passed {
			continue
		}
		out.Logged = out.Logged || rule.Log
		if rule.Action == dataplanev1.Action_PASS {
			passed = rule.Tier
			continue
		}
		out.Allowed = rule.Action == dataplanev1.Action_ALLOW
		// The oracle knows policies by their own names, and no rules that stand for
		// what a policy closes.
		switch {
		case rule.Name == "(isolation)":
		case strings.HasPrefix(rule.policy, "NetworkPolicy:"):
			out.Rule, _, _ = strings.Cut(rule.policy, "#")
		case strings.HasPrefix(rule.policy, "ClusterNetworkPolicy:"):
			policy, _, _ := strings.Cut(rule.policy, "#")
			name, _, _ := strings.Cut(rule.Name, "#")
			out.Rule = policy + "/" + name
		default:
			out.Rule = rule.policy[strings.LastIndex(rule.policy, "/")+1:] + "/" + rule.Name
		}
		return out
	}
	out.Allowed = !closed
	return out
}

func matches(t *testing.T, r policy.Result, rule *dataplanev1.Rule, peer netip.Addr, p oracle.Packet) bool {
	t.Helper()
	from := len(rule.Peers) == 0
	for _, name := range rule.Peers {
		i := slices.IndexFunc(r.AddressSets, func(s *dataplanev1.AddressSet) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("address set %q of rule %s is not in the result", name, rule.Name)
		}
		in := func(prefixes []string) bool {
			return slices.ContainsFunc(prefixes, func(s string) bool { return netip.MustParsePrefix(s).Contains(peer) })
		}
		from = from || in(r.AddressSets[i].Prefixes) && !in(r.AddressSets[i].Except)
	}
	if !from || len(rule.L4) == 0 {
		return from
	}
	return slices.ContainsFunc(rule.L4, func(m *dataplanev1.L4Match) bool {
		if m.Protocol != uint32(p.Protocol) {
			return false
		}
		switch p.Protocol {
		case 1, 58:
			return (m.IcmpType == nil || *m.IcmpType == uint32(p.ICMPType)) &&
				(m.IcmpCode == nil || *m.IcmpCode == uint32(p.ICMPCode))
		}
		last := m.LastPort
		if last == 0 {
			last = m.FirstPort
		}
		return m.FirstPort == 0 && last == 0 || m.FirstPort <= uint32(p.DstPort) && uint32(p.DstPort) <= last
	})
}
