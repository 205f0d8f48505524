// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/policy"
)

// bed is a cluster and who follows it.
type bed struct {
	*testing.T
	client.Client
	config  *rest.Config
	watcher *Watcher
	views   chan *View
}

func newBed(t *testing.T) *bed {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	w, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	w.again, w.later = 100*time.Millisecond, 100*time.Millisecond
	b := &bed{T: t, config: config, Client: kubetest.Client(t, config), watcher: w, views: make(chan *View, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- w.Run(ctx, func(v *View) {
			select {
			case <-b.views: // only the last one counts
			default:
			}
			b.views <- v
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// until waits for a View that is as it should be.
func (b *bed) until(what string, ok func(*View) bool) *View {
	b.Helper()
	deadline := time.After(30 * time.Second)
	var last *View
	for {
		select {
		case last = <-b.views:
			if ok(last) {
				return last
			}
		case <-deadline:
			b.Fatalf("%s: not so in %+v", what, last)
		}
	}
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func newPod(name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
}

// TestWatcher follows a cluster through the life of a pod.
func TestWatcher(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	first := b.until("the first view is complete", func(*View) bool { return true })
	if _, ok := first.Cluster.Namespaces["kube-system"]; !ok {
		t.Errorf("namespaces %v", first.Cluster.Namespaces)
	}

	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{"disk": "ssd"}}, Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24", PodCIDRs: []string{"10.1.0.0/24", "fd01::/64"}}}
	b.must(b.Create(ctx, n))
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "one"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"}}
	b.must(b.Status().Update(ctx, n))
	v := b.until("the node has its address", func(v *View) bool { return v.Node("one") != nil && len(v.Node("one").Addresses) > 0 })
	want := &Node{Name: "one", UID: string(n.UID), Labels: map[string]string{"disk": "ssd"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		All:      []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.1")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")}}
	if d := cmp.Diff(want, v.Node("one"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("node (-want +got):\n%s", d)
	}
	if got := v.Cluster.Nodes["one"]; got.Labels["disk"] != "ssd" || !slices.Equal(got.Addresses, want.All) {
		t.Errorf("node of policies %+v", got)
	}
	if v.Node("two") != nil {
		t.Error("there is a node two")
	}

	// An ADD may come before the pod is known.
	asked := make(chan *desired.Pod, 1)
	go func() {
		p, err := b.watcher.Pod(ctx, "default", "web", "")
		if err != nil {
			t.Error(err)
		}
		asked <- p
	}()
	web := newPod("web", map[string]string{"app": "web"})
	web.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 9090}}
	web.Spec.ServiceAccountName = "runner"
	always := corev1.ContainerRestartPolicyAlways
	web.Spec.InitContainers = []corev1.Container{{
		Name: "sidecar", Image: "none", RestartPolicy: &always,
		Ports: []corev1.ContainerPort{{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}},
	}}
	b.must(b.Create(ctx, web))
	if p := <-asked; p == nil || p.UID != string(web.UID) || p.Labels["app"] != "web" || p.ServiceAccount != "runner" ||
		!slices.Equal(p.Ports, []policy.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Number: 8080}, {Name: "dns", Protocol: corev1.ProtocolUDP, Number: 53}}) {
		t.Errorf("pod %+v", p)
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if _, err := b.watcher.Pod(short, "default", "web", "of another"); !errors.Is(err, ErrUnknownPod) {
		t.Errorf("another pod of the name: %v", err)
	}

	web.Status.Phase = corev1.PodRunning
	web.Status.PodIPs = []corev1.PodIP{{IP: "10.1.0.2"}, {IP: "fd01::2"}}
	web.Status.PodIP = "10.1.0.2"
	b.must(b.Status().Update(ctx, web))
	b.until("the pod has addresses", func(v *View) bool {
		p := v.Cluster.Pods["default/web"]
		return p != nil && len(p.Addresses) == 2
	})
	web.Labels["app"] = "db"
	b.must(b.Update(ctx, web))
	b.until("the pod has another label", func(v *View) bool { return v.Cluster.Pods["default/web"].Labels["app"] == "db" })

	// It has ended, though it is still there.
	web.Status.Phase = corev1.PodSucceeded
	b.must(b.Status().Update(ctx, web))
	b.until("an ended pod is none", func(v *View) bool { return v.Cluster.Pods["default/web"] == nil })

	host := newPod("host", nil)
	host.Spec.HostNetwork = true
	b.must(b.Create(ctx, host))
	closed := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "closed"}}
	b.must(b.Create(ctx, closed))
	whole := &v1alpha1.NetIOClusterPolicy{ObjectMeta: metav1.ObjectMeta{Name: "whole"}}
	b.must(b.Create(ctx, whole))
	open := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "open"}}
	b.must(b.Create(ctx, open))
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	b.must(b.Create(ctx, service))
	endpoints := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1"}, AddressType: discoveryv1.AddressTypeIPv4}
	b.must(b.Create(ctx, endpoints))
	b.must(b.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "blue"}}}))
	v = b.until("policies, services and namespace", func(v *View) bool {
		return len(v.Policies) == 1 && len(v.ClusterPolicies) == 1 && len(v.NetworkPolicies) == 1 && v.Cluster.Namespaces["shop"] != nil &&
			v.Cluster.Services["default/web"] != nil && v.Cluster.EndpointSlices["default/web-1"] != nil
	})
	if v.Policies[0].Name != "closed" || v.Cluster.Namespaces["shop"]["team"] != "blue" || v.Cluster.Pods["default/host"] != nil {
		t.Errorf("policies %v, namespaces %v, pods %v", v.Policies, v.Cluster.Namespaces, v.Cluster.Pods)
	}
	for _, o := range []client.Object{closed, whole, open, service, endpoints, n} {
		b.must(b.Delete(ctx, o))
	}
	b.until("all are gone", func(v *View) bool {
		return len(v.Policies) == 0 && len(v.ClusterPolicies) == 0 && len(v.NetworkPolicies) == 0 && v.Node("one") == nil &&
			v.Cluster.Services["default/web"] == nil && v.Cluster.EndpointSlices["default/web-1"] == nil
	})
}

// TestClusterNetworkPolicies: a cluster may get the kind while it is watched.
func TestClusterNetworkPolicies(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.until("there is a view without them", func(*View) bool { return true })
	kubetest.InstallNetworkPolicyAPI(t, b.config)
	p := &networkapi.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "guard"}}
	p.Spec.Tier, p.Spec.Subject.Namespaces = networkapi.AdminTier, &metav1.LabelSelector{}
	b.must(b.Create(ctx, p))
	v := b.until("the policy is known", func(v *View) bool { return len(v.ClusterNetworkPolicies) == 1 })
	if got := v.ClusterNetworkPolicies[0]; got.Name != "guard" || got.Spec.Tier != networkapi.AdminTier {
		t.Errorf("policy %+v", got)
	}

	// Where the kind is there from the start, no view is without them.
	again, err := New(b.config)
	b.must(err)
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	b.must(again.Run(short, func(v *View) {
		if len(v.ClusterNetworkPolicies) != 1 {
			t.Errorf("a view with the policies %v", v.ClusterNetworkPolicies)
		}
		cancel()
	}))

	b.must(b.Delete(ctx, p))
	b.until("it is gone", func(v *View) bool { return len(v.ClusterNetworkPolicies) == 0 })
}

// TestNoCRDs: an agent in a cluster without NetIO's objects says so.
func TestNoCRDs(t *testing.T) {
	config := kubetest.APIServer(t)
	w, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context(), func(*View) {}); !errors.Is(err, ErrNoCRDs) {
		t.Errorf("error %v", err)
	}
}
