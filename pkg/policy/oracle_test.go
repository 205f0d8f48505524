// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	networkingv1 "k8s.io/api/networking/v1"
	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/oracle"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"
)

// checkAgainstOracle compares verdicts of the tables with those of the objects.
func checkAgainstOracle(t *testing.T, g generator, s policy.State, r policy.Result, packets int) {
	t.Helper()
	// Of ClusterNetworkPolicies the oracle knows what becomes of rules that are not
	// understood.
	problems := slices.DeleteFunc(slices.Clone(r.Problems), func(p policy.Problem) bool {
		return p.Reason == policy.NoEffect || strings.HasPrefix(p.Policy, "ClusterNetworkPolicy:")
	})
	if len(problems) > 0 {
		t.Fatalf("policies were not understood: %v\n%s", r.Problems, describe(s))
	}
	for range packets {
		judgeAlike(t, s, r, g.packet())
	}
}

// judgeAlike compares the verdicts of all endpoints about a packet.
func judgeAlike(t *testing.T, s policy.State, r policy.Result, p oracle.Packet) {
	t.Helper()
	for _, e := range s.Endpoints {
		if e.Remote {
			continue
		}
		for _, direction := range []v1alpha1.PolicyType{v1alpha1.PolicyTypeIngress, v1alpha1.PolicyTypeEgress} {
			want := oracle.Judge(s, e, direction, p)
			got := evaluate(t, r, e.ID, direction == v1alpha1.PolicyTypeIngress, p)
			if got != want {
				t.Fatalf("%s of %s, %+v:\n tables %+v\n oracle %+v\n%s", direction, e.ID, p, got, want, describe(s))
			}
		}
	}
}

func describe(v any) string {
	out, err := yaml.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

func TestCompileAgainstOracle(t *testing.T) {
	for seed := range uint64(400) {
		g := random(seed)
		s := g.state()
		checkAgainstOracle(t, g, s, policy.Compile(s), 10)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// FuzzCompile lets a fuzzer choose the state, and a second one that the first is
// changed into step by step.
func FuzzCompile(f *testing.F) {
	for seed := range uint64(8) {
		data := make([]byte, 400)
		r := rand.New(rand.NewPCG(seed, 1))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g := fromBytes(data)
		first, second := g.state(), g.state()
		result := policy.Compile(first)
		checkAgainstOracle(t, g, first, result, 4)

		c := policy.NewCompiler()
		setAll(c, first)
		changeInto(c, first, second)
		changed := c.Result()
		equal(t, "changed compiler", policy.Compile(second), changed)
		checkAgainstOracle(t, random(uint64(len(data))), second, changed, 4)
		checkDiff(t, result, changed)
	})
}

func setAll(c *policy.Compiler, s policy.State) {
	changeInto(c, policy.State{}, s)
}

// changeInto tells a compiler of state old what makes it one of state new.
func changeInto(c *policy.Compiler, old, new policy.State) {
	for _, e := range old.Endpoints {
		if !slices.ContainsFunc(new.Endpoints, func(n policy.Endpoint) bool { return n.ID == e.ID }) {
			c.DeleteEndpoint(e.ID)
		}
	}
	for _, e := range new.Endpoints {
		c.SetEndpoint(e)
	}
	for _, p := range old.Policies {
		if !slices.ContainsFunc(new.Policies, func(n *v1alpha1.NetIOPolicy) bool { return n.Namespace == p.Namespace && n.Name == p.Name }) {
			c.DeletePolicy(p.Namespace, p.Name)
		}
	}
	for _, p := range new.Policies {
		c.SetPolicy(p)
	}
	for _, p := range old.ClusterPolicies {
		if !slices.ContainsFunc(new.ClusterPolicies, func(n *v1alpha1.NetIOClusterPolicy) bool { return n.Name == p.Name }) {
			c.DeleteClusterPolicy(p.Name)
		}
	}
	for _, p := range new.ClusterPolicies {
		c.SetClusterPolicy(p)
	}
	for _, p := range old.ClusterNetworkPolicies {
		if !slices.ContainsFunc(new.ClusterNetworkPolicies, func(n *networkapi.ClusterNetworkPolicy) bool { return n.Name == p.Name }) {
			c.DeleteClusterNetworkPolicy(p.Name)
		}
	}
	for _, p := range new.ClusterNetworkPolicies {
		if !slices.Contains(old.ClusterNetworkPolicies, p) {
			c.SetClusterNetworkPolicy(p)
		}
	}
	for _, p := range old.NetworkPolicies {
		if !slices.ContainsFunc(new.NetworkPolicies, func(n *networkingv1.NetworkPolicy) bool { return n.Namespace == p.Namespace && n.Name == p.Name }) {
			c.DeleteNetworkPolicy(p.Namespace, p.Name)
		}
	}
	for _, p := range new.NetworkPolicies {
		if !slices.Contains(old.NetworkPolicies, p) {
			c.SetNetworkPolicy(p)
		}
	}
	for name := range old.Namespaces {
		if _, ok := new.Namespaces[name]; !ok {
			c.DeleteNamespace(name)
		}
	}
	for name, labels := range new.Namespaces {
		c.SetNamespace(name, labels)
	}
	c.SetNode(new.Node)
}

func equal(t *testing.T, what string, want, got policy.Result) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform(), cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })); diff != "" {
		t.Fatalf("%s: result differs (-want +got):\n%s", what, diff)
	}
}

