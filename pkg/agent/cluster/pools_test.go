// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/kube"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/pools"
	"netio.dev/netio/pkg/ipam"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// TestFactsOfBlocks: a node's own blocks are its own, those of others belong to their
// prefixes, and those of a node that is gone are nobody's.
func TestFactsOfBlocks(t *testing.T) {
	v := &kube.View{
		Nodes: []*kube.Node{{Name: "n1", PodCIDRs: []netip.Prefix{prefix("10.1.1.0/24")}}, {Name: "n2", PodCIDRs: []netip.Prefix{prefix("10.1.2.0/24")}}},
		Blocks: map[string][]ipam.Block{
			"n1": {{Pool: "web", Prefix: prefix("10.9.0.0/26")}}, "n2": {{Pool: "web", Prefix: prefix("10.9.0.64/26")}}, "n3": {{Pool: "web", Prefix: prefix("10.9.0.128/26")}},
		},
	}
	f := facts(v, "n1")
	if !slices.Equal(f.Blocks, v.Blocks["n1"]) {
		t.Errorf("own blocks %v", f.Blocks)
	}
	if len(f.Peers) != 1 || !slices.Equal(f.Peers[0].PodCIDRs, []netip.Prefix{prefix("10.1.2.0/24"), prefix("10.9.0.64/26")}) {
		t.Errorf("peers %+v", f.Peers)
	}
	if len(v.Nodes[1].PodCIDRs) != 1 {
		t.Error("the view was changed")
	}
}

func TestStatusOfPools(t *testing.T) {
	got := statusOf(node.Report{Pools: []pools.Use{{
		Pool: "web", Blocks: []netip.Prefix{prefix("10.9.0.0/26")}, IPv4: pools.Numbers{Used: 1, Free: 2, Wanted: 3}, IPv6: pools.Numbers{Wanted: 4},
	}}}).Pools
	want := []v1alpha1.NodePoolStatus{{
		Name: "web", Blocks: []string{"10.9.0.0/26"}, IPv4: v1alpha1.NodePoolUse{Used: 1, Free: 2, Wanted: 3}, IPv6: v1alpha1.NodePoolUse{Wanted: 4},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestPublishWakes: the node is looked at when somebody waits for it.
func TestPublishWakes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	wake, looks := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(nil, "n1").Publish(ctx, func() node.Report {
			select {
			case looks <- struct{}{}:
			case <-ctx.Done():
			}
			return node.Report{}
		}, wake, nil)
	}()
	<-looks
	wake <- struct{}{}
	<-looks
	cancel()
	<-done
}
