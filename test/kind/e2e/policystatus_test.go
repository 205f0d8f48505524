// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/test/kind/node"
)

// awaitEnforced waits until the status of a policy says so, of its generation.
func awaitEnforced(t *testing.T, c ctrlclient.Client, p *v1alpha1.NetIOPolicy, enforced int, reason, message string) {
	t.Helper()
	await(t, fmt.Sprintf("policy %s is %s on %d nodes", p.Name, reason, enforced), func(ctx context.Context) error {
		if err := c.Get(ctx, ctrlclient.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		is := apimeta.FindStatusCondition(p.Status.Conditions, v1alpha1.PolicyEnforced)
		if is == nil || is.ObservedGeneration != p.Generation || is.Reason != reason || !strings.Contains(is.Message, message) ||
			p.Status.Enforced != fmt.Sprintf("%d/%d", enforced, len(under.Nodes)) {
			return fmt.Errorf("%s: %+v", p.Status.Enforced, is)
		}
		return nil
	})
}

// TestPolicyStatus: policies tell on how many nodes they are in force, and which node
// they wait for; one that is too large stops no other.
func TestPolicyStatus(t *testing.T) {
	namespace := newNamespace(t)
	objects := policies(t)
	all, last := len(under.Nodes), under.Nodes[len(under.Nodes)-1].Name
	put := func(name string) *v1alpha1.NetIOPolicy {
		t.Helper()
		p := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if err := objects.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return p
	}

	web, began := put("web"), time.Now()
	awaitEnforced(t, objects, web, all, v1alpha1.PolicyReasonEnforced, "in force on all nodes")
	t.Logf("its status said so after %v", time.Since(began).Round(time.Millisecond))
	web.Spec.Audit = true
	if err := objects.Update(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	awaitEnforced(t, objects, web, all, v1alpha1.PolicyReasonEnforced, "")

	// An agent that stands still.
	pid, err := listener(nodePath(t, last, node.AgentSocket))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() error { return unix.Kill(pid, unix.SIGCONT) }
	t.Cleanup(func() { _ = goOn() }) // again, if the test failed
	late := put("late")
	awaitEnforced(t, objects, late, all-1, v1alpha1.PolicyReasonPending, "not yet in force on "+last)
	awaitEnforced(t, objects, web, all, v1alpha1.PolicyReasonEnforced, "")
	if err := goOn(); err != nil {
		t.Fatal(err)
	}
	awaitEnforced(t, objects, late, all, v1alpha1.PolicyReasonEnforced, "")

	// One that no node takes as it is.
	large := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "large"}}
	large.Spec.Ingress = make([]networkingv1.NetworkPolicyIngressRule, 1)
	for i := range 1025 {
		block := &networkingv1.IPBlock{CIDR: fmt.Sprintf("172.16.%d.%d/32", i/256, i%256)}
		large.Spec.Ingress[0].From = append(large.Spec.Ingress[0].From, networkingv1.NetworkPolicyPeer{IPBlock: block})
	}
	if _, err := client.NetworkingV1().NetworkPolicies(namespace).Create(t.Context(), large, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, n := range under.Nodes {
		await(t, "node "+n.Name+" says what is wrong", func(ctx context.Context) error {
			state := &v1alpha1.NetIONode{}
			if err := objects.Get(ctx, ctrlclient.ObjectKey{Name: n.Name}, state); err != nil {
				return err
			}
			e := state.Status.Enforcement
			if e == nil || !slices.ContainsFunc(e.Problems, func(p v1alpha1.PolicyProblem) bool {
				return p.Kind == "NetworkPolicy" && p.Namespace == namespace && p.Name == "large" && p.Reason == v1alpha1.PolicyReasonTooLarge
			}) {
				return fmt.Errorf("%+v", e)
			}
			return nil
		})
	}
	awaitEnforced(t, objects, put("after"), all, v1alpha1.PolicyReasonEnforced, "")
}
