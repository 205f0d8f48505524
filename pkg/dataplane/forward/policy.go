// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/rules"
)

// egressPolicy asks the sender's rules about the destination, behind any service.
func egressPolicy(w *Worker, f *flow) Reason {
	switch {
	case f.toItself():
		f.open("egress policy", "a pod always reaches itself", "", "")
		return ReasonNone
	case !f.in.Pod || f.in.Egress == nil:
		f.open("egress policy", "no policy covers what ", f.in.Name, " sends")
		return ReasonNone
	}
	return f.policy("egress policy", f.in.Egress, f.out.Dst, false, ReasonPolicyEgress)
}

// ingressPolicy asks the receiver's rules about the source, before any NAT.
func ingressPolicy(w *Worker, f *flow) Reason {
	switch {
	case f.toItself():
		f.open("ingress policy", "a pod always reaches itself", "", "")
		return ReasonNone
	case !f.to.Pod || f.to.Ingress == nil:
		f.open("ingress policy", "no policy covers what ", f.to.Name, " receives")
		return ReasonNone
	}
	return f.policy("ingress policy", f.to.Ingress, f.orig.Src, true, ReasonPolicyIngress)
}

// toItself tells of a port that reaches itself through a service. Without the
// service its packets would not come here at all.
func (f *flow) toItself() bool { return f.to != nil && f.toID == f.inID }

// open tells Explain that no policy has a say, in words around a port's name.
func (f *flow) open(stage, before, port, after string) {
	if f.trace != nil {
		f.trace(step{stage: stage, verdict: "open", detail: before + port + after})
	}
}

func (f *flow) policy(stage string, list *rules.List, peer packet.Addr, ingress bool, denied Reason) Reason {
	port, typ, code := f.out.DstPort, uint8(0), uint8(0)
	if f.out.Proto == packet.ProtoICMP || f.out.Proto == packet.ProtoICMPv6 {
		port, typ, code = 0, uint8(port>>8), uint8(port)
	}
	v := list.Evaluate(peer, f.out.Proto, port, typ, code)
	if v.Rule >= 0 || !v.Allow {
		f.rule = rule{ingress: ingress, index: v.Rule}
	}
	f.audit = f.audit || v.Audit
	f.log = f.log || v.Log
	if f.trace != nil {
		s := step{stage: stage, verdict: "allow", rule: list.RuleName(v.Rule)}
		switch {
		case v.Audit:
			s.verdict = "audit"
		case !v.Allow:
			s.verdict = "deny"
		}
		s.detail = list.Explain(peer, f.out.Proto, port, typ, code)
		f.trace(s)
	}
	if !v.Allow {
		return denied
	}
	return ReasonNone
}
