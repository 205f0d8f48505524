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
	// rules in the order in which they are tried, and what they refer to by
	// ranges: Evaluate reads these three from front to back.
	rules   []rule
	matches []match
	peers   []int32 // into sets
	sets    []*Set
	labels  []label // of the rules, for people
	// audits: a policy in audit mode is among them.
	audits bool
	// Policies that close the direction, and that would if they were enforced;
	// empty if there is none.
	closedBy, auditClosedBy string
}

// rule is a compiled rule. No matches: every protocol.
type rule struct {
	match, matchEnd int32
	peer, peerEnd   int32
	next            int32 // the first rule of the next tier
	action          uint8
	audit           bool
	log             bool
	anyPeer         bool
}

// label is what a rule is called, and where it stands.
type label struct {
	policy, name string
	tier         uint32
}

// match is a compiled L4Match.
type match struct {
	proto uint8
	icmp  bool
	// Destination ports; for ICMP, type<<8 | code under mask.
	first, last, mask uint16
}

// source is a rule and the policy that it comes from.
type source struct {
	*dataplanev1.Rule
	policy *Policy
}

// Compile merges the policies' rules of a direction. It returns nil if the
// direction is open: no rule, and nothing that isolates. A rule that names a
// set that is not there matches no peer (config.Validate refuses that).
func Compile(policies []Policy, ingress bool) *List {
	l := &List{}
	var by, auditBy []string
	var sources []source
	for i := range policies {
		p := &policies[i]
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
			sources = append(sources, source{r, p})
		}
	}
	if len(sources) == 0 && len(by)+len(auditBy) == 0 {
		return nil
	}
	l.closedBy, l.auditClosedBy = strings.Join(by, ", "), strings.Join(auditBy, ", ")
	slices.SortStableFunc(sources, func(a, b source) int {
		return cmp.Or(cmp.Compare(a.GetTier(), b.GetTier()), cmp.Compare(a.GetPriority(), b.GetPriority()), cmp.Compare(rank(a.GetAction()), rank(b.GetAction())))
	})
	l.compile(sources)
	return l
}

// compile makes the rules, in the order in which they come.
func (l *List) compile(sources []source) {
	index := map[*Set]int32{}
	l.rules = make([]rule, len(sources))
	l.labels = make([]label, len(sources))
	for i, s := range sources {
		r := &l.rules[i]
		r.action, r.audit, r.log, r.anyPeer = uint8(s.GetAction()), s.policy.GetAudit(), s.GetLog(), len(s.GetPeers()) == 0
		r.peer = int32(len(l.peers))
		for _, name := range s.GetPeers() {
			set := s.policy.Sets[name]
			if set == nil {
				continue
			}
			n, ok := index[set]
			if !ok {
				n = int32(len(l.sets))
				index[set] = n
				l.sets = append(l.sets, set)
			}
			l.peers = append(l.peers, n)
		}
		r.peerEnd = int32(len(l.peers))
		r.match = int32(len(l.matches))
		for _, m := range s.GetL4() {
			l.matches = append(l.matches, compileMatch(m))
		}
		r.matchEnd = int32(len(l.matches))
		l.labels[i] = label{s.policy.GetName(), s.GetName(), s.GetTier()}
	}
	for i := len(l.rules) - 1; i >= 0; i-- {
		l.rules[i].next = int32(i + 1)
		if i+1 < len(l.rules) && l.labels[i+1].tier == l.labels[i].tier {
			l.rules[i].next = l.rules[i+1].next
		}
	}
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
