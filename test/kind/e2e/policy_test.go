// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/test/kind/probe"
)

// policies makes and changes NetIOPolicy objects.
func policies(t *testing.T) ctrlclient.Client {
	t.Helper()
	c, err := ctrlclient.New(config, ctrlclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(c.Scheme()); err != nil {
		t.Fatal(err)
	}
	return c
}

// label changes a label of a pod.
func (p pod) label(t *testing.T, key, value string) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{key: value}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Pods(p.namespace).Patch(t.Context(), p.name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// awaitReach waits until a pod reaches another one at all its addresses, or at none.
func awaitReach(t *testing.T, from, to pod, reaches bool) {
	t.Helper()
	awaitTargets(t, from, to.targets(), reaches)
}

// awaitTCP is awaitReach for TCP alone.
func awaitTCP(t *testing.T, from, to pod, reaches bool) {
	t.Helper()
	awaitTargets(t, from, to.tcpTargets(), reaches)
}

// awaitTargets waits until all targets answer a pod, or none does.
func awaitTargets(t *testing.T, from pod, targets []string, reaches bool) {
	t.Helper()
	await(t, fmt.Sprintf("%s reaches %v: %v", from.name, targets, reaches), func(ctx context.Context) error {
		answers, err := from.reach(ctx, targets...)
		if err != nil {
			return err
		}
		for target, a := range answers {
			if (a.Error == "") != reaches {
				return fmt.Errorf("%s: %+v", target, a)
			}
		}
		return nil
	})
}

// TestPolicy: a policy holds on every node, for pods that were there before and
// such that come, as labels change, and cuts what it forbids.
//
//	n1: friend, db <── policy: from role=friend, and the node (kubelet's probes)
//	last node: stranger
func TestPolicy(t *testing.T) {
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "db", first)
	startPod(t, namespace, "friend", first)
	startPod(t, namespace, "stranger", last)
	db, friend, stranger := awaitPod(t, namespace, "db"), awaitPod(t, namespace, "friend"), awaitPod(t, namespace, "stranger")
	db.label(t, "role", "db")
	friend.label(t, "role", "friend")
	held := stranger.hold(t, net.JoinHostPort(db.addrs[0].String(), db.port))
	held.goesOn(t)

	policy := &v1alpha1.NetIOPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "db"},
		Spec: v1alpha1.NetIOPolicySpec{
			PodSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"role": "db"}},
			Ingress: []v1alpha1.IngressRule{{
				Action: v1alpha1.ActionAllow,
				From: []v1alpha1.Peer{
					{PodSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"role": "friend"}}},
					{Entity: v1alpha1.EntityHost},
				},
			}},
		},
	}
	objects := policies(t)
	if err := objects.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	awaitReach(t, stranger, db, false)
	awaitReach(t, friend, db, true)
	held.breaks(t)

	t.Run("labels", func(t *testing.T) {
		stranger.label(t, "role", "friend")
		awaitReach(t, stranger, db, true)
		stranger.label(t, "role", "foe")
		awaitReach(t, stranger, db, false)
	})
	t.Run("new pods", func(t *testing.T) {
		// Of its labels its first packet is judged: no second try.
		startPod(t, namespace, "late", last)
		late := awaitPod(t, namespace, "late")
		answers, err := late.reach(t.Context(), db.targets()...)
		if err != nil {
			t.Fatal(err)
		}
		for target, a := range answers {
			if a.Error == "" {
				t.Errorf("%s answers", target)
			}
		}
	})
	t.Run("the policy goes", func(t *testing.T) {
		if err := objects.Delete(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
		awaitReach(t, stranger, db, true)
	})
}

// TestNetworkPolicy: Kubernetes' own policies hold, and leave kubelet's probes
// alone.
//
//	n1: db <── NetworkPolicies
//	last node: friend and stranger, by turns, in namespaces of their own
func TestNetworkPolicy(t *testing.T) {
	namespace, elsewhere := newNamespace(t), newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "db", first)
	startPod(t, namespace, "near", last)
	startPod(t, elsewhere, "far", last)
	db, near, far := awaitPod(t, namespace, "db"), awaitPod(t, namespace, "near"), awaitPod(t, elsewhere, "far")
	began := time.Now()
	api := client.NetworkingV1().NetworkPolicies(namespace)
	named := intstr.FromString(probe.PortName)
	for _, step := range []struct {
		name      string
		rules     []networkingv1.NetworkPolicyIngressRule
		near, far bool // reach db by TCP
	}{
		{"deny", nil, false, false},
		{"allow a namespace", []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: elsewhere}},
		}}}}, false, true},
		{"allow a port by name", []networkingv1.NetworkPolicyIngressRule{{
			From:  []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &named}},
		}}, true, false},
	} {
		t.Run(step.name, func(t *testing.T) {
			policy, err := api.Create(t.Context(), &networkingv1.NetworkPolicy{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}, Spec: networkingv1.NetworkPolicySpec{Ingress: step.rules},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			awaitTCP(t, near, db, step.near)
			awaitTCP(t, far, db, step.far)
			if err := api.Delete(t.Context(), policy.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			awaitTCP(t, near, db, true)
			awaitTCP(t, far, db, true)
		})
	}
	is, err := client.CoreV1().Pods(namespace).Get(t.Context(), db.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range is.Status.Conditions {
		// A probe that fails for three seconds would have shown.
		if c.Type == corev1.PodReady && (c.Status != corev1.ConditionTrue || c.LastTransitionTime.After(began)) {
			t.Errorf("db was not ready all the time: %v", c)
		}
	}
}

// breaks waits until the connection has ended, by no will of its own.
func (c *connection) breaks(t *testing.T) {
	t.Helper()
	select {
	case <-c.broken:
		if c.err == nil {
			t.Error("it ended as if it was told to")
		}
	case <-time.After(patience):
		t.Fatalf("the connection goes on after %d answers", c.answers.Load())
	}
}
