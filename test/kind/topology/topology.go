// SPDX-License-Identifier: Apache-2.0

// Package topology says which nodes a cluster has, and every address in it. All
// of it follows from the number of nodes.
//
//	        10.89.0.1, fd00:89::1: the fabric, a bridge; tests and kubectl are here
//	──┬────────────────┬────────────────┬──
//	  n1 10.89.0.11    n2 .12           n3 .13      fd00:89::11 ...
//	  │ control plane
//	  └ pods 10.244.0.0/16, fd00:10:244::/56, a part for each node
//	    services 10.96.0.0/16, fd00:10:96::/112
//
// The network between the nodes is in namespaces of the cluster's own, so that
// none of these can collide with the machine's.
package topology

import (
	"errors"
	"fmt"
	"net/netip"
)

// MaxNodes is a limit of the addresses; memory (250 MB a node) ends before.
const MaxNodes = 50

// zones are as many as the Kubernetes end-to-end suite wants; it wants them with
// two nodes each for some of its specs.
const zones = 3

// ErrNodes is returned for a number of nodes that cannot be.
var ErrNodes = errors.New("wrong number of nodes")

// Prefixes of the cluster, IPv4 first. The controller manager gives each node a
// /24 and a /64 of those of pods.
var (
	NodeCIDRs    = []netip.Prefix{netip.MustParsePrefix("10.89.0.0/24"), netip.MustParsePrefix("fd00:89::/64")}
	PodCIDRs     = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")}
	ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}

	// Fabric is what the bridge between the nodes has.
	Fabric = []netip.Addr{netip.MustParseAddr("10.89.0.1"), netip.MustParseAddr("fd00:89::1")}
	// DNS is the address of the service kube-dns.
	DNS = netip.MustParseAddr("10.96.0.10")
	// APIService is that of the service kubernetes: the first one.
	APIService = ServiceCIDRs[0].Addr().Next()
)

// Domain is the cluster's, of DNS.
const Domain = "cluster.local"

// APIPort is that of the API server, on the control plane's address.
const APIPort = 6443

// Node is a machine of the cluster.
type Node struct {
	Name string
	// Addrs are its addresses on the fabric, IPv4 first.
	Addrs []netip.Addr
	// Zone is what the node says it is in, for what prefers endpoints that are near.
	Zone string
	// ControlPlane: it runs etcd, the API server and what belongs to it, too.
	ControlPlane bool
}

// Nodes lists the nodes of a cluster of n. Errors: ErrNodes.
func Nodes(n int) ([]Node, error) {
	if n < 1 || n > MaxNodes {
		return nil, fmt.Errorf("%w: %d; use 1 to %d", ErrNodes, n, MaxNodes)
	}
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{
			Name: fmt.Sprintf("n%d", i+1),
			// The digits of both families are the same, to be read by people.
			Addrs: []netip.Addr{
				netip.MustParseAddr(fmt.Sprintf("10.89.0.%d", 11+i)),
				netip.MustParseAddr(fmt.Sprintf("fd00:89::%d", 11+i)),
			},
			Zone:         fmt.Sprintf("z%d", i%zones+1),
			ControlPlane: i == 0,
		}
	}
	return nodes, nil
}

// APIServer is the API server's URL.
func APIServer() string {
	nodes, _ := Nodes(1)
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(nodes[0].Addrs[0], APIPort))
}

// Prefix is a node's or the fabric's address with the length of the network's
// prefix.
func Prefix(a netip.Addr) netip.Prefix {
	for _, p := range NodeCIDRs {
		if p.Contains(a) {
			return netip.PrefixFrom(a, p.Bits())
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}
