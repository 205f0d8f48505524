// SPDX-License-Identifier: Apache-2.0

// Package policystatus tells in the status of policies on how many nodes they are in
// force, and what is wrong.
//
//	NetIONode  status.enforcement ──┐
//	           heartbeat            ├── judge ──> status of NetIOPolicy, NetIOClusterPolicy,
//	policies   generation, version ─┘             condition of ClusterNetworkPolicy
//
// Agents do not write to policies, of which there may be thousands, but tell in one
// object up to which version they have them. A policy is in force on a node that
// tells of its version or a later one. Writing its status makes a later version too:
// so it is the version at which the policy's generation was first seen that counts,
// and agents do not tell of versions that change nothing else.
package policystatus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/events"
	"netio.dev/netio/pkg/operator/heartbeat"
	"netio.dev/netio/pkg/policy"
)

// Name of the controller.
const Name = "policystatus"

const (
	// period is how far passes are apart at least, and perPass how many policies one
	// writes, those that changed last first: 50 a second.
	period  = 200 * time.Millisecond
	perPass = 10
	// lookAgain is how often the nodes' silence is looked at.
	lookAgain = 30 * time.Second
	// grace is how long a new node may take to tell of policies.
	grace = time.Minute
	// kindAgain is how soon the cluster is asked again for ClusterNetworkPolicies.
	kindAgain = time.Minute
)

// Register adds the controller to a manager.
func Register(m manager.Manager) error {
	r := &reconciler{client: m.GetClient(), memory: newMemory(), nodes: heartbeat.New(), events: events.New(m.GetEventRecorder("netio-operator")), live: m.GetAPIReader(), told: map[key]v1alpha1.PolicyProblem{}}
	c, err := builder.ControllerManagedBy(m).Named(Name).
		WithOptions(controller.Options{SkipNameValidation: new(true)}). // there may be several managers, as in tests
		Watches(&v1alpha1.NetIOPolicy{}, toAll, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.NetIOClusterPolicy{}, toAll, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.NetIONode{}, toAll, builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			was, ok := e.ObjectOld.(*v1alpha1.NetIONode)
			is, ok2 := e.ObjectNew.(*v1alpha1.NetIONode)
			return !ok || !ok2 || !equality.Semantic.DeepEqual(was.Status.Enforcement, is.Status.Enforcement) || !equality.Semantic.DeepEqual(was.Status.Conditions, is.Status.Conditions)
		}})).
		Watches(&corev1.Node{}, toAll, builder.WithPredicates(predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }})).
		Build(r)
	if err != nil {
		return fmt.Errorf("watch policies and nodes: %w", err)
	}
	if err := m.Add(manager.RunnableFunc(func(ctx context.Context) error { return r.awaitKind(ctx, m, c) })); err != nil {
		return fmt.Errorf("await ClusterNetworkPolicies: %w", err)
	}
	return nil
}

// toAll: all is one pass.
var toAll = handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{{}} })

