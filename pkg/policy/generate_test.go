// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/oracle"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// generator makes small states out of choices: few namespaces, labels and
// addresses, so that everything meets everything.
type generator struct {
	choose func(n int) int // 0 to n-1
}

func random(seed uint64) generator {
	r := rand.New(rand.NewPCG(seed, 0))
	return generator{r.IntN}
}

// fromBytes chooses by a fuzzer's input; when that ends, always the first.
func fromBytes(data []byte) generator {
	return generator{func(n int) int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b) % n
	}}
}

func pick[T any](g generator, of ...T) T { return of[g.choose(len(of))] }

// one is true once in n.
func (g generator) one(n int) bool { return g.choose(n) == n-1 }

func list[T any](g generator, atMost int, make func() T) []T {
	var out []T
	for range g.choose(atMost + 1) {
		out = append(out, make())
	}
	return out
}

var (
	namespaceNames = []string{"shop", "bank", "club"}
	labelKeys      = []string{"app", "tier", "kubernetes.io/metadata.name"}
	labelValues    = []string{"web", "db", "shop", ""}
)

func (g generator) address() netip.Addr {
	return netip.MustParseAddr(pick(g,
		"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.1.1", "fd00:1::1", "fd00:1::2",
		"192.168.0.1", "fd00:2::1", "203.0.113.1", "2001:db8::1", "203.0.113.200"))
}

func (g generator) prefix() v1alpha1.Prefix {
	a := g.address()
	bits := []int{0, 8, 16, 24, 25, 31, 32}
	if a.Is6() {
		bits = []int{0, 32, 64, 127, 128}
	}
	return v1alpha1.Prefix(netip.PrefixFrom(a, pick(g, bits...)).Masked().String())
}

func (g generator) labels() map[string]string {
	out := map[string]string{}
	for range g.choose(3) {
		out[pick(g, labelKeys...)] = pick(g, labelValues...)
	}
	return out
}

func (g generator) selector() v1alpha1.LabelSelector {
	var s v1alpha1.LabelSelector
	for range g.choose(2) {
		if s.MatchLabels == nil {
			s.MatchLabels = map[string]v1alpha1.LabelValue{}
		}
		s.MatchLabels[pick(g, labelKeys...)] = v1alpha1.LabelValue(pick(g, labelValues...))
	}
	s.MatchExpressions = list(g, 2, func() v1alpha1.LabelExpression {
		e := v1alpha1.LabelExpression{
			Key:      pick(g, labelKeys...),
			Operator: pick(g, v1alpha1.LabelIn, v1alpha1.LabelNotIn, v1alpha1.LabelExists, v1alpha1.LabelDoesNotExist),
		}
		if e.Operator == v1alpha1.LabelIn || e.Operator == v1alpha1.LabelNotIn {
			for range 1 + g.choose(3) {
				e.Values = append(e.Values, v1alpha1.LabelValue(pick(g, labelValues...)))
			}
		}
		return e
	})
	return s
}

func (g generator) serviceAccounts() []v1alpha1.ServiceAccountName {
	if !g.one(5) {
		return nil
	}
	return append(list(g, 1, func() v1alpha1.ServiceAccountName { return "web" }), pick[v1alpha1.ServiceAccountName](g, "web", "db"))
}

func (g generator) peer() v1alpha1.Peer {
	var p v1alpha1.Peer
	switch g.choose(7) {
	case 6:
		p.ServiceAccounts = []v1alpha1.ServiceAccountName{pick[v1alpha1.ServiceAccountName](g, "web", "db")}
		if g.one(3) {
			p.PodSelector = new(g.selector())
		}
		if g.one(3) {
			p.NamespaceSelector = new(g.selector())
		}
	case 5:
		p.NodeSelector = new(g.selector())
	case 0:
		p.PodSelector = new(g.selector())
	case 1:
		p.NamespaceSelector = new(g.selector())
	case 2:
		p.PodSelector, p.NamespaceSelector = new(g.selector()), new(g.selector())
	case 3:
		p.CIDR = g.prefix()
		p.Except = list(g, 2, g.prefix)
	case 4:
		p.Entity = pick(g, v1alpha1.EntityHost, v1alpha1.EntityWorld, v1alpha1.EntityAll,
			v1alpha1.EntityCluster, v1alpha1.EntityRemoteNode, v1alpha1.EntityKubeAPIServer)
	}
	return p
}

