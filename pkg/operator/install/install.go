// SPDX-License-Identifier: Apache-2.0

// Package install makes the agents of the NetIOCluster, and tells in its status what
// became of them.
//
//	NetIOCluster ──render──> ServiceAccount, ClusterRoleBinding, ConfigMap, DaemonSet
//	     ^                                                                  │ pods
//	     └── status <──judge── DaemonSet's numbers, NetIONodes <── agents ──┘
//
// Objects are written by server-side apply: fields that render sets are put right
// whenever somebody changes them, all others are left to whom they belong. They are
// owned by the NetIOCluster, with which they go.
package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/events"
	"netio.dev/netio/pkg/operator/heartbeat"
)

// Name of the controller, and fieldOwner of what it writes.
const (
	Name       = "install"
	fieldOwner = client.FieldOwner("netio-operator")
)

// lookAgain is how often nodes are looked at that say nothing any more.
const lookAgain = time.Minute

// Watched says which objects of Kubernetes an operator in a namespace has to know for
// this controller: no others than its own.
func Watched(namespace string) map[client.Object]cache.ByObject {
	own := cache.ByObject{Namespaces: map[string]cache.Config{namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", AgentName)}}}
	return map[client.Object]cache.ByObject{
		&appsv1.DaemonSet{}:          own,
		&corev1.ConfigMap{}:          own,
		&corev1.ServiceAccount{}:     own,
		&rbacv1.ClusterRoleBinding{}: {Field: fields.OneTermEqualSelector("metadata.name", AgentName)},
	}
}

// Register is operator.Controller's, for an operator in a namespace, which the
// objects are made in.
func Register(namespace string) func(manager.Manager) error {
	return func(m manager.Manager) error {
		r := &reconciler{client: m.GetClient(), namespace: namespace, pulse: heartbeat.New(), events: events.New(m.GetEventRecorder("netio-operator"))}
		one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{{}} })
		b := builder.ControllerManagedBy(m).Named(Name).
			WithOptions(controller.Options{SkipNameValidation: new(true)}). // there may be several managers, as in tests
			Watches(&v1alpha1.NetIOCluster{}, one, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			Watches(&v1alpha1.NetIONode{}, one, builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
				was, ok := e.ObjectOld.(*v1alpha1.NetIONode)
				is, ok2 := e.ObjectNew.(*v1alpha1.NetIONode)
				return !ok || !ok2 || !equality.Semantic.DeepEqual(was.Status.Conditions, is.Status.Conditions)
			}}))
		for o := range Watched(namespace) {
			b = b.Watches(o, one)
		}
		if err := b.Complete(r); err != nil {
			return fmt.Errorf("watch the NetIOCluster and what it has made: %w", err)
		}
		return nil
	}
}

type reconciler struct {
	client    client.Client
	namespace string
	events    *events.Recorder
	pulse     *heartbeat.Monitor
}

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	c := &v1alpha1.NetIOCluster{}
	switch err := r.client.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterName}, c); {
	case apierrors.IsNotFound(err):
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("read NetIOCluster: %w", err)
	case !c.DeletionTimestamp.IsZero():
		return reconcile.Result{}, nil // what it has made goes with it
	}
	applied := r.apply(ctx, c)
	err := r.tell(ctx, c.DeepCopy(), applied)
	if apierrors.IsConflict(err) {
		err = nil // what was read is out of date, and what it is now will be seen
	}
	return reconcile.Result{RequeueAfter: lookAgain}, errors.Join(applied, err)
}

// apply makes the objects as they are to be.
func (r *reconciler) apply(ctx context.Context, c *v1alpha1.NetIOCluster) error {
	objects, err := render(c, r.namespace)
	if err != nil {
		return err
	}
	for _, o := range objects {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return fmt.Errorf("write %T: %w", o, err)
		}
		u := &unstructured.Unstructured{Object: fields}
		// Empty ones that typed objects have would be claimed.
		unstructured.RemoveNestedField(fields, "status")
		unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
		unstructured.RemoveNestedField(fields, "spec", "template", "metadata", "creationTimestamp")
		if err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), fieldOwner, client.ForceOwnership); err != nil {
			return fmt.Errorf("apply %s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	return nil
}

// tell writes the status, if it is another one than it was.
func (r *reconciler) tell(ctx context.Context, c *v1alpha1.NetIOCluster, applied error) error {
	w := world{applied: applied, silent: map[string]time.Time{}}
	ds := &appsv1.DaemonSet{}
	switch err := r.client.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: AgentName}, ds); {
	case err == nil:
		w.agents = ds
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("read DaemonSet %s: %w", AgentName, err)
	}
	var nodes v1alpha1.NetIONodeList
	if err := r.client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list NetIONodes: %w", err)
	}
	w.nodes = nodes.Items
	for i := range w.nodes {
		if since, _ := r.pulse.Hear(&w.nodes[i], time.Now()); !since.IsZero() {
			w.silent[w.nodes[i].Name] = since
		}
	}
	r.pulse.Forget()
	was := c.Status.DeepCopy()
	for _, e := range judge(c, w) {
		r.events.Tell(c, e.reason, "Install", e.note)
	}
	if equality.Semantic.DeepEqual(was, &c.Status) {
		return nil
	}
	if err := r.client.Status().Update(ctx, c); err != nil {
		return fmt.Errorf("write status of NetIOCluster: %w", err)
	}
	slog.Info("NetIOCluster", "nodes", c.Status.Nodes.Summary, "updated", c.Status.Nodes.Updated)
	return nil
}
