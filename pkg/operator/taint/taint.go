// SPDX-License-Identifier: Apache-2.0

// Package taint takes the taint netio.dev/agent-not-ready from nodes whose agent gives
// pods their network. Who puts it there is kubelet, when it registers a node
// (--register-with-taints): no pod that does not tolerate it comes before its network.
package taint

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"netio.dev/netio/api/v1alpha1"
)

// Name of the controller.
const Name = "taint"

// Register adds the controller to a manager.
func Register(m manager.Manager) error {
	r := &reconciler{client: m.GetClient()}
	// A NetIONode has the name of its Node.
	same := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetName()}}}
	})
	err := builder.ControllerManagedBy(m).Named(Name).
		WithOptions(controller.Options{SkipNameValidation: new(true)}). // there may be several managers, as in tests
		Watches(&corev1.Node{}, same, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			n, ok := o.(*corev1.Node)
			return ok && slices.ContainsFunc(n.Spec.Taints, ours)
		}))).
		Watches(&v1alpha1.NetIONode{}, same).
		Complete(r)
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	return nil
}

func ours(t corev1.Taint) bool { return t.Key == v1alpha1.NotReadyTaint }

type reconciler struct{ client client.Client }

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	node, state := &corev1.Node{}, &v1alpha1.NetIONode{}
	for _, o := range []client.Object{node, state} {
		if err := r.client.Get(ctx, request.NamespacedName, o); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	if !slices.ContainsFunc(node.Spec.Taints, ours) || !apimeta.IsStatusConditionTrue(state.Status.Conditions, v1alpha1.NodeReady) || !isOf(state, node) {
		return reconcile.Result{}, nil
	}
	untainted := node.DeepCopy()
	untainted.Spec.Taints = slices.DeleteFunc(untainted.Spec.Taints, ours)
	// Taints are one list: what others add meanwhile must not be lost.
	err := r.client.Patch(ctx, untainted, client.MergeFromWithOptions(node, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return reconcile.Result{}, nil // it has changed, and what it is now will be seen
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("take the taint %s from node %s: %w", v1alpha1.NotReadyTaint, node.Name, err)
	}
	slog.Info("taint taken away: pods have their network", "node", node.Name, "taint", v1alpha1.NotReadyTaint)
	return reconcile.Result{}, nil
}

// isOf tells whether a state is of this node, and not of one that had the name before.
func isOf(state *v1alpha1.NetIONode, node *corev1.Node) bool {
	for _, o := range state.OwnerReferences {
		if o.UID == node.UID {
			return true
		}
	}
	return false
}