// awaitKind watches ClusterNetworkPolicies as soon as the cluster has the kind.
func (r *reconciler) awaitKind(ctx context.Context, m manager.Manager, c controller.Controller) error {
	kind := schema.GroupKind{Group: networkapi.GroupVersion.Group, Kind: policy.KindClusterNetworkPolicy}
	for {
		_, err := m.GetRESTMapper().RESTMapping(kind, networkapi.GroupVersion.Version)
		if err == nil {
			objects := source.Kind(m.GetCache(), client.Object(&networkapi.ClusterNetworkPolicy{}), toAll, predicate.Predicate(predicate.GenerationChangedPredicate{}))
			if err := c.Watch(objects); err != nil {
				return fmt.Errorf("watch ClusterNetworkPolicies: %w", err)
			}
			r.clusterNetworkPolicies.Store(true)
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(kindAgain):
		}
	}
}

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	now := time.Now()
	if wait := period - now.Sub(r.last); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	r.last, r.pass = now, r.pass+1
	places, err := r.places(ctx, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	subjects, err := r.subjects(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	next := lookAgain
	var due []*subject
	for _, s := range subjects {
		s.sighting = r.memory.see(s.object, s.conditions(), s.enforced, now, r.pass)
		if older(s.object.GetResourceVersion(), s.sighting.written) {
			continue // what was written has not come yet
		}
		s.verdict = judge(&object{
			kind: s.kind, namespace: s.object.GetNamespace(), name: s.object.GetName(), uid: s.object.GetUID(), generation: s.object.GetGeneration(), version: s.sighting.version,
		}, places)
		if wait := s.sighting.at.Add(s.sighting.settle).Sub(now); wait > 0 && s.verdict.reason == v1alpha1.PolicyReasonPending {
			next = min(next, wait)
			continue
		}
		if s.apply() {
			due = append(due, s)
		}
	}
	r.memory.forget(r.pass)
	r.nodes.Forget()
	r.tellOfNetworkPolicies(ctx, places)
	// Who changed something last waits for it.
	slices.SortStableFunc(due, func(a, b *subject) int { return b.sighting.at.Compare(a.sighting.at) })
	var errs []error
	for i, s := range due {
		if i == perPass {
			next = period
			break
		}
		err := r.client.Status().Update(ctx, s.object)
		switch {
		case apierrors.IsConflict(err), apierrors.IsNotFound(err):
			next = period
		case err != nil:
			errs = append(errs, fmt.Errorf("write status of %s %s: %w", s.kind, strings.Trim(s.object.GetNamespace()+"/"+s.object.GetName(), "/"), err))
		default:
			s.sighting.written = s.object.GetResourceVersion()
			if reason := turned(s.was, s.verdict.reason); reason != "" {
				r.events.Tell(s.object, reason, "Enforce", s.verdict.message)
			}
		}
	}
	if len(errs) > 0 {
		return reconcile.Result{}, errors.Join(errs...)
	}
	return reconcile.Result{RequeueAfter: next}, nil
}

// older tells whether a version is older than another one, "" being older than any.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

// places are the nodes that have NetIO, by name.
func (r *reconciler) places(ctx context.Context, now time.Time) ([]place, error) {
	var states v1alpha1.NetIONodeList
	var nodes corev1.NodeList
	if err := errors.Join(r.client.List(ctx, &states), r.client.List(ctx, &nodes)); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	alive := make(map[string]bool, len(nodes.Items))
	for i := range nodes.Items {
		alive[nodes.Items[i].Name] = true
	}
	var all []place
	for i := range states.Items {
		n := &states.Items[i]
		if !alive[n.Name] || n.DeletionTimestamp != nil || n.Status.Enforcement == nil && now.Sub(n.CreationTimestamp.Time) < grace {
			continue
		}
		silent, turned := r.nodes.Hear(n, now)
		switch {
		case turned && !silent.IsZero():
			r.events.Tell(n, events.NodeSilent, "Watch", fmt.Sprintf("netio-agent has not reported since %s: what is in force there stays in force, but does not change; start it, or delete the Node", silent.UTC().Format(time.RFC3339)))
		case turned:
			r.events.Tell(n, events.NodeHeard, "Watch", "netio-agent reports again")
		}
		all = append(all, placeOf(n, silent))
	}
	slices.SortFunc(all, func(a, b place) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// subjects are all policies, copies of what the cache has.
func (r *reconciler) subjects(ctx context.Context) ([]*subject, error) {
	var policies v1alpha1.NetIOPolicyList
	var clusterPolicies v1alpha1.NetIOClusterPolicyList
	if err := errors.Join(r.client.List(ctx, &policies), r.client.List(ctx, &clusterPolicies)); err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	var all []*subject
	for i := range policies.Items {
		all = append(all, ofPolicy(&policies.Items[i]))
	}
	for i := range clusterPolicies.Items {
		all = append(all, ofClusterPolicy(&clusterPolicies.Items[i]))
	}
	if !r.clusterNetworkPolicies.Load() {
		return all, nil
	}
	var others networkapi.ClusterNetworkPolicyList
	if err := r.client.List(ctx, &others); err != nil && !apimeta.IsNoMatchError(err) {
		return nil, fmt.Errorf("list ClusterNetworkPolicies: %w", err)
	}
	for i := range others.Items {
		all = append(all, ofClusterNetworkPolicy(&others.Items[i]))
	}
	return all, nil
}
