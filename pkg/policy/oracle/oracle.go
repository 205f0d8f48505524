// SPDX-License-Identifier: Apache-2.0

// Package oracle says what NetIOPolicy and NetworkPolicy objects mean, slowly and plainly: straight
// from the objects, without tables, indexes or caches. It shares no code with
// package policy but the types of its input. Tests hold the fast form against
// it; nothing else should use it.
package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
)

// Packet is the first packet of a connection.
type Packet struct {
	Src, Dst netip.Addr
	Protocol uint8  // IP protocol number
	DstPort  uint16 // TCP, UDP, SCTP
	ICMPType uint8
	ICMPCode uint8
}

// Verdict is what becomes of a packet.
type Verdict struct {
	Allowed bool
	// Audited: it passes, but would not if policies in audit mode were enforced.
	Audited bool
	// Rule that decided, as "policy/rule", the last one of those that a packet
	// meets on its way; "" if none matched. Of a NetworkPolicy it is the policy
	// alone, as NetworkPolicy:namespace/name.
	Rule string
	// Logged: the rule that decided asks for a report.
	Logged bool
}

// Allowed judges a packet on its whole way: egress of the endpoint that has the
// source address, then ingress of the one that has the destination address.
// Addresses of remote endpoints count for nothing here: their own node judges.
func Allowed(s policy.State, p Packet) Verdict {
	out := Verdict{Allowed: true}
	for _, way := range []struct {
		direction v1alpha1.PolicyType
		address   netip.Addr
	}{{v1alpha1.PolicyTypeEgress, p.Src}, {v1alpha1.PolicyTypeIngress, p.Dst}} {
		for _, e := range s.Endpoints {
			if e.Remote || !slices.Contains(e.Addresses, way.address) {
				continue
			}
			v := Judge(s, e, way.direction, p)
			out.Audited = out.Audited || v.Audited
			out.Logged = out.Logged || v.Logged
			if v.Rule != "" {
				out.Rule = v.Rule
			}
			if !v.Allowed {
				return v
			}
		}
	}
	return out
}

// Judge judges a packet at one endpoint in one direction.
func Judge(s policy.State, e policy.Endpoint, direction v1alpha1.PolicyType, p Packet) Verdict {
	var enforced, all []*v1alpha1.NetIOPolicy
	for _, np := range s.Policies {
		if np.Namespace != e.Namespace || !matches(np.Spec.PodSelector, e.Labels) || !covers(np, direction) {
			continue
		}
		all = append(all, np)
		if !np.Spec.Audit {
			enforced = append(enforced, np)
		}
	}
	v := decide(s, e, enforced, direction, p)
	v.Audited = v.Allowed && !decide(s, e, all, direction, p).Allowed
	return v
}

// covers tells whether the policy is about the direction.
func covers(np *v1alpha1.NetIOPolicy, direction v1alpha1.PolicyType) bool {
	if len(np.Spec.PolicyTypes) > 0 {
		return slices.Contains(np.Spec.PolicyTypes, direction)
	}
	return direction == v1alpha1.PolicyTypeIngress || len(np.Spec.Egress) > 0
}

// decide gives the verdict of policies that are all enforced, and of the
// NetworkPolicies, which are.
func decide(s policy.State, e policy.Endpoint, policies []*v1alpha1.NetIOPolicy, direction v1alpha1.PolicyType, p Packet) Verdict {
	type candidate struct {
		priority int32
		action   v1alpha1.Action
		policy   string
		index    int
		rule     v1alpha1.RuleName
		log      bool
	}
	var matching []candidate
	open := len(policies) == 0
	for _, np := range s.NetworkPolicies {
		if !isolates(np, e, direction) {
			continue
		}
		open = false
		if allows(s, np, e, direction, p) {
			matching = append(matching, candidate{priority: v1alpha1.DefaultPriority, action: v1alpha1.ActionAllow, policy: "NetworkPolicy:" + np.Namespace + "/" + np.Name})
		}
	}
	for _, np := range policies {
		priority := int32(v1alpha1.DefaultPriority)
		if np.Spec.Priority != nil {
			priority = *np.Spec.Priority
		}
		if direction == v1alpha1.PolicyTypeIngress {
			for i, r := range np.Spec.Ingress {
				if peersMatch(s, np.Namespace, r.From, p.Src) && protocolsMatch(r.RuleProtocols, p) {
					matching = append(matching, candidate{priority, r.Action, np.Namespace + "/" + np.Name, i, r.Name, r.Log})
				}
			}
		} else {
			for i, r := range np.Spec.Egress {
				if peersMatch(s, np.Namespace, r.To, p.Dst) && protocolsMatch(r.RuleProtocols, p) {
					matching = append(matching, candidate{priority, r.Action, np.Namespace + "/" + np.Name, i, r.Name, r.Log})
				}
			}
		}
	}
	if len(matching) == 0 {
		return Verdict{Allowed: open}
	}
	// Lower priority first, then Deny before Allow. What remains equal gives the
	// same verdict; the policy's name and the place of the rule tell which one is
	// named.
	first := slices.MinFunc(matching, func(a, b candidate) int {
		switch {
		case a.priority != b.priority:
			return int(a.priority - b.priority)
		case a.action != b.action && a.action == v1alpha1.ActionDeny:
			return -1
		case a.action != b.action:
			return 1
		case a.policy < b.policy:
			return -1
		case a.policy > b.policy:
			return 1
		}
		return a.index - b.index
	})
	if strings.HasPrefix(first.policy, "NetworkPolicy:") {
		return Verdict{Allowed: true, Rule: first.policy}
	}
	rule := string(first.rule)
	if rule == "" {
		rule = fmt.Sprintf("%s[%d]", map[v1alpha1.PolicyType]string{"Ingress": "ingress", "Egress": "egress"}[direction], first.index)
	}
	return Verdict{
		Allowed: first.action == v1alpha1.ActionAllow,
		Rule:    first.policy[strings.Index(first.policy, "/")+1:] + "/" + rule,
		Logged:  first.log,
	}
}

