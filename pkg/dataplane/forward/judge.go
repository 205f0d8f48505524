// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/packet"
)

// flow is a connection to be: what the stages know and decide of it.
type flow struct {
	tables *config.Tables
	orig   packet.Tuple // as the first packet arrives
	out    packet.Tuple // as it leaves: NAT changes it
	in     *config.Port
	inID   uint32
	to     *config.Port
	toID   uint32
	// dnat is the service that the connection goes through, if any.
	dnat *config.DestinationNAT

	// keep: kept is what out was under older tables, to be kept if it is still right.
	keep bool
	kept packet.Tuple
	// moved: it is not, as the destination is another one now.
	moved bool

	audit bool // policy would have dropped it
	log   bool // a rule wants it reported
	rule  rule // that decided last

	// trace is told of each step, for Explain and Trace; nil for packets. A stage
	// looks before it puts words together: they cost memory.
	trace func(step)
}

// rule names the rule that decided: its number in the ingress rules of the
// receiving or the egress rules of the sending port.
type rule struct {
	ingress bool
	index   int32 // -1: none
	// reply: it decided about the connection that the packet is an answer of, so
	// that the packet's receiver is the connection's sender.
	reply bool
}

var noRule = rule{index: -1}

const (
	ruleIngress = 1 << 31
	ruleReply   = 1 << 30
)

// pack makes a word of it, as connections and records keep it; 0: none.
func (r rule) pack() uint32 {
	if r.index < 0 {
		return 0
	}
	n := uint32(r.index+1) &^ (ruleIngress | ruleReply)
	if r.ingress {
		n |= ruleIngress
	}
	if r.reply {
		n |= ruleReply
	}
	return n
}

// RuleName is the name of a packed rule of a connection or packet between two
// ports, "" for none.
func RuleName(t *config.Tables, packed, in, out uint32) string {
	n := int32(packed &^ (ruleIngress | ruleReply))
	if n == 0 {
		return ""
	}
	if packed&ruleReply != 0 {
		in, out = out, in
	}
	if packed&ruleIngress != 0 {
		if p := t.Port(out); p != nil && p.Ingress != nil {
			return p.Ingress.RuleName(n - 1)
		}
		return ""
	}
	if p := t.Port(in); p != nil && p.Egress != nil {
		return p.Egress.RuleName(n - 1)
	}
	return ""
}

// step is what Explain and Trace tell of a stage.
type step struct {
	stage, verdict, rule, detail string
}

// stage is one feature's say in whether and how a connection comes about. It
// changes the flow or returns the reason for a drop.
type stage struct {
	name string
	run  func(*Worker, *flow) Reason
}

// stages in the order in which a flow's first packet meets them.
var stages = [...]stage{
	{"anti-spoofing", antiSpoofing},
	{"destination NAT", destinationNAT},
	{"route", findRoute},
	{"egress policy", egressPolicy},
	{"ingress policy", ingressPolicy},
	{"source NAT", sourceNAT},
}

// judge runs the stages.
func (w *Worker) judge(f *flow) Reason {
	f.out = f.orig
	f.rule = noRule
	for i := range stages {
		if r := stages[i].run(w, f); r != ReasonNone {
			if f.trace != nil {
				f.trace(step{stage: stages[i].name, verdict: "drop", detail: r.Description()})
			}
			return r
		}
	}
	return ReasonNone
}
