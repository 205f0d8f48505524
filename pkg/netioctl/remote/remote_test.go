// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/kubetest"
)

// bed is an API server with two nodes, n1 and n2, their agents, and pods.
func bed(t *testing.T) (*Cluster, client.Client, *rest.Config) {
	t.Helper()
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	k := kubetest.Client(t, config)
	for n, name := range []string{"n2", "n1"} { // not in order
		create(t, k, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, func(o *corev1.Node) {
			o.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: []string{"192.0.2.2", "192.0.2.1"}[n]}}
		})
		create(t, k, &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: name}}, func(o *v1alpha1.NetIONode) {
			o.Status.PodCIDRs = []string{[]string{"10.2.0.0/24", "10.1.0.0/24"}[n]}
		})
		addPod(t, k, "kube-system", "agent-"+name, name, corev1.PodRunning, map[string]string{"app.kubernetes.io/name": "netio-agent"})
	}
	addPod(t, k, "default", "web", "n1", corev1.PodRunning, nil, "10.1.0.7", "fd00::7")
	addPod(t, k, "kube-system", "web", "n2", corev1.PodRunning, nil)
	addPod(t, k, "default", "db", "n2", corev1.PodRunning, nil, "10.99.0.1") // of a pool
	addPod(t, k, "default", "waits", "", corev1.PodPending, nil)
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c, k, config
}

// create makes an object with a status.
func create[T client.Object](t *testing.T, k client.Client, o T, status func(T)) {
	t.Helper()
	if err := k.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	status(o)
	if err := k.Status().Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func addPod(t *testing.T, k client.Client, namespace, name, node string, phase corev1.PodPhase, labels map[string]string, addresses ...string) {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "x", Image: "x"}}, AutomountServiceAccountToken: new(false)},
	}
	create(t, k, p, func(p *corev1.Pod) {
		p.Status.Phase = phase
		for _, a := range addresses {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
		}
		if len(addresses) > 0 {
			p.Status.PodIP = addresses[0]
		}
	})
}

func TestFind(t *testing.T) {
	c, k, config := bed(t)
	nodes, err := c.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || nodes[0].Name != "n1" || nodes[1].Name != "n2" {
		t.Errorf("nodes %v, %v", nodes, err)
	}

	node, whole, addresses, err := c.NodeOfPod(t.Context(), "default/web")
	if want := []netip.Addr{netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("fd00::7")}; err != nil || node != "n1" || whole != "default/web" || !slices.Equal(addresses, want) {
		t.Errorf("%s, %s, %v, %v", node, whole, addresses, err)
	}
	if node, whole, _, err := c.NodeOfPod(t.Context(), "db"); err != nil || node != "n2" || whole != "default/db" {
		t.Errorf("%s, %s, %v", node, whole, err)
	}
	for name, want := range map[string]string{"web": "2 pods are called web", "waits": "has no node yet", "nobody": "not in the cluster"} {
		if _, _, _, err := c.NodeOfPod(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}

	for addr, want := range map[string]string{"10.1.0.7": "n1", "10.99.0.1": "n2", "10.2.0.200": "n2", "192.0.2.1": "n1", "fd00::7": "n1", "198.51.100.1": ""} {
		if node, err := c.NodeOf(t.Context(), netip.MustParseAddr(addr)); err != nil || node != want {
			t.Errorf("%s: %q, %v", addr, node, err)
		}
	}

	if p, err := c.agent(t.Context(), "n2"); err != nil || p.Name != "agent-n2" {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := c.agent(t.Context(), "n3"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "node n3 has no agent") {
		t.Errorf("%v", err)
	}
	addPod(t, k, "kube-system", "agent-n4", "n4", corev1.PodPending, map[string]string{"app.kubernetes.io/name": "netio-agent"})
	if _, err := c.agent(t.Context(), "n4"); err == nil || !strings.Contains(err.Error(), "does not run: kubectl describe pod -n kube-system agent-n4") {
		t.Errorf("%v", err)
	}

	// Nobody who has no rights is left without a word on which.
	nobody := rest.CopyConfig(config)
	nobody.Impersonate.UserName = "nobody"
	without, err := New(nobody)
	if err != nil {
		t.Fatal(err)
	}
	_, byPod, _, podErr := without.NodeOfPod(t.Context(), "default/web")
	_, listErr := without.Nodes(t.Context())
	for want, err := range map[string]error{"it takes the right to list pods": podErr, "it takes the right to get and list netionodes": listErr} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v (%s)", want, err, byPod)
		}
	}
}

// TestDialFails: the way to a node that is not there ends with why.
func TestDialFails(t *testing.T) {
	c, _, _ := bed(t)
	if _, err := c.Dial(t.Context(), "n3", "/run/x.sock"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no agent: %v", err)
	}
	// There is no kubelet that could execute anything.
	if _, err := c.Dial(t.Context(), "n1", "/run/x.sock"); err == nil || !strings.Contains(err.Error(), "agent-n1") {
		t.Errorf("no kubelet: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Dial(ctx, "n1", "/run/x.sock"); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func TestOpen(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none"), ""); err == nil || !strings.Contains(err.Error(), "find the cluster") {
		t.Errorf("%v", err)
	}
}
