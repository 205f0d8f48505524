// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
)

// isolates tells whether a NetworkPolicy selects the endpoint and is about the
// direction (networking.k8s.io/v1, podSelector and policyTypes).
func isolates(np *networkingv1.NetworkPolicy, e policy.Endpoint, direction v1alpha1.PolicyType) bool {
	if np.Namespace != e.Namespace || !selects(np.Spec.PodSelector, e.Labels) {
		return false
	}
	if len(np.Spec.PolicyTypes) > 0 {
		return slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyType(direction))
	}
	return direction == v1alpha1.PolicyTypeIngress || len(np.Spec.Egress) > 0
}

// allows tells whether a NetworkPolicy that isolates the endpoint lets the packet
// pass.
func allows(s policy.State, np *networkingv1.NetworkPolicy, e policy.Endpoint, direction v1alpha1.PolicyType, p Packet) bool {
	if direction == v1alpha1.PolicyTypeIngress {
		if slices.Contains(s.Node.HostAddresses, p.Src) {
			return true // "traffic from the pod's local node"
		}
		for _, r := range np.Spec.Ingress {
			if !isPeer(s, np.Namespace, r.From, p.Src) {
				continue
			}
			if len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(port networkingv1.NetworkPolicyPort) bool { return isPort(port, e, p) }) {
				return true
			}
		}
		return false
	}
	if slices.Contains(s.Node.HostAddresses, p.Dst) {
		return true
	}
	for _, r := range np.Spec.Egress {
		if len(r.Ports) == 0 && isPeer(s, np.Namespace, r.To, p.Dst) {
			return true
		}
		for _, port := range r.Ports {
			if port.Port == nil || port.Port.Type == intstr.Int {
				if isPort(port, policy.Endpoint{}, p) && isPeer(s, np.Namespace, r.To, p.Dst) {
					return true
				}
				continue
			}
			// By name: one and the same pod is the peer and has the port.
			for _, to := range s.Endpoints {
				if !slices.Contains(to.Addresses, p.Dst) || !isPort(port, to, p) {
					continue
				}
				if len(r.To) == 0 || slices.ContainsFunc(r.To, func(peer networkingv1.NetworkPolicyPeer) bool {
					return peer.IPBlock == nil && isPodPeer(s, np.Namespace, peer, to)
				}) {
					return true
				}
			}
		}
	}
	return false
}

func isPeer(s policy.State, namespace string, peers []networkingv1.NetworkPolicyPeer, address netip.Addr) bool {
	if len(peers) == 0 {
		return true
	}
	for _, peer := range peers {
		if b := peer.IPBlock; b != nil {
			if netip.MustParsePrefix(b.CIDR).Contains(address) &&
				!slices.ContainsFunc(b.Except, func(e string) bool { return netip.MustParsePrefix(e).Contains(address) }) {
				return true
			}
			continue
		}
		for _, e := range s.Endpoints {
			if slices.Contains(e.Addresses, address) && isPodPeer(s, namespace, peer, e) {
				return true
			}
		}
	}
	return false
}

func isPodPeer(s policy.State, namespace string, peer networkingv1.NetworkPolicyPeer, e policy.Endpoint) bool {
	if peer.NamespaceSelector == nil && e.Namespace != namespace {
		return false
	}
	if peer.NamespaceSelector != nil && !selects(*peer.NamespaceSelector, namespaceLabels(s, e.Namespace)) {
		return false
	}
	return peer.PodSelector == nil || selects(*peer.PodSelector, e.Labels)
}

var protocolNumber = map[corev1.Protocol]uint8{"TCP": 6, "UDP": 17, "SCTP": 132}

// isPort tells whether the packet goes to the port, which has its number at the
// endpoint if it is given by name.
func isPort(port networkingv1.NetworkPolicyPort, at policy.Endpoint, p Packet) bool {
	protocol := corev1.ProtocolTCP
	if port.Protocol != nil {
		protocol = *port.Protocol
	}
	if protocolNumber[protocol] != p.Protocol {
		return false
	}
	switch {
	case port.Port == nil:
		return true
	case port.Port.Type == intstr.String:
		for _, named := range at.Ports {
			if named.Name == port.Port.StrVal && named.Protocol == protocol {
				return named.Number == p.DstPort // the first one counts
			}
		}
		return false
	case port.EndPort != nil:
		return port.Port.IntVal <= int32(p.DstPort) && int32(p.DstPort) <= *port.EndPort
	}
	return port.Port.IntVal == int32(p.DstPort)
}

func selects(s metav1.LabelSelector, of map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		panic(err)
	}
	return selector.Matches(labels.Set(of))
}
