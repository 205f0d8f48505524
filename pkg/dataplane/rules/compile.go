// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"slices"
	"strings"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Policy is what Compile needs of one: the message, and the sets that its
// rules name.
type Policy struct {
	*dataplanev1.Policy
	Sets map[string]*Set
}

// List is the merged rules of one direction of a port.
type List struct {
	rules []rule
	sets  []*Set // that rules name, by rule.peers
	// audits: a policy in audit mode is among them.
	audits bool
	// Policies that close the direction, and that would if they were enforced;
	// empty if there is none.
	closedBy, auditClosedBy string
}

// rule is a compiled rule. What Evaluate reads of every rule comes first.
type rule struct {
	action  dataplanev1.Action
	audit   bool
	log     bool
	anyPeer bool
	l4      []match // none: every protocol
	peers   []int32 // into List.sets
	next    int     // the first rule of the next tier
	tier    uint32
	prio    uint32
	policy  string
	name    string
}

// match is a compiled L4Match.
type match struct {
	proto uint8
	icmp  bool
	// Destination ports; for ICMP, type<<8 | code under mask.
	first, last, mask uint16
}

// Compile merges the policies' rules of a direction. It returns nil if the
// direction is open: no rule, and nothing that isolates. A rule that names a
// set that is not there matches no peer (config.Validate refuses that).
func Compile(policies []Policy, ingress bool) *List {
	l := &List{}
	var by, auditBy []string
	index := map[*Set]int32{}
	for _, p := range policies {
		from, isolates := p.GetEgress(), p.GetIsolatesEgress()
		if ingress {
			from, isolates = p.GetIngress(), p.GetIsolatesIngress()
		}
		l.audits = l.audits || p.GetAudit() && (isolates || len(from) > 0)
		switch {
		case isolates && p.GetAudit():
			auditBy = append(auditBy, p.GetName())
		case isolates:
			by = append(by, p.GetName())
		}
		for _, r := range from {
			l.rules = append(l.rules, l.compile(p, r, index))
		}
	}
	if len(l.rules) == 0 && len(by)+len(auditBy) == 0 {
		return nil
	}
	slices.SortStableFunc(l.rules, func(a, b rule) int {
		return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.prio, b.prio), cmp.Compare(rank(a.action), rank(b.action)))
	})
	for i := len(l.rules) - 1; i >= 0; i-- {
		l.rules[i].next = i + 1
		if i+1 < len(l.rules) && l.rules[i+1].tier == l.rules[i].tier {
			l.rules[i].next = l.rules[i+1].next
		}
	}
	l.closedBy, l.auditClosedBy = strings.Join(by, ", "), strings.Join(auditBy, ", ")
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

func (l *List) compile(p Policy, r *dataplanev1.Rule, index map[*Set]int32) rule {
	c := rule{
		action: r.GetAction(), audit: p.GetAudit(), log: r.GetLog(), anyPeer: len(r.GetPeers()) == 0,
		tier: r.GetTier(), prio: r.GetPriority(), policy: p.GetName(), name: r.GetName(),
	}
	for _, name := range r.GetPeers() {
		set := p.Sets[name]
		if set == nil {
			continue
		}
		i, ok := index[set]
		if !ok {
			i = int32(len(l.sets))
			index[set] = i
			l.sets = append(l.sets, set)
		}
		c.peers = append(c.peers, i)
	}
	for _, m := range r.GetL4() {
		c.l4 = append(c.l4, compileMatch(m))
	}
	return c
}

func compileMatch(m *dataplanev1.L4Match) match {
	k := match{proto: uint8(m.GetProtocol())}
	if k.icmp = k.proto == packet.ProtoICMP || k.proto == packet.ProtoICMPv6; k.icmp {
		if m.IcmpType != nil {
			k.first |= uint16(m.GetIcmpType()) << 8
			k.mask |= 0xff00
		}
		if m.IcmpCode != nil {
			k.first |= uint16(m.GetIcmpCode()) & 0xff
			k.mask |= 0xff
		}
		return k
	}
	k.first, k.last = uint16(m.GetFirstPort()), uint16(max(m.GetLastPort(), m.GetFirstPort()))
	if k.last == 0 {
		k.last = 0xffff
	}
	return k
}
