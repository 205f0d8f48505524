// SPDX-License-Identifier: Apache-2.0

// Package oracle says what policies of all kinds mean, slowly and plainly: straight
// from the objects, without tables, indexes or caches. It shares no code with
// package policy but the types of its input. Tests hold the fast form against
// it; nothing else should use it.
package oracle

import (
	"cmp"
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
	// meets on its way; "" if none did. Of a NetworkPolicy it is the policy
	// alone, as NetworkPolicy:namespace/name.
	Rule string
	// Logged: the rule that decided asks for a report, or one that passed it on.
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
	v := decide(s, e, false, direction, p)
	v.Audited = v.Allowed && !decide(s, e, true, direction, p).Allowed
	return v
}

// candidate is a rule that matches.
type candidate struct {
	tier     v1alpha1.Tier
	priority int32
	place    int // of a ClusterNetworkPolicy's rule in its order, from 1
	action   v1alpha1.Action
	policy   string // as in the tables
	index    int
	name     v1alpha1.RuleName
	log      bool
}

// decide gives the verdict of the policies that are enforced or, with audited, of
// all.
func decide(s policy.State, e policy.Endpoint, audited bool, direction v1alpha1.PolicyType, p Packet) Verdict {
	matching, closed := matchingRules(s, e, audited, direction, p)
	logged := false
	for _, tier := range []v1alpha1.Tier{v1alpha1.TierAdmin, v1alpha1.TierNormal, v1alpha1.TierBaseline} {
		var of []candidate
		for _, c := range matching {
			if c.tier == tier {
				of = append(of, c)
			}
		}
		if len(of) == 0 {
			if tier == v1alpha1.TierNormal && closed {
				break // the tier Baseline is not asked
			}
			continue
		}
		first := slices.MinFunc(of, compare)
		logged = logged || first.log
		if first.action != v1alpha1.ActionPass {
			return Verdict{Allowed: first.action == v1alpha1.ActionAllow, Rule: first.rule(direction), Logged: logged}
		}
	}
	return Verdict{Allowed: !closed, Logged: logged}
}

// compare puts lower priority first, there NetIO's own kinds before the first rules
// of ClusterNetworkPolicies, before their second ones; then Deny before Allow before Pass. What
// remains equal gives the same verdict; the policy's name and the place of the rule
// tell which one is named.
func compare(a, b candidate) int {
	order := []v1alpha1.Action{v1alpha1.ActionDeny, v1alpha1.ActionAllow, v1alpha1.ActionPass}
	return cmp.Or(
		cmp.Compare(a.priority, b.priority), cmp.Compare(a.place, b.place), cmp.Compare(slices.Index(order, a.action), slices.Index(order, b.action)),
		cmp.Compare(a.policy, b.policy), cmp.Compare(a.index, b.index))
}

func (c *candidate) rule(direction v1alpha1.PolicyType) string {
	if strings.HasPrefix(c.policy, "NetworkPolicy:") {
		return c.policy
	}
	name := string(c.name)
	if name == "" {
		name = fmt.Sprintf("%s[%d]", map[v1alpha1.PolicyType]string{"Ingress": "ingress", "Egress": "egress"}[direction], c.index)
	}
	return c.policy[strings.Index(c.policy, "/")+1:] + "/" + name
}

// matchingRules are those of all policies that select the endpoint, and whether a
// policy of the tier Normal covers the direction.
func matchingRules(s policy.State, e policy.Endpoint, audited bool, direction v1alpha1.PolicyType, p Packet) (matching []candidate, closed bool) {
	// match keeps the rules that match, each of them given as an ingress rule.
	match := func(namespace *string, c candidate, rules []v1alpha1.IngressRule, priority *int32) {
		c.priority = v1alpha1.DefaultPriority
		if priority != nil {
			c.priority = *priority
		}
		address := p.Src
		if direction == v1alpha1.PolicyTypeEgress {
			address = p.Dst
		}
		for i, r := range rules {
			if peersMatch(s, namespace, r.From, address) && protocolsMatch(r.RuleProtocols, p) {
				c.action, c.index, c.name, c.log = r.Action, i, r.Name, r.Log
				matching = append(matching, c)
			}
		}
	}
	for _, np := range s.Policies {
		if np.Namespace != e.Namespace || !matches(np.Spec.PodSelector, e.Labels) || !runsAs(np.Spec.ServiceAccounts, e) || np.Spec.Audit && !audited {
			continue
		}
		closed = closed || covers(np.Spec.PolicyTypes, len(np.Spec.Egress), direction)
		rules := np.Spec.Ingress
		if direction == v1alpha1.PolicyTypeEgress {
			rules = nil
			for _, r := range np.Spec.Egress {
				rules = append(rules, v1alpha1.IngressRule{Name: r.Name, Action: r.Action, Log: r.Log, From: r.To, RuleProtocols: r.RuleProtocols})
			}
		}
		match(&np.Namespace, candidate{tier: v1alpha1.TierNormal, policy: np.Namespace + "/" + np.Name}, rules, np.Spec.Priority)
	}
	for _, cp := range s.ClusterPolicies {
		if !selectsPod(cp, s, e) || cp.Spec.Audit && !audited {
			continue
		}
		tier := cp.Spec.Tier
		if tier == "" {
			tier = v1alpha1.TierNormal
		}
		if tier == v1alpha1.TierNormal {
			closed = closed || covers(cp.Spec.PolicyTypes, len(cp.Spec.Egress), direction)
		}
		var rules []v1alpha1.IngressRule
		if direction == v1alpha1.PolicyTypeIngress {
			for _, r := range cp.Spec.Ingress {
				rules = append(rules, v1alpha1.IngressRule(r))
			}
		} else {
			for _, r := range cp.Spec.Egress {
				rules = append(rules, v1alpha1.IngressRule{Name: r.Name, Action: r.Action, Log: r.Log, From: r.To, RuleProtocols: r.RuleProtocols})
			}
		}
		match(nil, candidate{tier: tier, policy: "NetIOClusterPolicy:" + cp.Name}, rules, cp.Spec.Priority)
	}
	for _, cnp := range s.ClusterNetworkPolicies {
		if c, ok := firstOf(s, cnp, e, direction, p); ok {
			matching = append(matching, c)
		}
	}
	for _, np := range s.NetworkPolicies {
		if !isolates(np, e, direction) {
			continue
		}
		closed = true
		if allows(s, np, e, direction, p) {
			matching = append(matching, candidate{
				tier: v1alpha1.TierNormal, priority: v1alpha1.DefaultPriority, action: v1alpha1.ActionAllow, policy: "NetworkPolicy:" + np.Namespace + "/" + np.Name})
		}
	}
	return matching, closed
}

