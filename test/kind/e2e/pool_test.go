// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/test/kind/node"
)

// The pools of TestPool: of blocks with two addresses of IPv4 for pods, and with 14.
var (
	smallPool = v1alpha1.NetIOIPPoolSpec{
		IPv4: &v1alpha1.IPv4Pool{CIDRs: []v1alpha1.Prefix{"10.78.0.0/24"}, BlockSize: 30}, IPv6: &v1alpha1.IPv6Pool{CIDRs: []v1alpha1.Prefix{"fd00:78::/64"}, BlockSize: 126},
	}
	otherPool = v1alpha1.NetIOIPPoolSpec{
		IPv4: &v1alpha1.IPv4Pool{CIDRs: []v1alpha1.Prefix{"10.79.0.0/24"}, BlockSize: 28}, IPv6: &v1alpha1.IPv6Pool{CIDRs: []v1alpha1.Prefix{"fd00:79::/64"}},
	}
)

// TestPool: pods have addresses of the pools that they or their namespace ask for,
// more than a node's first block has, and reach each other on all nodes; agents are
// not restarted for that.
func TestPool(t *testing.T) {
	objects := policies(t)
	for name, spec := range map[string]v1alpha1.NetIOIPPoolSpec{"e2e-small": smallPool, "e2e-other": otherPool} {
		p := &v1alpha1.NetIOIPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
		if err := objects.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := objects.Delete(context.Background(), p); err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		})
	}
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	began := started(t, first.Name)
	namespace := newNamespaceOf(t, map[string]string{v1alpha1.PoolAnnotation: "e2e-small"})
	names := []string{"last-1", "last-2", "host-last"}
	for i := range 5 {
		name := fmt.Sprint("first-", i)
		startPod(t, namespace, name, first)
		names = append(names, name)
	}
	startPod(t, namespace, "last-1", last)
	startPod(t, namespace, "last-2", last)
	startHostPod(t, namespace, "host-last", last)
	startPodOf(t, namespace, "other-first", first, "e2e-other")
	startPodOf(t, namespace, "other-last", last, "e2e-other")
	names = append(names, "other-first", "other-last")
	var all []pod
	for _, name := range names {
		p := awaitPod(t, namespace, name)
		all = append(all, p)
		spec := smallPool
		if strings.HasPrefix(name, "other") {
			spec = otherPool
		}
		checkPool(t, p, spec)
	}
	reachAll(t, all)
	if again := started(t, first.Name); again != began {
		t.Errorf("the agent of %s was restarted", first.Name)
	}
	checkBlocks(t, objects, first.Name)

	t.Run("unknown pool", func(t *testing.T) {
		startPodOf(t, namespace, "lost", last, "e2e-none")
		await(t, "an event says what is wrong", func(ctx context.Context) error {
			events, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=lost"})
			if err != nil {
				return err
			}
			for _, e := range events.Items {
				if strings.Contains(e.Message, `there is no such NetIOIPPool: "e2e-none"`) && strings.Contains(e.Message, "correct the annotation") {
					return nil
				}
			}
			return fmt.Errorf("%d events", len(events.Items))
		})
	})
	t.Run("a new agent", func(t *testing.T) {
		killListener(t, nodePath(t, first.Name, node.AgentSocket))
		startPod(t, namespace, "after", first)
		after := awaitPod(t, namespace, "after")
		checkPool(t, after, smallPool)
		for _, p := range all {
			if slices.Contains(p.addrs, after.addrs[0]) {
				t.Errorf("%s and %s both have %s", p.name, after.name, after.addrs[0])
			}
		}
		reachAll(t, append(all, after))
	})
}

// started is when a node's agent did.
func started(t *testing.T, node string) int64 {
	t.Helper()
	info, err := agentOf(t, node).Info(t.Context(), &agentv1.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return info.GetStartedUnixNano()
}

// checkPool: a pod that is not in its node's network has addresses of the pool.
func checkPool(t *testing.T, p pod, spec v1alpha1.NetIOIPPoolSpec) {
	t.Helper()
	if p.host {
		return
	}
	for i, c := range []v1alpha1.Prefix{spec.IPv4.CIDRs[0], spec.IPv6.CIDRs[0]} {
		if !netip.MustParsePrefix(string(c)).Contains(p.addrs[i]) {
			t.Errorf("pod %s has %s, which is not of %s", p.name, p.addrs[i], c)
		}
	}
}

// checkBlocks: the node has enough blocks for the pods on it, and no node has another
// one's.
func checkBlocks(t *testing.T, objects ctrlclient.Client, name string) {
	t.Helper()
	var nodes v1alpha1.NetIONodeList
	if err := objects.List(t.Context(), &nodes); err != nil {
		t.Fatal(err)
	}
	holders := map[string]string{}
	count := 0
	for _, n := range nodes.Items {
		for _, p := range n.Spec.Pools {
			for _, b := range p.Blocks {
				if other, taken := holders[b]; taken {
					t.Errorf("%s and %s both have %s", other, n.Name, b)
				}
				holders[b] = n.Name
				if n.Name == name && p.Name == "e2e-small" && strings.HasSuffix(b, "/30") {
					count++
				}
			}
		}
	}
	if count < 3 {
		t.Errorf("%s has %d blocks of two addresses for five pods", name, count)
	}
}
