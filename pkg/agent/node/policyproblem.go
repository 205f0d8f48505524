// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/policy"
)

// policyProblems are the problems of a state's policies, one of each object: one that
// is by the name of a port is its policy's.
func policyProblems(s desired.State, problems []policy.Problem) []PolicyProblem {
	var all []PolicyProblem
	for _, p := range problems {
		kind, namespace, name := policy.Object(p.Policy)
		all = append(all, PolicyProblem{
			Kind: kind, Namespace: namespace, Name: name, Generation: generation(s, kind, namespace, name),
			Reason: string(p.Reason), Message: p.Err.Error() + "; " + p.Effect,
		})
	}
	worse := func(p PolicyProblem) int {
		if p.Reason == string(policy.NoEffect) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b PolicyProblem) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), worse(a)-worse(b))
	})
	return slices.CompactFunc(all, func(a, b PolicyProblem) bool {
		return a.Kind == b.Kind && a.Namespace == b.Namespace && a.Name == b.Name
	})
}

// generation is that of a policy in the state, 0 if it has none.
func generation(s desired.State, kind, namespace, name string) int64 {
	switch kind {
	case policy.KindNetIOPolicy:
		return generationOf(s.Policies, namespace, name)
	case policy.KindNetIOClusterPolicy:
		return generationOf(s.ClusterPolicies, namespace, name)
	case policy.KindNetworkPolicy:
		return generationOf(s.NetworkPolicies, namespace, name)
	}
	return generationOf(s.ClusterNetworkPolicies, namespace, name)
}

func generationOf[T metav1.Object](list []T, namespace, name string) int64 {
	i := slices.IndexFunc(list, func(o T) bool { return o.GetNamespace() == namespace && o.GetName() == name })
	if i < 0 {
		return 0
	}
	return list[i].GetGeneration()
}
