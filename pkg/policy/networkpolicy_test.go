// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/oracle"
)

// named makes states in which much depends on named ports: few selectors, and
// pods that do not agree on the numbers.
func (g generator) named() policy.State {
	s := policy.State{Namespaces: map[string]map[string]string{}, Node: policy.Node{PodNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}}
	for i := range 2 + g.choose(4) {
		e := policy.Endpoint{
			ID: fmt.Sprintf("port%d", i), Namespace: pick(g, "shop", "bank"), Name: fmt.Sprint(i), Remote: g.one(4),
			Addresses: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", 1+g.choose(3)))}, Ports: g.ports(),
		}
		if g.one(2) {
			e.Labels = map[string]string{"app": pick(g, "web", "db")}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	for i := range 1 + g.choose(3) {
		p := g.networkPolicy(pick(g, "shop", "bank"), fmt.Sprint("policy", i))
		if !g.one(3) {
			p.Spec.PodSelector.MatchLabels, p.Spec.PodSelector.MatchExpressions = nil, nil
		}
		port := func() []networkingv1.NetworkPolicyPort {
			list := []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString(pick(g, "http", "dns")))}}
			if g.one(3) {
				list[0].Protocol = new(corev1.ProtocolUDP)
			}
			return list
		}
		for i := range p.Spec.Ingress {
			p.Spec.Ingress[i].Ports = port()
		}
		for i := range p.Spec.Egress {
			p.Spec.Egress[i].Ports = port()
		}
		s.NetworkPolicies = append(s.NetworkPolicies, p)
	}
	for i := range g.choose(3) {
		p := g.clusterNetworkPolicy(fmt.Sprint("policy", i))
		p.Spec.Subject = networkapi.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}}
		named := func() []networkapi.ClusterNetworkPolicyProtocol {
			return []networkapi.ClusterNetworkPolicyProtocol{{DestinationNamedPort: pick(g, "http", "dns")}}
		}
		for i := range p.Spec.Ingress {
			p.Spec.Ingress[i].Protocols = named()
		}
		for i := range p.Spec.Egress {
			p.Spec.Egress[i].Protocols = named()
		}
		s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, p)
	}
	return s
}

func (g generator) namedPacket() oracle.Packet {
	address := func() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", 1+g.choose(4))) }
	return oracle.Packet{Src: address(), Dst: address(), Protocol: pick[uint8](g, 6, 17), DstPort: pick[uint16](g, 80, 81, 443)}
}

