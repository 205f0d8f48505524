// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

// seenAs are the addresses that a pod is seen by at the targets.
func (p pod) seenAs(t *testing.T, targets []string) []string {
	t.Helper()
	answers, err := p.reach(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for target, a := range answers {
		if a.Error != "" {
			t.Fatalf("%s: %s", target, a.Error)
		}
		from, err := netip.ParseAddr(a.From)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, from.Unmap().String())
	}
	return seen
}

// TestService is the life of a service, as pods meet it.
//
//	namespace of clients                     namespace of the service
//	near (first node), far (last) ──> probe ──> one (first node), then two (last)
func TestService(t *testing.T) {
	clients, namespace := newNamespace(t), newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	service := startService(t, namespace)
	targets := serviceTargets(service)
	startPod(t, clients, "near", first)
	startPod(t, clients, "far", last)
	near, far := awaitPod(t, clients, "near"), awaitPod(t, clients, "far")

	t.Run("nobody behind it", func(t *testing.T) {
		await(t, "connections are refused", func(ctx context.Context) error {
			answers, err := near.reach(ctx, targets...)
			if err != nil {
				return err
			}
			for target, a := range answers {
				if !strings.Contains(a.Error, "refused") {
					return fmt.Errorf("%s: %+v", target, a)
				}
			}
			return nil
		})
	})
	startPod(t, namespace, "one", first)
	one := awaitPod(t, namespace, "one")
	t.Run("clients are seen as they are", func(t *testing.T) {
		for _, from := range []pod{near, far} {
			reachService(t, from, []string{"one"}, targets...)
			for _, seen := range from.seenAs(t, targets) {
				if !slices.Contains(from.addrs, netip.MustParseAddr(seen)) {
					t.Errorf("%s is seen as %s", from.name, seen)
				}
			}
		}
	})
	t.Run("a pod behind it reaches itself", func(t *testing.T) {
		reachService(t, one, []string{"one"}, targets...)
		for _, seen := range one.seenAs(t, targets) {
			if !slices.Contains(service.Spec.ClusterIPs, seen) {
				t.Errorf("it sees itself as %s", seen)
			}
		}
	})
	t.Run("policy is about the pods behind it", func(t *testing.T) {
		objects := policies(t)
		policy := &v1alpha1.NetIOPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "near-only"},
			Spec: v1alpha1.NetIOPolicySpec{Ingress: []v1alpha1.IngressRule{{
				Action: v1alpha1.ActionAllow,
				From: []v1alpha1.Peer{
					{Entity: v1alpha1.EntityHost},
					{CIDR: v1alpha1.Prefix(netip.PrefixFrom(near.addrs[0], 32).String())},
					{CIDR: v1alpha1.Prefix(netip.PrefixFrom(near.addrs[1], 128).String())},
				},
			}}},
		}
		if err := objects.Create(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
		awaitTargets(t, far, targets, false)
		reachService(t, near, []string{"one"}, targets...)
		if err := objects.Delete(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
		reachService(t, far, []string{"one"}, targets...)
	})
	t.Run("another pod takes its place", func(t *testing.T) {
		startPod(t, namespace, "two", last)
		awaitPod(t, namespace, "two")
		deletePod(t, one)
		reachService(t, near, []string{"two"}, targets...)
		reachService(t, far, []string{"two"}, targets...)
	})
}
