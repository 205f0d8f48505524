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
	"slices"
)

// MaxNodes is a limit of the addresses; memory (250 MB a node) ends before.
const MaxNodes = 50

// zones are as many as the Kubernetes end-to-end suite wants; it wants them with
// two nodes each for some of its specs.
const zones = 3

// ErrNodes is returned for a number of nodes that cannot be.
var ErrNodes = errors.New("wrong number of nodes")

// Families are those that a cluster has addresses of.
type Families string

// DualStack is the zero value's meaning, too.
const (
	DualStack Families = "dual"
	IPv6Only  Families = "ipv6"
)

// ErrFamilies is returned for what no cluster has.
var ErrFamilies = errors.New("wrong address families")

// ParseFamilies reads what people write. Errors: ErrFamilies.
func ParseFamilies(s string) (Families, error) {
	switch f := Families(s); f {
	case DualStack, IPv6Only:
		return f, nil
	}
	return "", fmt.Errorf("%w: %q; use %s or %s", ErrFamilies, s, DualStack, IPv6Only)
}

// has tells whether addresses of the family of a are in the cluster.
func (f Families) has(a netip.Addr) bool { return f != IPv6Only || a.Is6() }

// Of are the prefixes among these that the cluster has.
func (f Families) Of(prefixes []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return !f.has(p.Addr()) })
}

// DNS is the address of the service kube-dns.
func (f Families) DNS() netip.Addr {
	if f == IPv6Only {
		return netip.MustParseAddr("fd00:10:96::a")
	}
	return netip.MustParseAddr("10.96.0.10")
}

// APIService is the address of the service kubernetes: the first one.
func (f Families) APIService() netip.Addr { return f.Of(ServiceCIDRs)[0].Addr().Next() }

// Prefixes of the cluster, IPv4 first. The controller manager gives each node a
// /24 and a /64 of those of pods.
var (
	NodeCIDRs    = []netip.Prefix{netip.MustParsePrefix("10.89.0.0/24"), netip.MustParsePrefix("fd00:89::/64")}
	PodCIDRs     = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")}
	ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}

	// Fabric is what the bridge between the nodes has.
	Fabric = []netip.Addr{netip.MustParseAddr("10.89.0.1"), netip.MustParseAddr("fd00:89::1")}
)

// Domain is the cluster's, of DNS.
const Domain = "cluster.local"

// APIPort is that of the API server, on the control plane's address.
const APIPort = 6443

// Node is a machine of the cluster.
type Node struct {
	Name string
	// Addrs are its addresses on the fabric, of the cluster's families, IPv4 first.
	Addrs []netip.Addr
	// Zone is what the node says it is in, for what prefers endpoints that are near.
	Zone string
	// ControlPlane: it runs etcd, the API server and what belongs to it, too.
	ControlPlane bool
}

// Nodes lists the nodes of a cluster of n. Errors: ErrNodes.
func Nodes(n int, f Families) ([]Node, error) {
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
		nodes[i].Addrs = slices.DeleteFunc(nodes[i].Addrs, func(a netip.Addr) bool { return !f.has(a) })
	}
	return nodes, nil
}

// APIServer is the API server's URL, in a cluster of these nodes.
func APIServer(nodes []Node) string {
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(nodes[0].Addrs[0], APIPort))
}

// Gateway is the fabric's address that one of a node leads to.
func Gateway(a netip.Addr) netip.Addr {
	if a.Is4() {
		return Fabric[0]
	}
	return Fabric[1]
}

// AddrFor is a node's address of the family of a prefix.
func (n *Node) AddrFor(p netip.Prefix) netip.Addr {
	i := slices.IndexFunc(n.Addrs, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() })
	if i < 0 {
		return netip.Addr{}
	}
	return n.Addrs[i]
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