// TestNamedPorts holds the tables against the oracle, also as the numbers change
// that pods give to names.
func TestNamedPorts(t *testing.T) {
	for seed := range uint64(150) {
		g := random(seed)
		s := g.named()
		c := policy.NewCompiler()
		setAll(c, s)
		for range 4 {
			result := c.Result()
			equal(t, fmt.Sprintf("seed %d: changed compiler", seed), policy.Compile(s), result)
			for range 12 {
				judgeAlike(t, s, result, g.namedPacket())
			}
			next := g.named()
			if g.one(2) {
				next.NetworkPolicies, next.ClusterNetworkPolicies = s.NetworkPolicies, s.ClusterNetworkPolicies
			}
			changeInto(c, s, next)
			s = next
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// TestNetworkPolicy is the well-known recipes, in words.
func TestNetworkPolicy(t *testing.T) {
	for _, test := range []struct {
		name string
		spec string
		// from and to are who reaches web, and whom web reaches, of those below.
		from, to string
	}{
		{"selects nobody", `{podSelector: {matchLabels: {app: none}}}`, "friend stranger other world node", "friend stranger other world node"},
		{"deny all ingress", `{podSelector: {}}`, "node", "friend stranger other world node"},
		{"deny all egress", `{podSelector: {}, policyTypes: [Egress]}`, "friend stranger other world node", "node"},
		{"deny all", `{podSelector: {}, policyTypes: [Ingress, Egress]}`, "node", "node"},
		{"allow all ingress", `{podSelector: {}, ingress: [{}]}`, "friend stranger other world node", "friend stranger other world node"},
		{"allow all egress", `{podSelector: {}, policyTypes: [Egress], egress: [{}]}`, "friend stranger other world node", "friend stranger other world node"},
		{"from pods of the namespace", `{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`, "friend stranger node", "friend stranger other world node"},
		{"from pods with a label", `{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]}`, "friend node", "friend stranger other world node"},
		{"from a namespace", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}}]}]}`, "other node", "friend stranger other world node"},
		{"from all namespaces", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`, "friend stranger other node", "friend stranger other world node"},
		{"namespace AND pods", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}, podSelector: {matchLabels: {role: friend}}}]}]}`, "node", "friend stranger other world node"},
		{"namespace OR pods", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}}, {podSelector: {matchLabels: {role: friend}}}]}]}`, "friend other node", "friend stranger other world node"},
		{"from a block but for a part", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}`, "world node", "friend stranger other world node"},
		{"a port", `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`, "friend stranger other world node", "friend stranger other world node"},
		{"another port", `{podSelector: {}, ingress: [{ports: [{port: 81}]}]}`, "node", "friend stranger other world node"},
		{"a port of another protocol", `{podSelector: {}, ingress: [{ports: [{port: 80, protocol: UDP}]}]}`, "node", "friend stranger other world node"},
		{"all ports of a protocol", `{podSelector: {}, ingress: [{ports: [{protocol: TCP}]}]}`, "friend stranger other world node", "friend stranger other world node"},
		{"a range of ports", `{podSelector: {}, ingress: [{ports: [{port: 70, endPort: 80}]}]}`, "friend stranger other world node", "friend stranger other world node"},
		{"a named port", `{podSelector: {}, ingress: [{ports: [{port: http}]}]}`, "friend stranger other world node", "friend stranger other world node"},
		{"a named port that is another one here", `{podSelector: {}, ingress: [{ports: [{port: admin}]}]}`, "node", "friend stranger other world node"},
		{"to a named port of who has it", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}`, "friend stranger other world node", "friend node"},
		{"to a named port of a block has no meaning", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: http}]}]}`, "friend stranger other world node", "node"},
		{"rules of a direction that is not covered", `{podSelector: {}, policyTypes: [Ingress], egress: [{}]}`, "node", "friend stranger other world node"},
	} {
		t.Run(test.name, func(t *testing.T) {
			np := &networkingv1.NetworkPolicy{}
			np.Namespace, np.Name = "shop", "test"
			decode(t, test.spec, &np.Spec)
			parties := map[string]string{"friend": "10.1.0.2", "stranger": "10.1.0.3", "other": "10.1.0.4", "world": "203.0.113.1", "node": "192.168.0.1"}
			pod := func(id, namespace, address string, labels map[string]string, ports ...policy.Port) policy.Endpoint {
				return policy.Endpoint{ID: id, Namespace: namespace, Name: id, Labels: labels, Addresses: []netip.Addr{netip.MustParseAddr(address)}, Ports: ports, Remote: id != "web"}
			}
			s := policy.State{
				Endpoints: []policy.Endpoint{
					pod("web", "shop", "10.1.0.1", map[string]string{"app": "web"}, policy.Port{Name: "http", Protocol: "TCP", Number: 80}, policy.Port{Name: "admin", Protocol: "TCP", Number: 8080}),
					pod("friend", "shop", parties["friend"], map[string]string{"role": "friend"}, policy.Port{Name: "http", Protocol: "TCP", Number: 80}),
					pod("stranger", "shop", parties["stranger"], nil, policy.Port{Name: "http", Protocol: "TCP", Number: 8080}),
					pod("other", "bank", parties["other"], nil),
				},
				NetworkPolicies: []*networkingv1.NetworkPolicy{np},
				Node:            policy.Node{HostAddresses: []netip.Addr{netip.MustParseAddr(parties["node"])}, PodNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
			}
			result := policy.Compile(s)
			if len(result.Problems) > 0 {
				t.Fatal(result.Problems)
			}
			web := netip.MustParseAddr("10.1.0.1")
			for name, text := range parties {
				address := netip.MustParseAddr(text)
				for _, way := range []struct {
					ingress bool
					want    string
					packet  oracle.Packet
				}{
					{true, test.from, oracle.Packet{Src: address, Dst: web, Protocol: 6, DstPort: 80}},
					{false, test.to, oracle.Packet{Src: web, Dst: address, Protocol: 6, DstPort: 80}},
				} {
					want := slices.Contains(strings.Fields(way.want), name)
					if got := evaluate(t, result, "web", way.ingress, way.packet); got.Allowed != want {
						t.Errorf("%s, ingress %v: %+v, want allowed %v", name, way.ingress, got, want)
					}
				}
				judgeAlike(t, s, result, oracle.Packet{Src: address, Dst: web, Protocol: 6, DstPort: 80})
				judgeAlike(t, s, result, oracle.Packet{Src: web, Dst: address, Protocol: 6, DstPort: 80})
			}
		})
	}
}

// TestNetworkPolicyBesideNetIOPolicy: they add up, and a Deny that comes first wins.
func TestNetworkPolicyBesideNetIOPolicy(t *testing.T) {
	np := &networkingv1.NetworkPolicy{}
	np.Namespace, np.Name = "shop", "same"
	decode(t, `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}`, &np.Spec)
	own := func(spec string) policy.State {
		p := &v1alpha1.NetIOPolicy{}
		p.Namespace, p.Name = "shop", "same"
		decode(t, spec, &p.Spec)
		s := policy.State{NetworkPolicies: []*networkingv1.NetworkPolicy{np}}
		s.Policies = append(s.Policies, p)
		s.Endpoints = []policy.Endpoint{{ID: "web", Namespace: "shop", Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}}
		return s
	}
	for _, test := range []struct {
		name, spec string
		ten, world bool // whether 10.2.0.1 and 203.0.113.1 reach it
	}{
		{"another one allows more", `{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 203.0.113.0/24}]}]}`, true, true},
		{"one denies at the same priority", `{podSelector: {}, ingress: [{action: Deny, from: [{cidr: 10.2.0.0/16}]}]}`, false, false},
		{"one denies afterwards", `{podSelector: {}, priority: 501, ingress: [{action: Deny, from: [{cidr: 10.2.0.0/16}]}]}`, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := own(test.spec)
			result := policy.Compile(s)
			for address, want := range map[string]bool{"10.2.0.1": test.ten, "203.0.113.1": test.world} {
				p := oracle.Packet{Src: netip.MustParseAddr(address), Dst: s.Endpoints[0].Addresses[0], Protocol: 6, DstPort: 80}
				if got := evaluate(t, result, "web", true, p); got.Allowed != want {
					t.Errorf("%s: %+v", address, got)
				}
				judgeAlike(t, s, result, p)
			}
		})
	}
}