// checkDiff carries a diff out and expects to arrive.
func checkDiff(t *testing.T, old, new policy.Result) {
	t.Helper()
	d := policy.Diff(old, new)
	got := policy.Result{
		Policies:    patch(old.Policies, d.Policies, d.DeletePolicies, (*dataplanev1.Policy).GetName),
		AddressSets: patch(old.AddressSets, d.AddressSets, d.DeleteAddressSets, (*dataplanev1.AddressSet).GetName),
		Endpoints:   patch(old.Endpoints, d.Endpoints, d.DeleteEndpoints, func(e policy.EndpointPolicies) string { return e.ID }),
		Problems:    new.Problems,
	}
	equal(t, "old result with diff", new, got)
	if again := policy.Diff(new, got); !again.Empty() {
		t.Fatalf("diff of equal results: %+v", again)
	}
}

func patch[T any](old, upserts []T, deletes []string, name func(T) string) []T {
	out := make([]T, 0)
	for _, v := range old {
		replaced := slices.ContainsFunc(upserts, func(u T) bool { return name(u) == name(v) })
		if !replaced && !slices.Contains(deletes, name(v)) {
			out = append(out, v)
		}
	}
	out = append(out, upserts...)
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return out
}

// TestCompilerFollowsChanges changes a state at random, one thing at a time, and
// expects the tables that compiling it anew gives.
func TestCompilerFollowsChanges(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := random(seed)
			s := g.state()
			c := policy.NewCompiler()
			setAll(c, s)
			result := c.Result()
			for range 40 {
				next := g.change(s)
				changeInto(c, s, next)
				if g.one(3) {
					s = next
					continue // a result of several changes at once
				}
				changed := c.Result()
				equal(t, "changed compiler", policy.Compile(next), changed)
				checkAgainstOracle(t, g, next, changed, 2)
				checkDiff(t, result, changed)
				s, result = next, changed
			}
		})
	}
}

// change returns the state with one thing changed. What the states share is not
// written to.
func (g generator) change(s policy.State) policy.State {
	s.Endpoints = slices.Clone(s.Endpoints)
	s.Policies = slices.Clone(s.Policies)
	s.ClusterPolicies = slices.Clone(s.ClusterPolicies)
	s.NetworkPolicies = slices.Clone(s.NetworkPolicies)
	s.ClusterNetworkPolicies = slices.Clone(s.ClusterNetworkPolicies)
	namespaces := map[string]map[string]string{}
	for k, v := range s.Namespaces {
		namespaces[k] = v
	}
	s.Namespaces = namespaces

	endpoint, np := fmt.Sprintf("port%d", g.choose(8)), fmt.Sprintf("policy%d", g.choose(8))
	at := slices.IndexFunc(s.Endpoints, func(e policy.Endpoint) bool { return e.ID == endpoint })
	switch g.choose(15) {
	case 0:
		s.Endpoints = slices.DeleteFunc(s.Endpoints, func(e policy.Endpoint) bool { return e.ID == endpoint })
	case 1:
		if at < 0 {
			s.Endpoints = append(s.Endpoints, g.endpoint(endpoint))
		} else {
			s.Endpoints[at] = g.endpoint(endpoint)
		}
	case 2:
		if at >= 0 {
			s.Endpoints[at].Labels = g.labels()
		}
	case 3:
		if at >= 0 {
			s.Endpoints[at].Addresses = list(g, 2, g.address)
		}
	case 4:
		s.Policies = slices.DeleteFunc(s.Policies, func(p *v1alpha1.NetIOPolicy) bool { return p.Name == np })
	case 5:
		s.Policies = slices.DeleteFunc(s.Policies, func(p *v1alpha1.NetIOPolicy) bool { return p.Name == np })
		s.Policies = append(s.Policies, g.policy(pick(g, namespaceNames...), np))
	case 6:
		if name := pick(g, namespaceNames...); g.one(3) {
			delete(s.Namespaces, name)
		} else {
			s.Namespaces[name] = g.labels()
		}
	case 7:
		s.Node = g.node()
	case 8:
		if at >= 0 {
			s.Endpoints[at].Ports, s.Endpoints[at].ServiceAccount = g.ports(), pick(g, "", "web", "db")
		}
	case 9:
		s.NetworkPolicies = slices.DeleteFunc(s.NetworkPolicies, func(p *networkingv1.NetworkPolicy) bool { return p.Name == np })
	case 10:
		s.NetworkPolicies = slices.DeleteFunc(s.NetworkPolicies, func(p *networkingv1.NetworkPolicy) bool { return p.Name == np })
		s.NetworkPolicies = append(s.NetworkPolicies, g.networkPolicy(pick(g, namespaceNames...), np))
	case 11:
		s.ClusterPolicies = slices.DeleteFunc(s.ClusterPolicies, func(p *v1alpha1.NetIOClusterPolicy) bool { return p.Name == np })
	case 13:
		s.ClusterNetworkPolicies = slices.DeleteFunc(s.ClusterNetworkPolicies, func(p *networkapi.ClusterNetworkPolicy) bool { return p.Name == np })
	case 14:
		s.ClusterNetworkPolicies = slices.DeleteFunc(s.ClusterNetworkPolicies, func(p *networkapi.ClusterNetworkPolicy) bool { return p.Name == np })
		s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, g.clusterNetworkPolicy(np))
	case 12:
		s.ClusterPolicies = slices.DeleteFunc(s.ClusterPolicies, func(p *v1alpha1.NetIOClusterPolicy) bool { return p.Name == np })
		s.ClusterPolicies = append(s.ClusterPolicies, g.clusterPolicy(np))
	}
	return s
}
