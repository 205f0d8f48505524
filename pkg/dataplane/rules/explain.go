// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"netio.dev/netio/pkg/dataplane/packet"
)

// Step is what Trace tells of one rule.
type Step struct {
	Rule string // as RuleName
	// Outcome is "no match", "allow", "deny", "pass", "audit" (not enforced) or
	// "skipped" (passed over by a pass rule); of the last step "allow" or "deny".
	Outcome string
	// Detail says why.
	Detail string
	// Audit: the step belongs to the second look, with audited policies enforced.
	Audit bool
}

// Trace gives Evaluate's verdict, and which rules were looked at in which order
// with what outcome. It allocates; it is for showing to people.
func (l *List) Trace(peer packet.Addr, proto uint8, port uint16, typ, code uint8) (Verdict, []Step) {
	q := newQuery(peer, proto, port, typ, code)
	v, steps := l.trace(&q, false)
	if l.audits && v.Allow {
		w, more := l.trace(&q, true)
		steps = append(steps, more...)
		if !w.Allow {
			v.Audit, v.Rule = true, w.Rule
		}
	}
	return v, steps
}

// trace is decide, telling.
func (l *List) trace(q *query, audited bool) (Verdict, []Step) {
	var steps []Step
	say := func(i int, outcome, detail string) {
		steps = append(steps, Step{Rule: l.RuleName(int32(i)), Outcome: outcome, Detail: detail, Audit: audited})
	}
	v := Verdict{Rule: -1}
	n := len(l.rules)
	for i := 0; i < n; {
		r := &l.rules[i]
		if r.audit && !audited {
			say(i, "audit", "its policy is in audit mode and not enforced")
			i++
			continue
		}
		if why := l.mismatch(r, q); why != "" {
			say(i, "no match", why)
			i++
			continue
		}
		v.Log = v.Log || r.log
		switch r.action {
		case actionAllow:
			say(i, "allow", "matches")
			v.Allow, v.Rule = true, int32(i)
			return v, steps
		case actionPass:
			say(i, "pass", fmt.Sprintf("matches; the other rules of tier %d do not count", l.labels[i].tier))
			for i++; i < int(r.next); i++ {
				say(i, "skipped", "a rule before it has passed the packet to the next tier")
			}
		default:
			say(i, "deny", "matches")
			v.Rule = int32(i)
			return v, steps
		}
	}
	switch {
	case l.closedBy != "":
		say(n, "deny", "no rule allows it, and the policy isolates the pod")
		v.Rule = int32(n)
	case audited && l.auditClosedBy != "":
		say(n+1, "deny", "no rule allows it, and the policy isolates the pod")
		v.Rule = int32(n) + 1
	default:
		steps = append(steps, Step{Outcome: "allow", Detail: "no rule denies it, and no policy isolates the pod", Audit: audited})
		v.Allow = true
	}
	return v, steps
}

// mismatch says why a rule does not match, "" if it does.
func (l *List) mismatch(r *rule, q *query) string {
	if !l.matchesL4(r, q) {
		var want []string
		for _, m := range l.matches[r.match:r.matchEnd] {
			want = append(want, m.String())
		}
		return fmt.Sprintf("%s is not %s", q.l4(), strings.Join(want, " or "))
	}
	if !l.matchesPeer(r, q) {
		var want []string
		for _, i := range l.peers[r.peer:r.peerEnd] {
			s := l.sets[i]
			if s.in.Contains(q.peer) {
				want = append(want, s.name+" (it is excepted)")
			} else {
				want = append(want, s.name)
			}
		}
		if len(want) == 0 {
			return "its peers name no address set"
		}
		return fmt.Sprintf("%s is not in %s", q.peer, strings.Join(want, " or "))
	}
	return ""
}

// l4 describes the flow's protocol and port.
func (q *query) l4() string {
	switch {
	case q.proto == packet.ProtoICMP || q.proto == packet.ProtoICMPv6:
		return fmt.Sprintf("%s type %d code %d", packet.ProtocolName(q.proto), q.port>>8, q.port&0xff)
	case packet.HasPorts(q.proto):
		return fmt.Sprintf("%s port %d", packet.ProtocolName(q.proto), q.port)
	}
	return packet.ProtocolName(q.proto)
}

// String describes what the match wants.
func (m match) String() string {
	s := packet.ProtocolName(m.proto)
	switch {
	case m.icmp && m.mask == 0xffff:
		return fmt.Sprintf("%s type %d code %d", s, m.first>>8, m.first&0xff)
	case m.icmp && m.mask == 0xff00:
		return fmt.Sprintf("%s type %d", s, m.first>>8)
	case m.icmp && m.mask == 0xff:
		return fmt.Sprintf("%s code %d", s, m.first)
	case m.icmp, m.first == 0 && m.last == 0xffff:
		return s
	case m.first == m.last:
		return fmt.Sprintf("%s port %d", s, m.first)
	}
	return fmt.Sprintf("%s ports %d-%d", s, m.first, m.last)
}

// Explain is Trace in a line of words.
func (l *List) Explain(peer packet.Addr, proto uint8, port uint16, typ, code uint8) string {
	_, steps := l.Trace(peer, proto, port, typ, code)
	var b strings.Builder
	for i, s := range steps {
		switch {
		case i > 0 && s.Audit && !steps[i-1].Audit:
			b.WriteString("; if policies in audit mode were enforced: ")
		case i > 0:
			b.WriteString("; ")
		}
		if s.Rule != "" {
			fmt.Fprintf(&b, "%s: ", s.Rule)
		}
		fmt.Fprintf(&b, "%s, %s", s.Outcome, s.Detail)
	}
	return b.String()
}