// covers tells whether a policy of the tier Normal is about the direction.
func covers(types []v1alpha1.PolicyType, egressRules int, direction v1alpha1.PolicyType) bool {
	if len(types) > 0 {
		return slices.Contains(types, direction)
	}
	return direction == v1alpha1.PolicyTypeIngress || egressRules > 0
}

// runsAs tells whether the pod runs as one of the service accounts, if there are any.
func runsAs(accounts []v1alpha1.ServiceAccountName, e policy.Endpoint) bool {
	return len(accounts) == 0 || slices.Contains(accounts, v1alpha1.ServiceAccountName(e.ServiceAccount))
}

func selectsPod(cp *v1alpha1.NetIOClusterPolicy, s policy.State, e policy.Endpoint) bool {
	return (cp.Spec.NamespaceSelector == nil || matches(*cp.Spec.NamespaceSelector, namespaceLabels(s, e.Namespace))) &&
		(cp.Spec.PodSelector == nil || matches(*cp.Spec.PodSelector, e.Labels)) && runsAs(cp.Spec.ServiceAccounts, e)
}

// peersMatch tells whether the address is one of the peers, which are pods of the
// namespace where they name none, or with nil of any.
func peersMatch(s policy.State, namespace *string, peers []v1alpha1.Peer, address netip.Addr) bool {
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

func peerMatches(s policy.State, namespace *string, peer v1alpha1.Peer, address netip.Addr) bool {
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
	case peer.Entity == v1alpha1.EntityRemoteNode:
		return slices.ContainsFunc(s.Node.Nodes, func(n policy.ClusterNode) bool { return n.Remote && slices.Contains(n.Addresses, address) })
	case peer.Entity == v1alpha1.EntityKubeAPIServer:
		return slices.Contains(s.Node.APIServer, address)
	case peer.Entity == v1alpha1.EntityCluster:
		return inCluster(s, address)
	case peer.Entity == v1alpha1.EntityWorld:
		return !inCluster(s, address)
	case peer.NodeSelector != nil:
		return isNode(s, address, func(labels map[string]string) bool { return matches(*peer.NodeSelector, labels) })
	}
	for _, e := range s.Endpoints {
		if !slices.Contains(e.Addresses, address) {
			continue
		}
		if peer.NamespaceSelector == nil && namespace != nil && e.Namespace != *namespace {
			continue
		}
		if peer.NamespaceSelector != nil && !matches(*peer.NamespaceSelector, namespaceLabels(s, e.Namespace)) {
			continue
		}
		if (peer.PodSelector == nil || matches(*peer.PodSelector, e.Labels)) && runsAs(peer.ServiceAccounts, e) {
			return true
		}
	}
	return false
}

// inCluster tells whether a pod or a node has the address, or a pod could.
func inCluster(s policy.State, address netip.Addr) bool {
	return slices.Contains(s.Node.HostAddresses, address) ||
		isNode(s, address, func(map[string]string) bool { return true }) ||
		slices.ContainsFunc(s.Node.PodNetworks, func(n netip.Prefix) bool { return n.Contains(address) }) ||
		slices.ContainsFunc(s.Endpoints, func(e policy.Endpoint) bool { return slices.Contains(e.Addresses, address) })
}

// isNode tells whether the address is one of a node with such labels.
func isNode(s policy.State, address netip.Addr, with func(labels map[string]string) bool) bool {
	return slices.ContainsFunc(s.Node.Nodes, func(n policy.ClusterNode) bool {
		return with(n.Labels) && (slices.Contains(n.Addresses, address) || !n.Remote && slices.Contains(s.Node.HostAddresses, address))
	})
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