func peersMatch(s policy.State, namespace string, peers []v1alpha1.Peer, address netip.Addr) bool {
	if len(peers) == 0 {
		return true
	}
	for _, peer := range peers {
		if peerMatches(s, namespace, peer, address) {
			return true
		}
	}
	return false
}

func peerMatches(s policy.State, namespace string, peer v1alpha1.Peer, address netip.Addr) bool {
	switch {
	case peer.CIDR != "":
		for _, e := range peer.Except {
			if netip.MustParsePrefix(string(e)).Contains(address) {
				return false
			}
		}
		return netip.MustParsePrefix(string(peer.CIDR)).Contains(address)
	case peer.Entity == v1alpha1.EntityAll:
		return true
	case peer.Entity == v1alpha1.EntityHost:
		return slices.Contains(s.Node.HostAddresses, address)
	case peer.Entity == v1alpha1.EntityWorld:
		return !slices.Contains(s.Node.HostAddresses, address) &&
			!slices.ContainsFunc(s.Node.PodNetworks, func(n netip.Prefix) bool { return n.Contains(address) }) &&
			!slices.ContainsFunc(s.Endpoints, func(e policy.Endpoint) bool { return slices.Contains(e.Addresses, address) })
	}
	for _, e := range s.Endpoints {
		if !slices.Contains(e.Addresses, address) {
			continue
		}
		if peer.NamespaceSelector == nil && e.Namespace != namespace {
			continue
		}
		if peer.NamespaceSelector != nil && !matches(*peer.NamespaceSelector, namespaceLabels(s, e.Namespace)) {
			continue
		}
		if peer.PodSelector == nil || matches(*peer.PodSelector, e.Labels) {
			return true
		}
	}
	return false
}

func protocolsMatch(r v1alpha1.RuleProtocols, p Packet) bool {
	if len(r.Ports) == 0 && len(r.ICMP) == 0 {
		return true
	}
	number := map[v1alpha1.Protocol]uint8{"": 6, "TCP": 6, "UDP": 17, "SCTP": 132}
	for _, port := range r.Ports {
		if number[port.Protocol] != p.Protocol {
			continue
		}
		switch {
		case port.Port == nil:
			return true
		case port.EndPort == nil && int32(p.DstPort) == *port.Port:
			return true
		case port.EndPort != nil && *port.Port <= int32(p.DstPort) && int32(p.DstPort) <= *port.EndPort:
			return true
		}
	}
	icmp := map[v1alpha1.IPFamily]uint8{"IPv4": 1, "IPv6": 58}
	for _, m := range r.ICMP {
		if icmp[m.Family] == p.Protocol &&
			(m.Type == nil || *m.Type == int32(p.ICMPType)) &&
			(m.Code == nil || *m.Code == int32(p.ICMPCode)) {
			return true
		}
	}
	return false
}

func namespaceLabels(s policy.State, name string) map[string]string {
	out := map[string]string{}
	for k, v := range s.Namespaces[name] {
		out[k] = v
	}
	out["kubernetes.io/metadata.name"] = name
	return out
}

// matches asks Kubernetes' own implementation of selectors.
func matches(s v1alpha1.LabelSelector, of map[string]string) bool {
	in := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for k, v := range s.MatchLabels {
		in.MatchLabels[k] = string(v)
	}
	for _, e := range s.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, v := range e.Values {
			r.Values = append(r.Values, string(v))
		}
		in.MatchExpressions = append(in.MatchExpressions, r)
	}
	selector, err := metav1.LabelSelectorAsSelector(in)
	if err != nil {
		panic(fmt.Sprintf("oracle: selector %v: %v", s, err))
	}
	return selector.Matches(labels.Set(of))
}