func (g generator) protocols() v1alpha1.RuleProtocols {
	return v1alpha1.RuleProtocols{
		Ports: list(g, 2, func() v1alpha1.PortMatch {
			p := v1alpha1.PortMatch{Protocol: pick(g, v1alpha1.ProtocolTCP, v1alpha1.ProtocolUDP, v1alpha1.ProtocolSCTP, "")}
			if !g.one(3) {
				p.Port = new(pick[int32](g, 1, 80, 443, 65535))
				if g.one(3) {
					p.EndPort = new(max(*p.Port, pick[int32](g, 81, 443, 65535)))
				}
			}
			return p
		}),
		ICMP: list(g, 1, func() v1alpha1.ICMPMatch {
			m := v1alpha1.ICMPMatch{Family: pick(g, v1alpha1.IPv4, v1alpha1.IPv6)}
			if !g.one(3) {
				m.Type = new(pick[int32](g, 0, 8, 128))
				if g.one(2) {
					m.Code = new(pick[int32](g, 0, 1))
				}
			}
			return m
		}),
	}
}

func (g generator) policy(namespace, name string) *v1alpha1.NetIOPolicy {
	p := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	s := &p.Spec
	if !g.one(3) {
		s.Priority = new(pick[int32](g, 0, 100, 500, 1000))
	}
	s.PodSelector, s.ServiceAccounts = g.selector(), g.serviceAccounts()
	s.Audit = g.one(4)
	ruleName := func(i int) v1alpha1.RuleName {
		if g.one(3) {
			return v1alpha1.RuleName(fmt.Sprintf("rule-%d", i))
		}
		return ""
	}
	action := func() v1alpha1.Action { return pick(g, v1alpha1.ActionAllow, v1alpha1.ActionDeny) }
	s.Ingress = list(g, 3, func() v1alpha1.IngressRule {
		return v1alpha1.IngressRule{Name: ruleName(len(s.Ingress)), Action: action(), Log: g.one(3), From: list(g, 2, g.peer), RuleProtocols: g.protocols()}
	})
	s.Egress = list(g, 3, func() v1alpha1.EgressRule {
		return v1alpha1.EgressRule{Name: ruleName(len(s.Egress)), Action: action(), Log: g.one(3), To: list(g, 2, g.peer), RuleProtocols: g.protocols()}
	})
	// Rule names must differ: number them.
	for i := range s.Ingress {
		if s.Ingress[i].Name != "" {
			s.Ingress[i].Name = v1alpha1.RuleName(fmt.Sprintf("in-%d", i))
		}
	}
	for i := range s.Egress {
		if s.Egress[i].Name != "" {
			s.Egress[i].Name = v1alpha1.RuleName(fmt.Sprintf("out-%d", i))
		}
	}
	switch g.choose(4) {
	case 1:
		s.PolicyTypes = []v1alpha1.PolicyType{v1alpha1.PolicyTypeIngress}
		s.Egress = nil
	case 2:
		s.PolicyTypes = []v1alpha1.PolicyType{v1alpha1.PolicyTypeEgress}
		s.Ingress = nil
	case 3:
		s.PolicyTypes = []v1alpha1.PolicyType{v1alpha1.PolicyTypeIngress, v1alpha1.PolicyTypeEgress}
	}
	return p
}

func (g generator) clusterPolicy(name string) *v1alpha1.NetIOClusterPolicy {
	p := &v1alpha1.NetIOClusterPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	like := g.policy("", name)
	s := &p.Spec
	s.Priority, s.Audit, s.ServiceAccounts = like.Spec.Priority, like.Spec.Audit, like.Spec.ServiceAccounts
	s.Tier = pick(g, "", v1alpha1.TierAdmin, v1alpha1.TierNormal, v1alpha1.TierBaseline, v1alpha1.TierBaseline)
	if s.Tier == "" || s.Tier == v1alpha1.TierNormal {
		s.PolicyTypes = like.Spec.PolicyTypes
	}
	if g.one(2) {
		s.PodSelector = new(g.selector())
	}
	if g.one(3) {
		s.NamespaceSelector = new(g.selector())
	}
	for _, r := range like.Spec.Ingress {
		if g.one(3) {
			r.Action = v1alpha1.ActionPass
		}
		s.Ingress = append(s.Ingress, v1alpha1.ClusterIngressRule(r))
	}
	for _, r := range like.Spec.Egress {
		if g.one(3) {
			r.Action = v1alpha1.ActionPass
		}
		s.Egress = append(s.Egress, v1alpha1.ClusterEgressRule(r))
	}
	return p
}

