// SPDX-License-Identifier: Apache-2.0

package taint

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/operatortest"
)

// TestController: the taint goes when the node's own agent is ready, and no other taint
// does.
func TestController(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	c := kubetest.Client(t, config)
	ctx := t.Context()
	defer operatortest.Start(t, config, operator.Controller{Name: Name, Register: Register}, nil)()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(name string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: "theirs", Effect: corev1.TaintEffectNoSchedule},
			{Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoSchedule},
			{Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoExecute},
		}}}
		must(c.Create(ctx, n))
		return n
	}
	tell := func(name string, of types.UID, status metav1.ConditionStatus) *v1alpha1.NetIONode {
		s := &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: of}}}}
		must(c.Create(ctx, s))
		apimeta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{Type: v1alpha1.NodeReady, Status: status, Reason: "Test"})
		must(c.Status().Update(ctx, s))
		return s
	}
	tainted := func(n *corev1.Node) bool { return slices.ContainsFunc(n.Spec.Taints, ours) }

	waits, was := add("waits"), add("was")
	state := tell("waits", waits.UID, metav1.ConditionFalse)
	tell("was", "1234", metav1.ConditionTrue) // of another node of that name
	ready := add("ready")
	tell("ready", ready.UID, metav1.ConditionTrue)
	kubetest.Await(t, c, "a node that is ready has no taint of ours", ready, func(n *corev1.Node) bool { return !tainted(n) && len(n.Spec.Taints) > 0 })
	for _, n := range []*corev1.Node{waits, was} {
		must(c.Get(ctx, client.ObjectKeyFromObject(n), n))
		if !tainted(n) {
			t.Errorf("node %s has no taint any more", n.Name)
		}
	}
	apimeta.SetStatusCondition(&state.Status.Conditions, metav1.Condition{Type: v1alpha1.NodeReady, Status: metav1.ConditionTrue, Reason: "Test"})
	must(c.Status().Update(ctx, state))
	kubetest.Await(t, c, "nor has one that has become ready", waits, func(n *corev1.Node) bool { return !tainted(n) && len(n.Spec.Taints) > 0 })
}
