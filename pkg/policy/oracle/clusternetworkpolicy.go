// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
)

// clusterRule is a rule of a ClusterNetworkPolicy in either direction.
type clusterRule struct {
	name      string
	action    networkapi.ClusterNetworkPolicyRuleAction
	peers     []networkapi.ClusterNetworkPolicyEgressPeer
	protocols []networkapi.ClusterNetworkPolicyProtocol
}

// firstOf is the rule of a ClusterNetworkPolicy that decides about the packet: the
// first one that matches, in the order in which they are written.
func firstOf(s policy.State, cnp *networkapi.ClusterNetworkPolicy, e policy.Endpoint, direction v1alpha1.PolicyType, p Packet) (candidate, bool) {
	if !isSubject(s, cnp.Spec.Subject, e) {
		return candidate{}, false
	}
	var rules []clusterRule
	address, ingress := p.Dst, direction == v1alpha1.PolicyTypeIngress
	if ingress {
		address = p.Src
		for _, r := range cnp.Spec.Ingress {
			c := clusterRule{name: r.Name, action: r.Action, protocols: r.Protocols}
			for _, from := range r.From {
				c.peers = append(c.peers, networkapi.ClusterNetworkPolicyEgressPeer{Namespaces: from.Namespaces, Pods: from.Pods})
			}
			rules = append(rules, c)
		}
	} else {
		for _, r := range cnp.Spec.Egress {
			rules = append(rules, clusterRule{r.Name, r.Action, r.To, r.Protocols})
		}
	}
	for i, r := range rules {
		action := map[networkapi.ClusterNetworkPolicyRuleAction]v1alpha1.Action{
			"Accept": v1alpha1.ActionAllow, "Deny": v1alpha1.ActionDeny, "Pass": v1alpha1.ActionPass}[r.action]
		matches := false
		switch understood := r.understood(); {
		case !understood && r.action == "Accept": // "treat the rule as matching no traffic"
		case !understood: // "treat the rule as a 'Deny all' rule"
			matches, action = true, v1alpha1.ActionDeny
		default:
			matches = r.matches(s, e, ingress, address, p)
		}
		if !matches {
			continue
		}
		name := r.name
		if strings.ContainsAny(name, "[#") || 1 < len(slices.DeleteFunc(slices.Clone(rules), func(o clusterRule) bool { return o.name != r.name })) {
			name = ""
		}
		return candidate{
			tier: v1alpha1.Tier(cnp.Spec.Tier), priority: cnp.Spec.Priority, place: 1 + i, action: action,
			policy: "ClusterNetworkPolicy:" + cnp.Name, index: i, name: v1alpha1.RuleName(name),
		}, true
	}
	return candidate{}, false
}

func isSubject(s policy.State, subject networkapi.ClusterNetworkPolicySubject, e policy.Endpoint) bool {
	if subject.Namespaces != nil {
		return selects(*subject.Namespaces, namespaceLabels(s, e.Namespace))
	}
	return selectsNamespacedPod(s, subject.Pods, e)
}

func selectsNamespacedPod(s policy.State, p *networkapi.NamespacedPod, e policy.Endpoint) bool {
	return selects(p.NamespaceSelector, namespaceLabels(s, e.Namespace)) && selects(p.PodSelector, e.Labels)
}

// understood tells whether each peer and protocol is one that is known.
func (r *clusterRule) understood() bool {
	for _, peer := range r.peers {
		if peer.Namespaces == nil && peer.Pods == nil && peer.Networks == nil && peer.Nodes == nil {
			return false
		}
		for _, selector := range []*metav1.LabelSelector{peer.Namespaces, peer.Nodes} {
			if selector != nil {
				if _, err := metav1.LabelSelectorAsSelector(selector); err != nil {
					return false
				}
			}
		}
	}
	for _, protocol := range r.protocols {
		if protocol.TCP == nil && protocol.UDP == nil && protocol.SCTP == nil && protocol.DestinationNamedPort == "" ||
			protocol.TCP != nil && protocol.TCP.DestinationPort == nil {
			return false
		}
	}
	return true
}

func (r *clusterRule) matches(s policy.State, e policy.Endpoint, ingress bool, address netip.Addr, p Packet) bool {
	peers := func(pod *policy.Endpoint) bool {
		for _, peer := range r.peers {
			if pod == nil && peer.Nodes != nil && isNode(s, address, func(labels map[string]string) bool { return selects(*peer.Nodes, labels) }) {
				return true
			}
			for _, network := range peer.Networks {
				if pod == nil && netip.MustParsePrefix(string(network)).Contains(address) {
					return true
				}
			}
			for _, other := range s.Endpoints {
				if !slices.Contains(other.Addresses, address) || pod != nil && other.ID != pod.ID {
					continue
				}
				if peer.Namespaces != nil && selects(*peer.Namespaces, namespaceLabels(s, other.Namespace)) ||
					peer.Pods != nil && selectsNamespacedPod(s, peer.Pods, other) {
					return true
				}
			}
		}
		return false
	}
	if len(r.protocols) == 0 {
		return peers(nil)
	}
	for _, protocol := range r.protocols {
		switch name := protocol.DestinationNamedPort; {
		case name == "":
			if isClusterPort(protocol, p) && peers(nil) {
				return true
			}
		case ingress:
			if hasPort(e, name, p) && peers(nil) {
				return true
			}
		default: // one and the same pod is the peer and has the port
			for _, to := range s.Endpoints {
				if hasPort(to, name, p) && peers(&to) {
					return true
				}
			}
		}
	}
	return false
}

// hasPort tells whether the packet goes to what the endpoint calls so, by any
// protocol.
func hasPort(e policy.Endpoint, name string, p Packet) bool {
	seen := map[string]bool{}
	for _, port := range e.Ports {
		if port.Name != name || seen[string(port.Protocol)] {
			continue // the first one counts
		}
		seen[string(port.Protocol)] = true
		if protocolNumber[port.Protocol] == p.Protocol && port.Number == p.DstPort {
			return true
		}
	}
	return false
}

func isClusterPort(protocol networkapi.ClusterNetworkPolicyProtocol, p Packet) bool {
	is := func(port *networkapi.Port) bool {
		if port.Range != nil {
			return port.Range.Start <= int32(p.DstPort) && int32(p.DstPort) <= port.Range.End
		}
		return port.Number == int32(p.DstPort)
	}
	switch {
	case protocol.TCP != nil:
		return p.Protocol == 6 && is(protocol.TCP.DestinationPort)
	case protocol.UDP != nil:
		return p.Protocol == 17 && is(protocol.UDP.DestinationPort)
	case protocol.SCTP != nil:
		return p.Protocol == 132 && is(protocol.SCTP.DestinationPort)
	}
	panic(fmt.Sprintf("oracle: protocol %+v", protocol))
}
