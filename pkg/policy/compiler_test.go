// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"netio.dev/netio/api/v1alpha1"
)

// TestNothingIsLeft: what policies, endpoints and namespaces brought goes with
// them, or a node that runs for months fills its memory.
func TestNothingIsLeft(t *testing.T) {
	c := NewCompiler()
	labels := func(i int) map[string]string { return map[string]string{"app": fmt.Sprint("a", i)} }
	selector := func(i int) *v1alpha1.LabelSelector {
		return &v1alpha1.LabelSelector{
			MatchLabels:      map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(fmt.Sprint("a", i))},
			MatchExpressions: []v1alpha1.LabelExpression{{Key: "tier", Operator: v1alpha1.LabelIn, Values: []v1alpha1.LabelValue{"x", "y"}}},
		}
	}
	policy := func(i int) *v1alpha1.NetIOPolicy {
		p := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("n", i%3), Name: fmt.Sprint("p", i)}}
		p.Spec.Ingress = []v1alpha1.IngressRule{{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{
			{PodSelector: selector(i)}, {NamespaceSelector: selector(i + 1)}, {NamespaceSelector: &v1alpha1.LabelSelector{}, PodSelector: selector(i)},
			{Entity: v1alpha1.EntityWorld}, {NodeSelector: selector(i)}, {CIDR: "10.0.0.0/8"},
		}}}
		return p
	}
	for range 3 {
		for i := range 9 {
			c.SetNamespace(fmt.Sprint("n", i%4), labels(i))
			c.SetPolicy(policy(i))
			c.SetClusterPolicy(&v1alpha1.NetIOClusterPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)},
				Spec: v1alpha1.NetIOClusterPolicySpec{Tier: v1alpha1.TierBaseline, PodSelector: selector(i), Ingress: []v1alpha1.ClusterIngressRule{
					{Action: v1alpha1.ActionPass, From: []v1alpha1.Peer{{PodSelector: selector(i + 1)}}}}}})
			c.SetEndpoint(Endpoint{ID: fmt.Sprint("e", i), Namespace: fmt.Sprint("n", i%5), Labels: labels(i),
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}, Remote: i%2 == 0})
		}
		c.Result()
		for i := range 9 {
			p := policy(i)
			p.Spec.Ingress[0].From = p.Spec.Ingress[0].From[1:] // a replacement that needs less
			c.SetPolicy(p)
		}
		indexed := map[*group]bool{}
		for _, s := range c.scopes {
			for _, groups := range s.byLabel {
				for _, g := range groups {
					indexed[g] = true
				}
			}
			for _, g := range s.others {
				indexed[g] = true
			}
		}
		if len(indexed) != len(c.groups) {
			t.Errorf("%d groups are indexed, there are %d", len(indexed), len(c.groups))
		}
		for i := range 9 {
			c.DeleteNamespace(fmt.Sprint("n", i%4))
			c.DeleteClusterPolicy(fmt.Sprint("p", i))
			c.DeletePolicy(fmt.Sprint("n", i%3), fmt.Sprint("p", i))
			c.DeleteEndpoint(fmt.Sprint("e", i))
		}
		r := c.Result()
		for what, left := range map[string]int{
			"namespaces": len(c.namespaces), "endpoints": len(c.endpoints), "policies": len(c.policies), "groups": len(c.groups),
			"scopes": len(c.scopes), "local endpoints": len(c.local), "strays": len(c.strays.get().Prefixes), "node sets": len(c.nodeSets),
		} {
			if left != 0 {
				t.Errorf("%d %s are left", left, what)
			}
		}
		if len(r.Policies)+len(r.AddressSets)+len(r.Endpoints)+len(r.Problems) != 0 {
			t.Errorf("result of nothing: %+v", r)
		}
	}
}

// TestUnreadSetStaysSmall: changes to a set that nobody reads do not pile up.
func TestUnreadSetStaysSmall(t *testing.T) {
	var s addressSet
	a := addresses([]netip.Addr{netip.MustParseAddr("10.0.0.1")})
	for range 10_000 {
		s.add(a)
		s.remove(a)
	}
	if len(s.waiting) > 200 {
		t.Errorf("%d changes wait", len(s.waiting))
	}
	if got := s.get().Prefixes; len(got) != 0 {
		t.Errorf("set %v", got)
	}
}
