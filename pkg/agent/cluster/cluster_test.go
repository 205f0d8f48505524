// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/kube"
	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/problem"
)

const patience = 30 * time.Second

// bed is a cluster and the source of its node n1.
type bed struct {
	*testing.T
	client.Client
	source   *Source
	problems problem.List
	ctx      context.Context
}

// awaitProblem waits until a problem says something.
func (b *bed) awaitProblem(says string) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		for _, p := range b.problems.All() {
			if strings.Contains(p.Message, says) {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatalf("no problem says %q: %v", says, b.problems.All())
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// addNode makes a node with an address.
func (b *bed) addNode(name, address string, podCIDRs ...string) *corev1.Node {
	b.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if len(podCIDRs) > 0 {
		n.Spec = corev1.NodeSpec{PodCIDR: podCIDRs[0], PodCIDRs: podCIDRs}
	}
	b.must(b.Create(b.ctx, n))
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	b.must(b.Status().Update(b.ctx, n))
	return n
}

// TestSource follows a node from its first start, in a cluster that does not know
// NetIO yet, until it has to start anew.
func TestSource(t *testing.T) {
	apiserver := kubetest.APIServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := &bed{T: t, Client: kubetest.Client(t, apiserver), source: New(apiserver, "n1"), ctx: ctx}

	type configured struct {
		config *config.Config
		err    error
	}
	first := make(chan configured, 1)
	go func() {
		c, err := b.source.Configure(ctx, "agent.yaml", []byte("mtu: 1400"), &b.problems)
		first <- configured{c, err}
	}()
	b.awaitProblem("kubectl apply -f config/crd")
	kubetest.InstallCRDs(t, apiserver)
	b.awaitProblem("the cluster has no node n1")
	n1 := b.addNode("n1", "192.0.2.1")
	b.awaitProblem("n1 has no spec.podCIDRs")
	n1.Spec = corev1.NodeSpec{PodCIDR: "10.1.1.0/24", PodCIDRs: []string{"10.1.1.0/24", "fd01::1:0:0:0:0/64"}}
	b.must(b.Update(ctx, n1))
	got := <-first
	b.must(got.err)
	c := got.config
	if c.Node != "n1" || c.MTU != 1400 || len(c.RouterAddresses) != 2 || c.RouterAddresses[0].String() != "10.1.1.1" {
		t.Errorf("configuration %+v", c)
	}
	if all := b.problems.All(); len(all) > 0 {
		t.Errorf("problems %v", all)
	}
	// A change of the file does not wait.
	c, err := b.source.Configure(ctx, "agent.yaml", []byte("mtu: 1500"), &b.problems)
	if err != nil || c.MTU != 1500 || len(c.PodCIDRs) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := b.source.Configure(ctx, "agent.yaml", []byte("node: n2"), &b.problems); err == nil || !strings.Contains(err.Error(), "started for n1") {
		t.Errorf("another node's file: %v", err)
	}

	facts := make(chan node.Facts, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- b.source.Follow(ctx, c, func(f node.Facts) { facts <- f }, &b.problems)
	}()
	until := func(what string, ok func(node.Facts) bool) node.Facts {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case f := <-facts:
				if ok(f) {
					return f
				}
			case err := <-ended:
				t.Fatalf("%s: it ended: %v", what, err)
			case <-deadline:
				t.Fatalf("%s: not so", what)
			}
		}
	}
	b.addNode("n2", "192.0.2.2", "10.1.2.0/24")
	b.must(b.Create(ctx, &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "closed"}}))
	f := until("peer and policy", func(f node.Facts) bool {
		return len(f.Peers) == 1 && len(f.Peers[0].Addresses) == 1 && len(f.Peers[0].PodCIDRs) == 1 && len(f.Policies) == 1 && len(f.Addresses) == 1
	})
	if f.Peers[0].Name != "n2" || f.Addresses[0].String() != "192.0.2.1" || f.Cluster == nil {
		t.Errorf("facts %+v", f)
	}

	b.identify()

	// As when a node is set up anew under its old name.
	b.must(b.Delete(ctx, n1))
	until("a node that is gone may come back", func(f node.Facts) bool { return len(f.Addresses) == 0 })
	b.addNode("n1", "192.0.2.1", "10.1.7.0/24")
	select {
	case err := <-ended:
		if !errors.Is(err, node.ErrRestart) || !strings.Contains(err.Error(), "10.1.7.0/24") {
			t.Errorf("it ended: %v", err)
		}
	case <-time.After(patience):
		t.Error("it goes on with prefixes that the node has lost")
	}
}

// identify is about what a pod's ADD learns.
func (b *bed) identify() {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	b.must(b.Create(b.ctx, pod))
	for _, test := range []struct {
		name, uid string
		labels    map[string]string
		err       error
	}{
		{"the pod", string(pod.UID), map[string]string{"app": "web"}, nil},
		{"another runtime's", "", map[string]string{"said": "so"}, nil},
		{"one that was replaced", "of another", map[string]string{"said": "so"}, kube.ErrUnknownPod},
	} {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		if test.err != nil {
			cancel() // it never comes
		}
		r := attach.Request{ID: attachment.ID{ContainerID: "c"}, Namespace: "default", Name: "web", UID: test.uid, Labels: map[string]string{"said": "so"}}
		err := b.source.Identify(ctx, &r)
		cancel()
		if !errors.Is(err, test.err) {
			b.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.labels, r.Labels); diff != "" {
			b.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestSamePrefixes(t *testing.T) {
	parse := func(list ...string) (prefixes []netip.Prefix) {
		for _, p := range list {
			prefixes = append(prefixes, netip.MustParsePrefix(p))
		}
		return prefixes
	}
	if !samePrefixes(parse("10.0.0.0/24", "fd00::/64"), parse("fd00::/64", "10.0.0.0/24")) {
		t.Error("the order counts")
	}
	if samePrefixes(parse("10.0.0.0/24"), parse("10.0.0.0/24", "fd00::/64")) {
		t.Error("one more does not count")
	}
}
