// SPDX-License-Identifier: Apache-2.0

// Package kube follows what the agent needs of a Kubernetes cluster.
//
//	            ┌ Pod, Namespace, Node   ┐
//	apiserver ──┤ policies of all kinds  ├──> Watcher ──View──> agent
//	   watch    │ Service, EndpointSlice │       └──Pod────────> ADD: which labels has it, which pool?
//	            └ NetIOIPPool, NetIONode ┘
//
// What it gives is a View: a value, made anew whenever something changed that
// matters, for however many changes there were meanwhile.
package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/ipam"
	"netio.dev/netio/pkg/policy"
)

// View is what the cluster looks like. It is read only.
type View struct {
	Cluster *desired.Cluster
	// Policies by namespace and name.
	Policies        []*v1alpha1.NetIOPolicy
	ClusterPolicies []*v1alpha1.NetIOClusterPolicy
	NetworkPolicies []*networkingv1.NetworkPolicy
	// ClusterNetworkPolicies by name, none in a cluster that does not have the kind.
	ClusterNetworkPolicies []*networkapi.ClusterNetworkPolicy
	// Versions are those of the policies.
	Versions desired.Versions
	// Nodes by name.
	Nodes []*Node
	// Blocks of pools that nodes have, by the nodes' names; also of those that are
	// gone.
	Blocks map[string][]ipam.Block
	// Pools by name.
	Pools map[string]*Pool
}

// Node is a node of the cluster.
type Node struct {
	Name, UID string
	// Zone is the label topology.kubernetes.io/zone, "" without.
	Zone   string
	Labels map[string]string
	// Addresses of the node itself, those of Kubernetes' type InternalIP, and All of
	// them, whatever their type.
	Addresses, All []netip.Addr
	// PodCIDRs are the prefixes that its pods have their addresses from, none
	// before they are allotted.
	PodCIDRs []netip.Prefix
}

// Node is the one with the name, nil if there is none.
func (v *View) Node(name string) *Node {
	i, ok := slices.BinarySearchFunc(v.Nodes, name, func(n *Node, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		return nil
	}
	return v.Nodes[i]
}

// ErrNoCRDs: the cluster does not have NetIO's objects.
var ErrNoCRDs = errors.New("NetIO's CustomResourceDefinitions are not installed")

// ErrUnknownPod: the cluster has no such pod, or the agent has not heard of it.
var ErrUnknownPod = errors.New("the pod is not known from the apiserver")

// Watcher follows the cluster. Its methods may be called concurrently.
type Watcher struct {
	cache cache.Cache
	again time.Duration // until a kind that the cluster does not have is asked for again
	// later is how long a change waits that says nothing new.
	later time.Duration

	mu                     sync.Mutex
	pods                   map[string]*desired.Pod
	namespaces             map[string]map[string]string
	nodes                  map[string]*Node
	namespacePools         map[string]string // that they name, "" for none
	blocks                 map[string][]ipam.Block
	pools                  map[string]*Pool
	policies               map[string]*v1alpha1.NetIOPolicy
	clusterPolicies        map[string]*v1alpha1.NetIOClusterPolicy
	networkPolicies        map[string]*networkingv1.NetworkPolicy
	clusterNetworkPolicies map[string]*networkapi.ClusterNetworkPolicy
	services               map[string]*corev1.Service
	slices                 map[string]*discoveryv1.EndpointSlice
	versions               desired.Versions
	// waits: there will be a View for a change that says nothing new.
	waits bool
	// podsChanged is closed, and replaced, when a pod was added or replaced.
	podsChanged chan struct{}
	dirty       chan struct{}
}

// New makes a Watcher of the cluster that config leads to.
func New(config *rest.Config) (*Watcher, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, networkapi.Install, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("make scheme: %w", err)
		}
	}
	c, err := cache.New(config, cache.Options{
		Scheme:           scheme,
		DefaultTransform: slim,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:  {Transform: slimPod},
			&corev1.Node{}: {Transform: slimNode},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the apiserver %s: %w", config.Host, err)
	}
	return &Watcher{
		cache: c, again: time.Minute, later: 5 * time.Second, pods: map[string]*desired.Pod{}, namespaces: map[string]map[string]string{}, nodes: map[string]*Node{},
		policies: map[string]*v1alpha1.NetIOPolicy{}, services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{},
		clusterPolicies: map[string]*v1alpha1.NetIOClusterPolicy{}, networkPolicies: map[string]*networkingv1.NetworkPolicy{},
		namespacePools: map[string]string{}, blocks: map[string][]ipam.Block{}, pools: map[string]*Pool{},
		clusterNetworkPolicies: map[string]*networkapi.ClusterNetworkPolicy{}, podsChanged: make(chan struct{}), dirty: make(chan struct{}, 1),
	}, nil
}

// Run follows the cluster until ctx ends, and calls notify with each View, one
// after the other; the first one is complete. While the apiserver is away there
// are no changes. Errors are those that keep it from starting, as when the CRDs
// are not installed.
func (w *Watcher) Run(ctx context.Context, notify func(*View)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	failed := make(chan error, 1)
	running.Go(func() { failed <- w.cache.Start(ctx) })

	registrations, err := w.register(ctx)
	if err != nil {
		return err
	}
	// A cluster need not have this kind, and may get it later.
	r, err := w.registerClusterNetworkPolicies(ctx)
	switch {
	case meta.IsNoMatchError(err):
		running.Go(func() { w.awaitClusterNetworkPolicies(ctx) })
	case err != nil:
		return err
	default:
		registrations = append(registrations, r)
	}
	for _, r := range registrations {
		if !toolscache.WaitForCacheSync(ctx.Done(), r.HasSynced) {
			return ctx.Err()
		}
	}
	for {
		notify(w.view())
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-w.dirty:
		}
	}
}

