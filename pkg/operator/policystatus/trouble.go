// SPDX-License-Identifier: Apache-2.0

package policystatus

import (
	"cmp"
	"context"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/events"
	"netio.dev/netio/pkg/policy"
)

// troubles are the reasons of a policy that is not in force, nor will be, without
// somebody who does something, with their Events.
var troubles = map[string]events.Reason{
	v1alpha1.PolicyReasonRefused:       events.PolicyRefused,
	v1alpha1.PolicyReasonNotUnderstood: events.PolicyNotUnderstood,
	v1alpha1.PolicyReasonTooLarge:      events.PolicyTooLarge,
}

// turned is the Event of a policy that had one reason and has another one now, "" for
// none: a policy that is in force as it should be is none.
func turned(was, now string) events.Reason {
	switch {
	case was == now:
		return ""
	case troubles[now] != "":
		return troubles[now]
	case troubles[was] != "" && now == v1alpha1.PolicyReasonEnforced:
		return events.PolicyEnforced
	}
	return ""
}

// tellOfNetworkPolicies writes Events of the problems of NetworkPolicies, which have no
// status. An operator that starts tells of them again.
func (r *reconciler) tellOfNetworkPolicies(ctx context.Context, places []place) {
	now := networkPolicyProblems(places)
	for _, k := range slices.SortedFunc(maps.Keys(now), key.compare) {
		problem := now[k]
		if was, ok := r.told[k]; ok && was.Reason == problem.Reason && was.Generation == problem.Generation {
			continue
		}
		object := &metav1.PartialObjectMetadata{}
		object.SetGroupVersionKind(schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: k.kind})
		if err := r.live.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: k.name}, object); err != nil {
			continue // it is gone, most likely; else the next pass tells
		}
		r.told[k] = problem
		r.events.Tell(object, cmp.Or(troubles[problem.Reason], events.PolicyNotUnderstood), "Enforce", problem.Message)
	}
	maps.DeleteFunc(r.told, func(k key, _ v1alpha1.PolicyProblem) bool { _, is := now[k]; return !is })
}

// networkPolicyProblems are what nodes tell of NetworkPolicies, of each the first.
func networkPolicyProblems(places []place) map[key]v1alpha1.PolicyProblem {
	all := map[key]v1alpha1.PolicyProblem{}
	for i := range places {
		for k, problem := range places[i].problems {
			if _, ok := all[k]; !ok && k.kind == policy.KindNetworkPolicy && problem.Reason != v1alpha1.PolicyReasonNoEffect {
				all[k] = problem
			}
		}
	}
	return all
}