func (g generator) clusterNetworkPolicy(name string) *networkapi.ClusterNetworkPolicy {
	p := &networkapi.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Tier, p.Spec.Priority = pick(g, networkapi.AdminTier, networkapi.BaselineTier), pick[int32](g, 0, 100, 100, 1000)
	namespaced := func() *networkapi.NamespacedPod {
		return &networkapi.NamespacedPod{NamespaceSelector: kubernetes(g.selector()), PodSelector: kubernetes(g.selector())}
	}
	if g.one(2) {
		p.Spec.Subject.Namespaces = new(kubernetes(g.selector()))
	} else {
		p.Spec.Subject.Pods = namespaced()
	}
	peer := func() networkapi.ClusterNetworkPolicyEgressPeer {
		var peer networkapi.ClusterNetworkPolicyEgressPeer
		switch g.choose(9) {
		case 0, 1, 2:
			peer.Namespaces = new(kubernetes(g.selector()))
		case 3, 4:
			peer.Pods = namespaced()
		case 5, 6:
			peer.Networks = list(g, 2, func() networkapi.CIDR { return networkapi.CIDR(g.prefix()) })
			peer.Networks = append(peer.Networks, networkapi.CIDR(g.address().String()+"/30")) // bits after the length too
		case 8:
			peer.Nodes = new(kubernetes(g.selector()))
		case 7: // of a newer version of the API, or one that is not supported
			if g.one(2) {
				peer.DomainNames = []networkapi.DomainName{"example.com"}
			} else if g.one(3) {
				peer.Namespaces = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}
			}
		}
		return peer
	}
	peers := func() []networkapi.ClusterNetworkPolicyEgressPeer { return append(list(g, 1, peer), peer()) }
	protocols := func() []networkapi.ClusterNetworkPolicyProtocol {
		return list(g, 2, func() networkapi.ClusterNetworkPolicyProtocol {
			port := &networkapi.Port{Number: pick[int32](g, 1, 80, 443, 65535)}
			if g.one(3) {
				port = &networkapi.Port{Range: &networkapi.PortRange{Start: 80, End: 443}}
			}
			switch g.choose(8) {
			case 0, 1:
				return networkapi.ClusterNetworkPolicyProtocol{TCP: &networkapi.ClusterNetworkPolicyProtocolTCP{DestinationPort: port}}
			case 2:
				return networkapi.ClusterNetworkPolicyProtocol{UDP: &networkapi.ClusterNetworkPolicyProtocolUDP{DestinationPort: port}}
			case 3:
				return networkapi.ClusterNetworkPolicyProtocol{SCTP: &networkapi.ClusterNetworkPolicyProtocolSCTP{DestinationPort: port}}
			case 4:
				if g.one(3) {
					return networkapi.ClusterNetworkPolicyProtocol{TCP: &networkapi.ClusterNetworkPolicyProtocolTCP{}}
				}
				if g.one(2) {
					return networkapi.ClusterNetworkPolicyProtocol{}
				}
			}
			return networkapi.ClusterNetworkPolicyProtocol{DestinationNamedPort: pick(g, "http", "dns", "none")}
		})
	}
	action := func() networkapi.ClusterNetworkPolicyRuleAction {
		return pick(g, networkapi.ClusterNetworkPolicyRuleActionAccept, networkapi.ClusterNetworkPolicyRuleActionDeny, networkapi.ClusterNetworkPolicyRuleActionPass)
	}
	ruleName := func() string { return pick(g, "", "", "a", "b", "ingress[0]") }
	p.Spec.Ingress = list(g, 3, func() networkapi.ClusterNetworkPolicyIngressRule {
		r := networkapi.ClusterNetworkPolicyIngressRule{Name: ruleName(), Action: action(), Protocols: protocols()}
		for _, peer := range peers() {
			if peer.Networks != nil || peer.Nodes != nil {
				peer.Namespaces = &metav1.LabelSelector{}
			}
			r.From = append(r.From, networkapi.ClusterNetworkPolicyIngressPeer{Namespaces: peer.Namespaces, Pods: peer.Pods})
		}
		return r
	})
	p.Spec.Egress = list(g, 3, func() networkapi.ClusterNetworkPolicyEgressRule {
		return networkapi.ClusterNetworkPolicyEgressRule{Name: ruleName(), Action: action(), To: peers(), Protocols: protocols()}
	})
	return p
}

func (g generator) endpoint(id string) policy.Endpoint {
	return policy.Endpoint{
		ID: id, Namespace: pick(g, namespaceNames...), Name: id,
		Labels: g.labels(), Addresses: list(g, 2, g.address), Remote: g.one(4), Ports: g.ports(), ServiceAccount: pick(g, "", "web", "db"),
	}
}

func (g generator) ports() []policy.Port {
	return list(g, 2, func() policy.Port {
		return policy.Port{
			Name: pick(g, "http", "dns"), Protocol: pick(g, corev1.ProtocolTCP, corev1.ProtocolUDP), Number: pick[uint16](g, 80, 81, 443),
		}
	})
}

