// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/policy"
)

// withBlocks is a NetworkPolicy of one rule with so many peers.
func withBlocks(name string, n int) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	rule := networkingv1.NetworkPolicyIngressRule{}
	for i := range n {
		rule.From = append(rule.From, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)}})
	}
	p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{rule}
	return p
}

func withRules(name string, n int) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	for range n {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8"}}}})
	}
	return p
}

func withPorts(name string, n int) *networkingv1.NetworkPolicy {
	p := withRules(name, 1)
	for i := range n {
		p.Spec.Ingress[0].Ports = append(p.Spec.Ingress[0].Ports, networkingv1.NetworkPolicyPort{Port: new(intstr.FromInt32(int32(i + 1)))})
	}
	return p
}

// TestTooLarge: a policy that the forwarder would refuse, and all others with it,
// stays as it was, or closes if it never was anything else.
func TestTooLarge(t *testing.T) {
	for name, test := range map[string]struct {
		make  func(name string, n int) *networkingv1.NetworkPolicy
		most  int
		wants string
	}{
		"rules": {withRules, config.MaxRules - 2, "9999"}, // the node's own is one
		"peers": {withBlocks, config.MaxRulePeers, "has 1025 peers; a node takes 1024: make several rules of it"},
		"ports": {withPorts, config.MaxRuleMatches, "has 1025 ports; a node takes 1024: make several rules of it"},
	} {
		t.Run(name, func(t *testing.T) {
			c := policy.NewCompiler()
			c.SetEndpoint(policy.Endpoint{ID: "e", Namespace: "shop", Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}})
			check := func(what, effect string) *dataplanev1.Policy {
				t.Helper()
				r := c.Result()
				if err := config.Validate(snapshot(r)); err != nil {
					t.Fatalf("%s: the forwarder refuses it: %v", what, err)
				}
				switch {
				case effect == "" && len(r.Problems) == 0:
				case effect != "" && len(r.Problems) == 1 && r.Problems[0].Reason == policy.TooLarge && r.Problems[0].Effect == effect && strings.Contains(r.Problems[0].Err.Error(), test.wants):
				default:
					t.Errorf("%s: problems %+v", what, r.Problems)
				}
				return r.Policies[0]
			}
			c.SetNetworkPolicy(test.make("p", test.most))
			was := check("as large as it may be", "")
			c.SetNetworkPolicy(test.make("p", test.most+1))
			if got := check("grown", "it stays in force as it was before"); got != was {
				t.Error("grown: it is another one")
			}
			c.SetNetworkPolicy(test.make("p", 1))
			if got := check("small again", ""); got == was {
				t.Error("small again: it did not change")
			}
			c.DeleteNetworkPolicy("shop", "p")
			c.SetNetworkPolicy(test.make("p", test.most+1))
			closed := check("too large from the beginning", "it closes what it selects")
			if !closed.IsolatesIngress || len(closed.Ingress) != 1 || closed.Ingress[0].Action != dataplanev1.Action_DENY {
				t.Errorf("it does not close: %v", closed)
			}
			c.SetNetworkPolicy(test.make("p", test.most))
			check("shrunk", "")
		})
	}
}

// TestNoEffect: a port's name that no pod has is told as long as that is so.
func TestNoEffect(t *testing.T) {
	c := policy.NewCompiler()
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}}
	p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString("http"))}}}}
	c.SetNetworkPolicy(p)
	problems := func() []policy.Problem { r := c.Result(); return r.Problems }
	if got := problems(); len(got) != 1 || got[0].Reason != policy.NoEffect || !strings.Contains(got[0].Err.Error(), "no pod has a port by the name http") {
		t.Errorf("%+v", got)
	}
	e := policy.Endpoint{ID: "e", Namespace: "shop", Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, Remote: true, Ports: []policy.Port{{Name: "http", Protocol: "TCP", Number: 80}}}
	c.SetEndpoint(e)
	if got := problems(); len(got) != 0 {
		t.Errorf("with such a pod: %+v", got)
	}
	c.DeleteEndpoint("e")
	if got := problems(); len(got) != 1 {
		t.Errorf("without it: %+v", got)
	}
	c.DeleteNetworkPolicy("shop", "p")
	if got := problems(); len(got) != 0 {
		t.Errorf("without the policy: %+v", got)
	}
}

func TestObject(t *testing.T) {
	for table, want := range map[string][3]string{
		policy.Name("shop", "web"):                               {"NetIOPolicy", "shop", "web"},
		policy.ClusterPolicyName("web"):                          {"NetIOClusterPolicy", "", "web"},
		policy.NetworkPolicyName("shop", "web") + "#TCP/http=80": {"NetworkPolicy", "shop", "web"},
		policy.ClusterNetworkPolicyName("web"):                   {"ClusterNetworkPolicy", "", "web"},
	} {
		kind, namespace, name := policy.Object(table)
		if got := [3]string{kind, namespace, name}; got != want {
			t.Errorf("%s: %v, expected %v", table, got, want)
		}
	}
}
