// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Verdict on a flow.
type Verdict struct {
	Allow bool
	// Audit: it passes, and would not if the policies in audit mode were enforced.
	Audit bool
	// Log: a rule that decided, or passed it to the next tier, wants it reported.
	Log bool
	// Rule that decided, or with Audit would have, for RuleName; also stands for
	// a policy's isolation. -1: nothing did, the direction is open to the flow.
	Rule int32
}

// memoSets is how many sets of a List have their answer remembered during an
// evaluation. Rules of a port mostly name the same few.
const memoSets = 256

// query is a flow that is judged.
type query struct {
	peer  netip.Addr
	port  uint16 // ICMP: type<<8 | code
	proto uint8
	known [memoSets / 64]uint64 // sets that were asked
	in    [memoSets / 64]uint64 // and said yes
}

func newQuery(peer packet.Addr, proto uint8, port uint16, typ, code uint8) query {
	if proto == packet.ProtoICMP || proto == packet.ProtoICMPv6 {
		port = uint16(typ)<<8 | uint16(code)
	}
	return query{peer: peer.Netip(), port: port, proto: proto}
}

// Evaluate judges the first packet of a flow: its peer (the source for ingress,
// the destination for egress), protocol, destination port (0 for protocols
// without ports), and ICMP type and code.
func (l *List) Evaluate(peer packet.Addr, proto uint8, port uint16, typ, code uint8) Verdict {
	q := newQuery(peer, proto, port, typ, code)
	v := l.decide(&q, false)
	if l.audits && v.Allow {
		if w := l.decide(&q, true); !w.Allow {
			v.Audit, v.Rule = true, w.Rule
		}
	}
	return v
}

// Actions as rules have them.
const (
	actionAllow = uint8(dataplanev1.Action_ALLOW)
	actionPass  = uint8(dataplanev1.Action_PASS)
)

// decide gives the verdict of the enforced policies alone or, with audited, of all.
func (l *List) decide(q *query, audited bool) Verdict {
	log := false
	for i := int32(0); i < int32(len(l.rules)); {
		r := &l.rules[i]
		if r.audit && !audited || !l.matchesL4(r, q) || !l.matchesPeer(r, q) {
			i++
			continue
		}
		log = log || r.log
		switch r.action {
		case actionAllow:
			return Verdict{Allow: true, Log: log, Rule: i}
		case actionPass:
			i = r.next
		default: // what is not understood closes
			return Verdict{Log: log, Rule: i}
		}
	}
	switch n := int32(len(l.rules)); {
	case l.closedBy != "":
		return Verdict{Log: log, Rule: n}
	case audited && l.auditClosedBy != "":
		return Verdict{Log: log, Rule: n + 1}
	}
	return Verdict{Allow: true, Log: log, Rule: -1}
}

func (l *List) matchesL4(r *rule, q *query) bool {
	if r.match == r.matchEnd {
		return true
	}
	list := l.matches[r.match:r.matchEnd]
	for i := range list {
		if list[i].matches(q) {
			return true
		}
	}
	return false
}

func (m *match) matches(q *query) bool {
	switch {
	case m.proto != q.proto:
		return false
	case m.icmp:
		return q.port&m.mask == m.first
	}
	return m.first <= q.port && q.port <= m.last
}

func (l *List) matchesPeer(r *rule, q *query) bool {
	if r.anyPeer {
		return true
	}
	for _, i := range l.peers[r.peer:r.peerEnd] {
		if l.ask(i, q) {
			return true
		}
	}
	return false
}

// ask tells whether the peer is in a set, and remembers it.
func (l *List) ask(i int32, q *query) bool {
	if i >= memoSets {
		return l.sets[i].contains(q.peer)
	}
	word, bit := uint32(i)/64%(memoSets/64), uint64(1)<<(i%64)
	if q.known[word]&bit == 0 {
		q.known[word] |= bit
		if l.sets[i].contains(q.peer) {
			q.in[word] |= bit
		}
	}
	return q.in[word]&bit != 0
}

// RuleName is the name of what a Verdict's Rule stands for: "policy/rule",
// "isolation by policy, ...", or "" for -1 and numbers out of range.
func (l *List) RuleName(i int32) string {
	switch n := int32(len(l.rules)); {
	case i >= 0 && i < n:
		return l.labels[i].policy + "/" + l.labels[i].name
	case i == n && l.closedBy != "":
		return "isolation by " + l.closedBy
	case i == n+1 && l.auditClosedBy != "":
		return "isolation by " + l.auditClosedBy
	}
	return ""
}

// Len is the number of rules.
func (l *List) Len() int { return len(l.rules) }