// register asks for the objects.
func (w *Watcher) register(ctx context.Context) ([]toolscache.ResourceEventHandlerRegistration, error) {
	var all []toolscache.ResourceEventHandlerRegistration
	for _, f := range []struct {
		object client.Object
		apply  func(object any, deleted bool)
	}{
		{&corev1.Pod{}, handler(w.pod)},
		{&corev1.Namespace{}, handler(w.namespace)},
		{&corev1.Node{}, handler(w.node)},
		{&v1alpha1.NetIONode{}, handler(w.nodeBlocks)},
		{&v1alpha1.NetIOIPPool{}, handler(w.pool)},
		{&v1alpha1.NetIOPolicy{}, handler(func(o *v1alpha1.NetIOPolicy, deleted bool) {
			followPolicy(w, w.policies, &w.versions.Policies, o, deleted)
		})},
		{&v1alpha1.NetIOClusterPolicy{}, handler(func(o *v1alpha1.NetIOClusterPolicy, deleted bool) {
			followPolicy(w, w.clusterPolicies, &w.versions.ClusterPolicies, o, deleted)
		})},
		{&networkingv1.NetworkPolicy{}, handler(func(o *networkingv1.NetworkPolicy, deleted bool) { follow(w, w.networkPolicies, o, deleted) })},
		{&corev1.Service{}, handler(func(o *corev1.Service, deleted bool) { follow(w, w.services, o, deleted) })},
		{&discoveryv1.EndpointSlice{}, handler(func(o *discoveryv1.EndpointSlice, deleted bool) { follow(w, w.slices, o, deleted) })},
	} {
		r, err := w.watch(ctx, f.object, f.apply)
		if meta.IsNoMatchError(err) {
			return nil, fmt.Errorf("%w: %w; kubectl apply -f config/crd", ErrNoCRDs, err)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// watch asks for the objects of a kind.
func (w *Watcher) watch(ctx context.Context, kind client.Object, apply func(object any, deleted bool)) (toolscache.ResourceEventHandlerRegistration, error) {
	informer, err := w.cache.GetInformer(ctx, kind)
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", kind, err)
	}
	r, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { apply(object, false) },
		UpdateFunc: func(_, object any) { apply(object, false) },
		DeleteFunc: func(object any) { apply(object, true) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", kind, err)
	}
	return r, nil
}

func (w *Watcher) registerClusterNetworkPolicies(ctx context.Context) (toolscache.ResourceEventHandlerRegistration, error) {
	return w.watch(ctx, &networkapi.ClusterNetworkPolicy{}, handler(func(o *networkapi.ClusterNetworkPolicy, deleted bool) {
		followPolicy(w, w.clusterNetworkPolicies, &w.versions.ClusterNetworkPolicies, o, deleted)
	}))
}

// awaitClusterNetworkPolicies asks for them until the cluster has the kind.
func (w *Watcher) awaitClusterNetworkPolicies(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.again):
		}
		if _, err := w.registerClusterNetworkPolicies(ctx); err == nil {
			return
		}
	}
}

// handler gives f what an informer gives; a deletion that was missed comes with
// the last state that was known.
func handler[T any](f func(object T, deleted bool)) func(any, bool) {
	return func(object any, deleted bool) {
		if last, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
			object = last.Obj
		}
		if o, ok := object.(T); ok {
			f(o, deleted)
		}
	}
}

// changed has a View made; w.mu is held.
func (w *Watcher) changed() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

func (w *Watcher) pod(o *podRecord, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := policy.Name(o.Namespace, o.Name)
	p := o.pod
	if deleted {
		p = nil
	}
	old := w.pods[name]
	switch {
	case p == nil && old == nil, p != nil && old != nil && samePod(p, old):
		return
	case p == nil:
		// A pod of the same name may have come already.
		if string(o.UID) != old.UID {
			return
		}
		delete(w.pods, name)
	default:
		w.pods[name] = p
		close(w.podsChanged)
		w.podsChanged = make(chan struct{})
	}
	w.changed()
}

func (w *Watcher) namespace(o *corev1.Namespace, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if deleted {
		delete(w.namespaces, o.Name)
		delete(w.namespacePools, o.Name)
	} else {
		w.namespaces[o.Name] = o.Labels
		w.namespacePools[o.Name] = o.Annotations[v1alpha1.PoolAnnotation]
		close(w.podsChanged) // one may wait for its namespace
		w.podsChanged = make(chan struct{})
	}
	w.changed()
}

func (w *Watcher) node(o *corev1.Node, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := nodeOf(o)
	old := w.nodes[o.Name]
	switch {
	case deleted:
		delete(w.nodes, o.Name)
	case old != nil && sameNode(n, old): // as with each heartbeat
		return
	default:
		w.nodes[o.Name] = n
	}
	w.changed()
}

// follow keeps an object as it is, in one of w's maps.
func follow[T client.Object](w *Watcher, objects map[string]T, o T, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := policy.Name(o.GetNamespace(), o.GetName())
	if deleted {
		delete(objects, name)
	} else {
		objects[name] = o
	}
	w.changed()
}

// Pod returns the pod, and waits for it until ctx ends: kubelet may know of a pod
// before the agent does. uid is "" for whichever pod has the name. Error:
// ErrUnknownPod.
func (w *Watcher) Pod(ctx context.Context, namespace, name, uid string) (*desired.Pod, error) {
	for {
		w.mu.Lock()
		p, changed := w.pods[policy.Name(namespace, name)], w.podsChanged
		w.mu.Unlock()
		if p != nil && (uid == "" || p.UID == uid) {
			return p, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s/%s with UID %s", ErrUnknownPod, namespace, name, uid)
		}
	}
}
