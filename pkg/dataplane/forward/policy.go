// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/rules"
)

// egressPolicy asks the sender's rules about the destination, behind any service.
func egressPolicy(w *Worker, f *flow) Reason {
	if !f.in.Pod || f.in.Egress == nil {
		f.say(step{stage: "egress policy", verdict: "open", detail: "no policy covers what " + f.in.Name + " sends"})
		return ReasonNone
	}
	return f.policy("egress policy", f.in.Egress, f.out.Dst, false, ReasonPolicyEgress)
}

// ingressPolicy asks the receiver's rules about the source.
func ingressPolicy(w *Worker, f *flow) Reason {
	if !f.to.Pod || f.to.Ingress == nil {
		f.say(step{stage: "ingress policy", verdict: "open", detail: "no policy covers what " + f.to.Name + " receives"})
		return ReasonNone
	}
	return f.policy("ingress policy", f.to.Ingress, f.orig.Src, true, ReasonPolicyIngress)
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
		f.say(s)
	}
	if !v.Allow {
		return denied
	}
	return ReasonNone
}
