// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"errors"
	"maps"
	"net/netip"
	"testing"
)

func TestNumberOfNodes(t *testing.T) {
	for _, n := range []int{-1, 0, MaxNodes + 1} {
		if _, err := Nodes(n, DualStack); !errors.Is(err, ErrNodes) {
			t.Errorf("%d nodes: %v", n, err)
		}
	}
	for _, n := range []int{1, MaxNodes} {
		if nodes, err := Nodes(n, DualStack); err != nil || len(nodes) != n {
			t.Errorf("%d nodes: %d, %v", n, len(nodes), err)
		}
	}
}

func TestNodesAreDistinctAndOnTheFabric(t *testing.T) {
	nodes, err := Nodes(MaxNodes, DualStack)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]string{Fabric[0]: "fabric", Fabric[1]: "fabric"}
	for i, n := range nodes {
		if n.ControlPlane != (i == 0) {
			t.Errorf("%s: control plane %v", n.Name, n.ControlPlane)
		}
		for f, a := range n.Addrs {
			if who, ok := seen[a]; ok {
				t.Errorf("%s has %s of %s", n.Name, a, who)
			}
			seen[a] = n.Name
			if !NodeCIDRs[f].Contains(a) || Prefix(a).Masked() != NodeCIDRs[f] {
				t.Errorf("%s: %s is not in %s", n.Name, a, NodeCIDRs[f])
			}
		}
	}
}

// TestZones: three, with as many nodes each.
func TestZones(t *testing.T) {
	nodes, err := Nodes(6, DualStack)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, n := range nodes {
		count[n.Zone]++
	}
	if want := map[string]int{"z1": 2, "z2": 2, "z3": 2}; !maps.Equal(count, want) {
		t.Errorf("zones %v", count)
	}
}

func TestPrefixesDoNotOverlap(t *testing.T) {
	all := append(append(append([]netip.Prefix{}, NodeCIDRs...), PodCIDRs...), ServiceCIDRs...)
	for i, a := range all {
		if a != a.Masked() {
			t.Errorf("%s has bits after its length", a)
		}
		for _, b := range all[:i] {
			if a.Overlaps(b) {
				t.Errorf("%s overlaps %s", a, b)
			}
		}
	}
	// A /24 and a /64 for each node.
	if four, six := 1<<(24-PodCIDRs[0].Bits()), 1<<(64-PodCIDRs[1].Bits()); min(four, six) < MaxNodes {
		t.Errorf("pods' prefixes serve %d and %d nodes, not %d", four, six, MaxNodes)
	}
	for _, f := range []Families{DualStack, IPv6Only, ""} {
		if services := f.Of(ServiceCIDRs); !services[0].Contains(f.DNS()) || !services[0].Contains(f.APIService()) || f.DNS() == f.APIService() {
			t.Errorf("%s: DNS at %s, API server at %s", f, f.DNS(), f.APIService())
		}
	}
}

func TestIPv6Only(t *testing.T) {
	nodes, err := Nodes(2, IPv6Only)
	if err != nil {
		t.Fatal(err)
	}
	if n := nodes[1]; len(n.Addrs) != 1 || n.Addrs[0] != netip.MustParseAddr("fd00:89::12") || n.AddrFor(PodCIDRs[1]) != n.Addrs[0] || n.AddrFor(PodCIDRs[0]).IsValid() || Gateway(n.Addrs[0]) != Fabric[1] {
		t.Errorf("%+v", n)
	}
	if p := IPv6Only.Of(PodCIDRs); len(p) != 1 || p[0] != PodCIDRs[1] {
		t.Errorf("pods %v", p)
	}
	if url := APIServer(nodes); url != "https://[fd00:89::11]:6443" {
		t.Error(url)
	}
	if _, err := ParseFamilies("ipv5"); !errors.Is(err, ErrFamilies) {
		t.Errorf("%v", err)
	}
}
