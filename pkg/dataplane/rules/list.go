// SPDX-License-Identifier: Apache-2.0

// Package rules is the policy stage's table: the rules of all policies of a
// port in one direction, merged into one list that the first packet of a flow is
// held against.
//
//	policies of a port ──merge──> tier, priority, deny before allow, order
//	                                │ first match decides; PASS: next tier
//	                                v
//	                     nothing matched: closed if a policy isolates, else open
//
// A List is immutable and safe for concurrent use; Evaluate does not allocate.
package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Verdict on a flow.
type Verdict struct {
	Allow bool
	// Audit: it would have been dropped, but the policy only audits.
	Audit bool
	// Log: a rule that matched wants it reported.
	Log bool
	// Rule that decided, for RuleName; -1 if none did: open, or closed by
	// isolation.
	Rule int32
}

// List is the merged rules of one direction of a port.
type List struct {
	rules []rule
	// What becomes of a flow that no rule matches.
	closed, closedAudit bool
	closedBy            string // names the isolating policies
}

type rule struct {
	name     string
	tier     uint32
	priority uint32
	action   dataplanev1.Action
	audit    bool
	log      bool
	anyPeer  bool
	peers    []*Set
	l4       []match
}

type match struct {
	proto       uint8
	icmp        bool
	first, last uint16
	typ, code   int16 // -1: any
}

// Policy is what Compile needs of one: the message, and the sets that its
// rules name.
type Policy struct {
	*dataplanev1.Policy
	Sets map[string]*Set
}

// Compile merges the policies' rules of a direction. It returns nil if the
// direction is open: no rule, and nothing that isolates. Every set that a rule
// names must be there (config.Validate has seen to it).
func Compile(policies []Policy, ingress bool) *List {
	l := &List{}
	var by []string
	for _, p := range policies {
		from, isolates := p.Egress, p.IsolatesEgress
		if ingress {
			from, isolates = p.Ingress, p.IsolatesIngress
		}
		if isolates {
			by = append(by, p.Name)
			if p.Audit {
				l.closedAudit = true
			} else {
				l.closed = true
			}
		}
		for _, r := range from {
			l.rules = append(l.rules, compile(p, r))
		}
	}
	if len(l.rules) == 0 && len(by) == 0 {
		return nil
	}
	slices.SortStableFunc(l.rules, func(a, b rule) int {
		return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.priority, b.priority), cmp.Compare(rank(a.action), rank(b.action)))
	})
	l.closedBy = strings.Join(by, ", ")
	return l
}

// rank puts deny before allow, and both before pass.
func rank(a dataplanev1.Action) int {
	switch a {
	case dataplanev1.Action_DENY:
		return 0
	case dataplanev1.Action_ALLOW:
		return 1
	}
	return 2
}

func compile(p Policy, r *dataplanev1.Rule) rule {
	c := rule{
		name: p.Name + "/" + r.Name, tier: r.Tier, priority: r.Priority, action: r.Action,
		audit: p.Audit, log: r.Log, anyPeer: len(r.Peers) == 0,
	}
	for _, name := range r.Peers {
		c.peers = append(c.peers, p.Sets[name])
	}
	for _, m := range r.L4 {
		k := match{proto: uint8(m.Protocol), last: 0xffff, typ: -1, code: -1}
		k.icmp = k.proto == packet.ProtoICMP || k.proto == packet.ProtoICMPv6
		if m.FirstPort != 0 || m.LastPort != 0 {
			k.first, k.last = uint16(m.FirstPort), uint16(max(m.LastPort, m.FirstPort))
		}
		if m.IcmpType != nil {
			k.typ = int16(*m.IcmpType)
		}
		if m.IcmpCode != nil {
			k.code = int16(*m.IcmpCode)
		}
		c.l4 = append(c.l4, k)
	}
	return c
}

func (r *rule) matchesPeer(peer packet.Addr) bool {
	if r.anyPeer {
		return true
	}
	for _, s := range r.peers {
		if s.Contains(peer) {
			return true
		}
	}
	return false
}

func (r *rule) matchesL4(proto uint8, port uint16, typ, code uint8) bool {
	if len(r.l4) == 0 {
		return true
	}
	for i := range r.l4 {
		m := &r.l4[i]
		if m.proto != proto {
			continue
		}
		if m.icmp {
			if (m.typ < 0 || m.typ == int16(typ)) && (m.code < 0 || m.code == int16(code)) {
				return true
			}
		} else if m.first <= port && port <= m.last {
			return true
		}
	}
	return false
}

// Evaluate judges the first packet of a flow: its peer (the source for ingress,
// the destination for egress), protocol, destination port, and ICMP type and
// code.
func (l *List) Evaluate(peer packet.Addr, proto uint8, port uint16, typ, code uint8) Verdict {
	return l.evaluate(peer, proto, port, typ, code, nil)
}

func (l *List) evaluate(peer packet.Addr, proto uint8, port uint16, typ, code uint8, tell func(i int, what string)) Verdict {
	v := Verdict{Rule: -1}
	skip, skipping := uint32(0), false
	for i := range l.rules {
		r := &l.rules[i]
		if skipping && r.tier == skip {
			continue
		}
		switch {
		case !r.matchesL4(proto, port, typ, code):
			if tell != nil {
				tell(i, "other protocol or port")
			}
			continue
		case !r.matchesPeer(peer):
			if tell != nil {
				tell(i, "other peer")
			}
			continue
		}
		v.Log = v.Log || r.log
		switch r.action {
		case dataplanev1.Action_ALLOW:
			v.Allow = true
			if !v.Audit {
				v.Rule = int32(i)
			}
			if tell != nil {
				tell(i, "allows")
			}
			return v
		case dataplanev1.Action_DENY:
			if r.audit {
				// Only reported: the rest decides what happens to the packet.
				if !v.Audit {
					v.Audit, v.Rule = true, int32(i)
				}
				if tell != nil {
					tell(i, "would deny, but its policy only audits")
				}
				continue
			}
			v.Rule, v.Audit = int32(i), false
			if tell != nil {
				tell(i, "denies")
			}
			return v
		default:
			skip, skipping = r.tier, true
			if tell != nil {
				tell(i, "passes to the next tier")
			}
		}
	}
	switch {
	case l.closed:
		v.Rule, v.Audit = -1, false
	case l.closedAudit:
		v.Allow, v.Audit = true, true
	default:
		v.Allow = true
	}
	return v
}

// RuleName is the name of a verdict's rule, of the policy that isolates for -1,
// "" if nothing decided.
func (l *List) RuleName(i int32) string {
	switch {
	case i >= 0 && int(i) < len(l.rules):
		return l.rules[i].name
	case l.closedBy != "":
		return "isolation by " + l.closedBy
	}
	return ""
}

// Explain says in words how Evaluate came to its verdict.
func (l *List) Explain(peer packet.Addr, proto uint8, port uint16, typ, code uint8) string {
	var b strings.Builder
	v := l.evaluate(peer, proto, port, typ, code, func(i int, what string) {
		fmt.Fprintf(&b, "%s: %s; ", l.rules[i].name, what)
	})
	if v.Rule < 0 {
		switch {
		case !v.Allow:
			fmt.Fprintf(&b, "no rule allows it and %s isolates", l.closedBy)
		case v.Audit:
			fmt.Fprintf(&b, "no rule allows it and %s would isolate, but only audits", l.closedBy)
		default:
			b.WriteString("no rule denies it")
		}
	}
	return strings.TrimSuffix(b.String(), "; ")
}
