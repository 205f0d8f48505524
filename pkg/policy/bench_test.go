// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
)

// benchState is a cluster of pods in namespaces of about 100, ten apps each in
// three tiers, and policies as people write them: to one app, from another app of
// the namespace, from namespaces of a kind, from a prefix, to DNS. Every pod has
// policies; that a node has only some of the pods makes less work, not more.
func benchState(pods, policies int) policy.State {
	namespaces := max(1, pods/100)
	s := policy.State{
		Namespaces: map[string]map[string]string{},
		Node:       policy.Node{PodNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")}},
	}
	namespace := func(i int) string { return fmt.Sprintf("namespace-%03d", i%namespaces) }
	for i := range namespaces {
		s.Namespaces[namespace(i)] = map[string]string{"env": []string{"prod", "test", "dev"}[i%3], "team": fmt.Sprintf("team-%d", i%20)}
	}
	for i := range pods {
		s.Endpoints = append(s.Endpoints, benchEndpoint(i, namespace(i)))
	}
	one := func(key, value string) *v1alpha1.LabelSelector {
		return &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}}
	}
	for i := range policies {
		app := i / namespaces % 10
		p := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace(i), Name: fmt.Sprintf("policy-%04d", i)}}
		p.Spec = v1alpha1.NetIOPolicySpec{
			PodSelector: *one("app", fmt.Sprintf("app-%d", app)),
			Ingress: []v1alpha1.IngressRule{
				{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{{PodSelector: one("app", fmt.Sprintf("app-%d", (app+1)%10))}},
					RuleProtocols: v1alpha1.RuleProtocols{Ports: []v1alpha1.PortMatch{{Port: new(int32(8080))}}}},
				{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{{
					NamespaceSelector: one("team", fmt.Sprintf("team-%d", i%20)), PodSelector: one("tier", "front")}}},
				{Action: v1alpha1.ActionDeny, From: []v1alpha1.Peer{{CIDR: "10.200.0.0/16"}}},
			},
			Egress: []v1alpha1.EgressRule{
				{Action: v1alpha1.ActionAllow, To: []v1alpha1.Peer{{NamespaceSelector: one("env", "prod")}}},
				{Action: v1alpha1.ActionAllow, To: []v1alpha1.Peer{{NamespaceSelector: &v1alpha1.LabelSelector{}, PodSelector: one("app", "app-3")}},
					RuleProtocols: v1alpha1.RuleProtocols{Ports: []v1alpha1.PortMatch{{Protocol: v1alpha1.ProtocolUDP, Port: new(int32(53))}}}},
			},
		}
		s.Policies = append(s.Policies, p)
	}
	return s
}

func benchEndpoint(i int, namespace string) policy.Endpoint {
	return policy.Endpoint{
		ID: fmt.Sprintf("pod-%05d", i), Namespace: namespace, Name: fmt.Sprintf("pod-%05d", i),
		Labels: map[string]string{
			"app": fmt.Sprintf("app-%d", i/7%10), "tier": []string{"front", "middle", "back"}[i%3],
			"pod-template-hash": fmt.Sprintf("%08x", i*2654435761), "version": fmt.Sprintf("v%d", i%5),
		},
		Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
			netip.AddrFrom16([16]byte{0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}),
		},
	}
}

var sink policy.Delta // keeps what is measured from being optimised away

var benchSizes = []struct{ pods, policies int }{{1000, 100}, {10000, 1000}}

func BenchmarkCompile(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("pods=%d/policies=%d", size.pods, size.policies), func(b *testing.B) {
			s := benchState(size.pods, size.policies)
			b.ReportAllocs()
			for b.Loop() {
				policy.Compile(s)
			}
		})
	}
}

// BenchmarkChange is the cost of one change: telling the compiler, the new
// result, and its difference from the one before.
func BenchmarkChange(b *testing.B) {
	for _, size := range benchSizes {
		s := benchState(size.pods, size.policies)
		c := policy.NewCompiler()
		setAll(c, s)
		for _, change := range []struct {
			name string
			do   func(i int)
		}{
			{"pod comes and goes", func(i int) {
				if i%2 == 0 {
					c.SetEndpoint(benchEndpoint(size.pods+1, "namespace-001"))
				} else {
					c.DeleteEndpoint(benchEndpoint(size.pods+1, "").ID)
				}
			}},
			{"pod labels", func(i int) {
				e := s.Endpoints[42]
				e.Labels = map[string]string{"app": fmt.Sprintf("app-%d", i%10), "tier": "front"}
				c.SetEndpoint(e)
			}},
			{"namespace labels", func(i int) {
				c.SetNamespace("namespace-001", map[string]string{"env": []string{"prod", "test"}[i%2]})
			}},
			{"policy", func(i int) {
				p := s.Policies[i%len(s.Policies)].DeepCopy()
				p.Spec.Priority = new(int32(i % 1000))
				c.SetPolicy(p)
			}},
			{"policy comes and goes", func(i int) {
				if i%2 == 0 {
					c.DeletePolicy(s.Policies[7].Namespace, s.Policies[7].Name)
				} else {
					c.SetPolicy(s.Policies[7])
				}
			}},
		} {
			b.Run(fmt.Sprintf("%s/pods=%d/policies=%d", change.name, size.pods, size.policies), func(b *testing.B) {
				last := c.Result()
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					change.do(i)
					i++
					next := c.Result()
					sink = policy.Diff(last, next)
					last = next
				}
			})
		}
	}
}
