// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// entities are those that are address sets, all but the one that is everybody.
var entities = []v1alpha1.Entity{
	v1alpha1.EntityHost, v1alpha1.EntityRemoteNode, v1alpha1.EntityCluster, v1alpha1.EntityKubeAPIServer, v1alpha1.EntityWorld,
}

// entitySet is the address set of an entity. Strays are the addresses of endpoints
// outside of the pod networks.
func entitySet(e v1alpha1.Entity, n *Node, strays *dataplanev1.AddressSet) *dataplanev1.AddressSet {
	set := &dataplanev1.AddressSet{Name: "entity:" + string(e)}
	switch e {
	case v1alpha1.EntityHost:
		set.Prefixes = prefixesOf(n.HostAddresses)
	case v1alpha1.EntityRemoteNode:
		set.Prefixes = n.nodes(func(c *ClusterNode) bool { return c.Remote })
	case v1alpha1.EntityKubeAPIServer:
		set.Prefixes = prefixesOf(n.APIServer)
	case v1alpha1.EntityCluster:
		set.Prefixes = n.cluster(strays)
	case v1alpha1.EntityWorld:
		set.Prefixes, set.Except = []string{"0.0.0.0/0", "::/0"}, n.cluster(strays)
	}
	return set
}

// nodeSet is the address set of the nodes that have the labels.
func nodeSet(name string, labels *selector, n *Node) *dataplanev1.AddressSet {
	return &dataplanev1.AddressSet{Name: name, Prefixes: n.nodes(func(c *ClusterNode) bool { return labels.matches(c.Labels) })}
}

// cluster is all pods and nodes.
func (n *Node) cluster(strays *dataplanev1.AddressSet) []string {
	all := slices.Concat(n.nodes(func(*ClusterNode) bool { return true }), prefixesOf(n.HostAddresses), strays.GetPrefixes())
	for _, p := range n.PodNetworks {
		if p.IsValid() {
			all = append(all, p.Masked().String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// nodes are the addresses of some nodes. Of this one they are the host's too.
func (n *Node) nodes(which func(*ClusterNode) bool) []string {
	var all []netip.Addr
	for i := range n.Nodes {
		if c := &n.Nodes[i]; which(c) {
			all = append(all, c.Addresses...)
			if !c.Remote {
				all = append(all, n.HostAddresses...)
			}
		}
	}
	return prefixesOf(all)
}

func prefixesOf(in []netip.Addr) []string {
	var out []string
	for _, a := range addresses(in) {
		out = append(out, a.prefix)
	}
	return out
}