// kubernetes is the selector in Kubernetes' own type.
func kubernetes(s v1alpha1.LabelSelector) metav1.LabelSelector {
	var out metav1.LabelSelector
	for k, v := range s.MatchLabels {
		metav1.AddLabelToSelector(&out, k, string(v))
	}
	for _, e := range s.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, v := range e.Values {
			r.Values = append(r.Values, string(v))
		}
		out.MatchExpressions = append(out.MatchExpressions, r)
	}
	return out
}

func (g generator) networkPolicy(namespace, name string) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.PodSelector = kubernetes(g.selector())
	peers := func() []networkingv1.NetworkPolicyPeer {
		return list(g, 2, func() networkingv1.NetworkPolicyPeer {
			var peer networkingv1.NetworkPolicyPeer
			switch g.choose(4) {
			case 0:
				peer.PodSelector = new(kubernetes(g.selector()))
			case 1:
				peer.NamespaceSelector = new(kubernetes(g.selector()))
			case 2:
				peer.PodSelector, peer.NamespaceSelector = new(kubernetes(g.selector())), new(kubernetes(g.selector()))
			case 3:
				peer.IPBlock = &networkingv1.IPBlock{CIDR: string(g.prefix()), Except: list(g, 2, func() string { return string(g.prefix()) })}
			}
			return peer
		})
	}
	ports := func() []networkingv1.NetworkPolicyPort {
		return list(g, 2, func() networkingv1.NetworkPolicyPort {
			var port networkingv1.NetworkPolicyPort
			if !g.one(3) {
				port.Protocol = new(pick(g, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP))
			}
			switch g.choose(4) {
			case 0, 1:
				port.Port = new(intstr.FromString(pick(g, "http", "dns", "none")))
			case 2:
				port.Port = new(intstr.FromInt32(pick[int32](g, 1, 80, 443, 65535)))
				if g.one(3) {
					port.EndPort = new(max(port.Port.IntVal, pick[int32](g, 81, 443, 65535)))
				}
			}
			return port
		})
	}
	p.Spec.Ingress = list(g, 2, func() networkingv1.NetworkPolicyIngressRule {
		return networkingv1.NetworkPolicyIngressRule{From: peers(), Ports: ports()}
	})
	p.Spec.Egress = list(g, 2, func() networkingv1.NetworkPolicyEgressRule {
		return networkingv1.NetworkPolicyEgressRule{To: peers(), Ports: ports()}
	})
	in, out := networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	p.Spec.PolicyTypes = pick(g, nil, []networkingv1.PolicyType{in}, []networkingv1.PolicyType{out}, []networkingv1.PolicyType{in, out})
	return p
}

func (g generator) node() policy.Node {
	return policy.Node{
		HostAddresses: list(g, 2, g.address), APIServer: list(g, 1, g.address),
		Nodes: list(g, 2, func() policy.ClusterNode {
			return policy.ClusterNode{Remote: !g.one(3), Labels: g.labels(), Addresses: list(g, 2, g.address)}
		}),
		PodNetworks: list(g, 2, func() netip.Prefix {
			return netip.MustParsePrefix(pick(g, "10.1.0.0/24", "10.1.0.0/16", "fd00:1::/64"))
		}),
	}
}

func (g generator) state() policy.State {
	s := policy.State{Namespaces: map[string]map[string]string{}, Node: g.node()}
	for _, name := range namespaceNames {
		if !g.one(4) {
			s.Namespaces[name] = g.labels()
		}
	}
	for i := range 1 + g.choose(6) {
		s.Endpoints = append(s.Endpoints, g.endpoint(fmt.Sprintf("port%d", i)))
	}
	for i := range 1 + g.choose(5) {
		s.Policies = append(s.Policies, g.policy(pick(g, namespaceNames...), fmt.Sprintf("policy%d", i)))
	}
	for i := range g.choose(4) {
		s.ClusterPolicies = append(s.ClusterPolicies, g.clusterPolicy(fmt.Sprintf("policy%d", i)))
	}
	for i := range g.choose(3) {
		s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, g.clusterNetworkPolicy(fmt.Sprintf("policy%d", i)))
	}
	for i := range g.choose(4) {
		s.NetworkPolicies = append(s.NetworkPolicies, g.networkPolicy(pick(g, namespaceNames...), fmt.Sprintf("policy%d", i)))
	}
	return s
}

func (g generator) packet() oracle.Packet {
	return oracle.Packet{
		Src: g.address(), Dst: g.address(),
		Protocol: pick[uint8](g, 6, 17, 132, 1, 58, 47),
		DstPort:  pick[uint16](g, 0, 1, 80, 81, 200, 443, 444, 65535),
		ICMPType: pick[uint8](g, 0, 8, 128),
		ICMPCode: pick[uint8](g, 0, 1),
	}
}
