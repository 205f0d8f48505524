// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

// TestClusterPolicy: the tiers of policies, from administrators' to what holds where
// nobody says anything, between pods of two nodes.
//
//	namespace of clients: near (n1), far (last node) ──> db (n1), in its namespace
func TestClusterPolicy(t *testing.T) {
	clients, namespace := newNamespace(t), newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "db", first)
	startPod(t, clients, "near", first)
	startPod(t, clients, "far", last)
	db, near, far := awaitPod(t, namespace, "db"), awaitPod(t, clients, "near"), awaitPod(t, clients, "far")
	objects := policies(t)

	inNamespace := func(name string) *v1alpha1.LabelSelector {
		return &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"kubernetes.io/metadata.name": v1alpha1.LabelValue(name)}}
	}
	fromClients := []v1alpha1.Peer{{NamespaceSelector: inNamespace(clients)}}
	put := func(tier v1alpha1.Tier, action v1alpha1.Action) *v1alpha1.NetIOClusterPolicy {
		t.Helper()
		p := &v1alpha1.NetIOClusterPolicy{
			ObjectMeta: metav1.ObjectMeta{GenerateName: namespace + "-"},
			Spec: v1alpha1.NetIOClusterPolicySpec{
				Tier: tier, NamespaceSelector: inNamespace(namespace),
				Ingress: []v1alpha1.ClusterIngressRule{{Action: action, From: fromClients}},
			},
		}
		if err := objects.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	remove := func(p *v1alpha1.NetIOClusterPolicy) {
		t.Helper()
		if err := objects.Delete(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	reached := func(is bool) {
		t.Helper()
		awaitTCP(t, near, db, is)
		awaitTCP(t, far, db, is)
	}

	baseline := put(v1alpha1.TierBaseline, v1alpha1.ActionDeny)
	defer remove(baseline)
	reached(false)

	open := &v1alpha1.NetIOPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "open"},
		Spec:       v1alpha1.NetIOPolicySpec{Ingress: []v1alpha1.IngressRule{{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{{Entity: v1alpha1.EntityAll}}}}},
	}
	if err := objects.Create(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	reached(true) // the namespace's word counts more than the baseline

	admin := put(v1alpha1.TierAdmin, v1alpha1.ActionDeny)
	reached(false) // and the administrator's more than that
	remove(admin)
	reached(true)

	if err := objects.Delete(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	reached(false)
	admin = put(v1alpha1.TierAdmin, v1alpha1.ActionAllow)
	defer remove(admin)
	reached(true)
}
