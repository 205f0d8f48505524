// SPDX-License-Identifier: Apache-2.0

// Package pools allots blocks of NetIOIPPools to the nodes whose pods need them.
//
//	NetIOIPPool  cidrs ───────────┐              ┌──> NetIONode  spec.pools: blocks
//	NetIONode    status.pools: ───┼── makePlan ──┤
//	             wanted, empty    │              └──> NetIOIPPool  status
//	Node         spec.podCIDRs ───┘
//
// A node's block is written into its NetIONode with the version that the plan was
// made of: what was asked for and what is given are one object, so that nothing is
// given twice, and nothing is taken back that the node began to use again. That no two nodes get the same block needs one operator at a time,
// and the nodes as the API server has them, not as a cache remembers them.
package pools

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"netio.dev/netio/api/v1alpha1"
)

// Name of the controller.
const Name = "pools"

// again is how soon a plan is made anew of which something was out of date.
const again = 50 * time.Millisecond

// usedEvery bounds how often a pool's status is written for the number of addresses
// in use alone: it changes with each pod, and all agents watch pools.
const usedEvery = 10 * time.Second

// Register adds the controller to a manager.
func Register(m manager.Manager) error {
	r := &reconciler{cached: m.GetClient(), live: m.GetAPIReader(), told: map[string]time.Time{}}
	// All is one plan.
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{{}} })
	err := builder.ControllerManagedBy(m).Named(Name).
		Watches(&v1alpha1.NetIOIPPool{}, all, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.NetIONode{}, all, builder.WithPredicates(changes(func(a, b *v1alpha1.NetIONode) bool {
			return equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status.Pools, b.Status.Pools) && a.DeletionTimestamp.Equal(b.DeletionTimestamp)
		}))).
		Watches(&corev1.Node{}, all, builder.WithPredicates(changes(func(a, b *corev1.Node) bool {
			return equality.Semantic.DeepEqual(a.Spec.PodCIDRs, b.Spec.PodCIDRs) && equality.Semantic.DeepEqual(a.Status.Addresses, b.Status.Addresses)
		}))).
		Complete(r)
	if err != nil {
		return fmt.Errorf("watch pools and nodes: %w", err)
	}
	return nil
}

// changes lets updates through that change what matters.
func changes[T client.Object](same func(was, is T) bool) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, ok := e.ObjectOld.(T)
		is, ok2 := e.ObjectNew.(T)
		return !ok || !ok2 || !same(was, is)
	}}
}

// reconciler writes what is planned.
type reconciler struct {
	cached client.Client
	live   client.Reader
	// told is when the status of a pool was written, by its name.
	told map[string]time.Time
}

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	w, err := r.read(ctx, r.cached)
	if err != nil {
		return reconcile.Result{}, err
	}
	p := makePlan(w)
	if len(p.specs) > 0 {
		if w, err = r.read(ctx, r.live); err != nil {
			return reconcile.Result{}, err
		}
		p = makePlan(w)
	}
	var errs []error
	outdated := false
	failed := func(what string, err error) {
		switch {
		case apierrors.IsConflict(err), apierrors.IsNotFound(err):
			outdated = true
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	for i := range w.states {
		s := &w.states[i]
		pools, changed := p.specs[s.Name]
		if !changed {
			continue
		}
		s = s.DeepCopy() // a cache's
		s.Spec.Pools = pools
		err := r.cached.Update(ctx, s)
		failed("write spec of NetIONode "+s.Name, err)
		if err != nil {
			continue
		}
		for _, a := range p.returned {
			if a.node == s.Name {
				slog.Info("block returned", "pool", a.pool, "node", a.node, "block", a.block)
			}
		}
		for _, a := range p.allotted {
			if a.node == s.Name {
				slog.Info("block allotted", "pool", a.pool, "node", a.node, "block", a.block)
			}
		}
	}
	var next time.Duration
	for i := range w.pools {
		later, err := r.tell(ctx, &w.pools[i], p.statuses[w.pools[i].Name])
		failed("write status of NetIOIPPool "+w.pools[i].Name, err)
		next = max(next, later)
	}
	if outdated {
		next = again
	}
	if len(errs) > 0 {
		return reconcile.Result{}, errors.Join(errs...)
	}
	return reconcile.Result{RequeueAfter: next}, nil
}

// read reads everything, NetIO's objects by way of from.
func (r *reconciler) read(ctx context.Context, from client.Reader) (world, error) {
	var pools v1alpha1.NetIOIPPoolList
	var states v1alpha1.NetIONodeList
	var nodes corev1.NodeList
	if err := errors.Join(from.List(ctx, &pools), from.List(ctx, &states), r.cached.List(ctx, &nodes)); err != nil {
		return world{}, fmt.Errorf("list pools and nodes: %w", err)
	}
	return world{pools: pools.Items, nodes: nodes.Items, states: states.Items}, nil
}

// tell writes a pool's status if it is another one, or says how much later it is to be
// written.
func (r *reconciler) tell(ctx context.Context, o *v1alpha1.NetIOIPPool, s v1alpha1.NetIOIPPoolStatus) (later time.Duration, err error) {
	o = o.DeepCopy()
	was := o.Status.DeepCopy()
	o.Status.IPv4, o.Status.IPv6 = s.IPv4, s.IPv6
	for _, c := range s.Conditions {
		c.ObservedGeneration = o.Generation
		apimeta.SetStatusCondition(&o.Status.Conditions, c)
	}
	if equality.Semantic.DeepEqual(was, &o.Status) {
		return 0, nil
	}
	if later := usedEvery - time.Since(r.told[o.Name]); later > 0 && equality.Semantic.DeepEqual(withoutUsed(was), withoutUsed(&o.Status)) {
		return later, nil
	}
	if err := r.cached.Status().Update(ctx, o); err != nil {
		return 0, err
	}
	r.told[o.Name] = time.Now()
	return 0, nil
}

func withoutUsed(s *v1alpha1.NetIOIPPoolStatus) *v1alpha1.NetIOIPPoolStatus {
	s = s.DeepCopy()
	for _, use := range []*v1alpha1.PoolUse{s.IPv4, s.IPv6} {
		if use != nil {
			use.Used = 0
		}
	}
	return s
}
