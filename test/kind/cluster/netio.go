// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"netio.dev/netio/pkg/agent/atomicfile"
	"netio.dev/netio/test/internal/netlab"
	"netio.dev/netio/test/kind/node"
	"netio.dev/netio/test/kind/topology"
)

// tellPrefixes does what an agent does that watches the cluster: it tells each
// node its prefixes of pods, and how to reach those of the others.
//
//	        node n1                               node n2
//	pods ── forwarder ── netio0 ── eth0 ──fabric── eth0 ── netio0 ── forwarder ── pods
//	                      10.244.1.0/24 via 10.89.0.12: a route of n1's
func (u *up) tellPrefixes(ctx context.Context) error {
	prefixes := map[string][]netip.Prefix{}
	for _, n := range u.Nodes {
		object, err := u.awaitNode(ctx, n.Name, func(n *corev1.Node) bool { return len(n.Spec.PodCIDRs) == len(topology.PodCIDRs) })
		if err != nil {
			return err
		}
		for _, c := range object.Spec.PodCIDRs {
			p, err := netip.ParsePrefix(c)
			if err != nil {
				return fmt.Errorf("node %s: podCIDRs: %w", n.Name, err)
			}
			prefixes[n.Name] = append(prefixes[n.Name], p)
		}
	}
	fabric, err := netlab.Open("fabric", u.FabricNetNS())
	if err != nil {
		return err
	}
	defer fabric.Close()
	if err := u.addRoutes(fabric, "", "fabric", prefixes); err != nil {
		return err
	}
	for _, n := range u.Nodes {
		if err := u.joinNode(n, prefixes); err != nil {
			return err
		}
	}
	return nil
}

func (u *up) joinNode(n topology.Node, prefixes map[string][]netip.Prefix) error {
	network, err := u.NodeNetwork(n.Name)
	if err != nil {
		return err
	}
	defer network.Close()
	if err := u.addRoutes(network, n.Name, "eth0", prefixes); err != nil {
		return err
	}
	path, err := u.NodePath(n.Name, node.AgentConfig)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path, []byte(agentConfig(n, prefixes[n.Name])), 0o644); err != nil {
		return fmt.Errorf("configure NetIO on %s: %w", n.Name, err)
	}
	return nil
}

// addRoutes to the pods of all nodes but self.
func (u *up) addRoutes(from *netlab.Namespace, self, ifname string, prefixes map[string][]netip.Prefix) error {
	for _, n := range u.Nodes {
		if n.Name == self {
			continue
		}
		for _, p := range prefixes[n.Name] {
			gateway := n.Addrs[0]
			if p.Addr().Is6() {
				gateway = n.Addrs[1]
			}
			if err := from.Route(p, gateway, ifname); err != nil {
				return err
			}
		}
	}
	return nil
}

// agentConfig is docs/standalone.md's.
func agentConfig(n topology.Node, pods []netip.Prefix) string {
	inside := slices.Concat(topology.PodCIDRs, topology.NodeCIDRs)
	return fmt.Sprintf(`# Written by netio-cluster.
node: %s
podCIDRs: [%s]
# Pods are known by their own addresses everywhere in the cluster.
masqueradeExcept: [%s]
coolDown: 1s
installCNI: {}
`, n.Name, list(pods), list(inside))
}

func list(prefixes []netip.Prefix) string {
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = `"` + p.String() + `"`
	}
	return strings.Join(words, ", ")
}
