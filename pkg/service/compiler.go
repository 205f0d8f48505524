// SPDX-License-Identifier: Apache-2.0

package service

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Node is the node whose pods are served.
type Node struct {
	Name string
	// Zone is the value of its label topology.kubernetes.io/zone, "" for none.
	Zone string
	// Proxy: also what is not the pods' is served, in kube-proxy's place: node ports,
	// load balancers' addresses, and what the host itself sends to services.
	Proxy bool
	// ExternalIPs: the externalIPs of services are served. Whoever may write a
	// service can claim any address by them (CVE-2020-8554).
	ExternalIPs bool
	// Addresses are the node's own that have its node ports.
	Addresses []netip.Addr
	// Sources are those that the forwarder gives connections to services, at most
	// one of each family. The host leads node ports there.
	Sources []netip.Addr
	// Others are the other nodes' addresses.
	Others []netip.Addr
}

func (n *Node) has(a netip.Addr) bool {
	return slices.Contains(n.Addresses, a) || slices.Contains(n.Others, a)
}

func (n *Node) equal(o *Node) bool {
	return n.Name == o.Name && n.Zone == o.Zone && n.Proxy == o.Proxy && n.ExternalIPs == o.ExternalIPs &&
		slices.Equal(n.Addresses, o.Addresses) && slices.Equal(n.Sources, o.Sources) && slices.Equal(n.Others, o.Others)
}

// Compiler keeps services and endpoints, and works out again only what a change
// touches. What it is given it keeps and reads later: it must not be changed
// afterwards. A Compiler must not be used by two goroutines at once; its results may
// be.
type Compiler struct {
	node     Node
	services map[types.NamespacedName]*entry
	sorted   []*entry // by key
	slices   map[types.NamespacedName]*discoveryv1.EndpointSlice
	result   []*dataplanev1.DestinationNat // nil: stale
}

// entry is a service, or only the endpoints of one that is not known (yet).
type entry struct {
	key     string // what the names of its destination NATs begin with
	service *corev1.Service
	slices  map[string]*discoveryv1.EndpointSlice // by name
	nats    []*dataplanev1.DestinationNat
	stale   bool
}

// NewCompiler returns a Compiler that knows no service.
func NewCompiler() *Compiler {
	return &Compiler{services: map[types.NamespacedName]*entry{}, slices: map[types.NamespacedName]*discoveryv1.EndpointSlice{}}
}

// SetNode sets the node.
func (c *Compiler) SetNode(n Node) {
	if c.node.equal(&n) {
		return
	}
	c.node = n
	for _, e := range c.services {
		e.stale = true
	}
	c.result = nil
}

// SetService adds a service or changes it.
func (c *Compiler) SetService(s *corev1.Service) {
	name := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	c.touch(name).service = s
}

// DeleteService removes a service, if it is there.
func (c *Compiler) DeleteService(namespace, name string) {
	c.touch(types.NamespacedName{Namespace: namespace, Name: name}).service = nil
	c.tidy(types.NamespacedName{Namespace: namespace, Name: name})
}

// SetSlice adds endpoints of a service or changes them.
func (c *Compiler) SetSlice(s *discoveryv1.EndpointSlice) {
	c.DeleteSlice(s.Namespace, s.Name) // it may have been another service's
	name := serviceOf(s)
	if name.Name == "" {
		return
	}
	c.slices[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = s
	c.touch(name).slices[s.Name] = s
}

// DeleteSlice removes endpoints, if they are there.
func (c *Compiler) DeleteSlice(namespace, name string) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	s := c.slices[key]
	if s == nil {
		return
	}
	delete(c.slices, key)
	of := serviceOf(s)
	delete(c.touch(of).slices, name)
	c.tidy(of)
}

// serviceOf is the service that endpoints belong to, without a name if to none.
func serviceOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	if notOurs(s.Labels) {
		return types.NamespacedName{}
	}
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

// touch returns an entry that is to be worked out again.
func (c *Compiler) touch(name types.NamespacedName) *entry {
	e := c.services[name]
	if e == nil {
		e = &entry{key: keyOf(name.Namespace, name.Name), slices: map[string]*discoveryv1.EndpointSlice{}}
		c.services[name] = e
		at, _ := c.find(e)
		c.sorted = slices.Insert(c.sorted, at, e)
	}
	e.stale, c.result = true, nil
	return e
}

// tidy forgets an entry of nothing.
func (c *Compiler) tidy(name types.NamespacedName) {
	if e := c.services[name]; e.service == nil && len(e.slices) == 0 {
		delete(c.services, name)
		at, _ := c.find(e)
		c.sorted = slices.Delete(c.sorted, at, at+1)
	}
}

func (c *Compiler) find(e *entry) (at int, found bool) {
	return slices.BinarySearchFunc(c.sorted, e, func(a, b *entry) int { return strings.Compare(a.key, b.key) })
}

// keyOf sorts services as the names of their destination NATs sort.
func keyOf(namespace, name string) string { return namespace + "/" + name + ":" }

// Result returns the destination NATs, sorted by name. Neither the list nor what is
// in it may be changed; messages that did not change are those of the last Result.
func (c *Compiler) Result() []*dataplanev1.DestinationNat {
	if c.result != nil {
		return c.result
	}
	c.result = make([]*dataplanev1.DestinationNat, 0, len(c.sorted))
	// Two services may claim one address for a while, as when one is replaced.
	// Nobody can take another's cluster IP, whatever its other addresses are.
	taken := make(map[claim]*dataplanev1.DestinationNat, len(c.sorted))
	for _, inner := range []bool{true, false} {
		for _, e := range c.sorted {
			if e.stale {
				e.nats, e.stale = keepEqual(e.nats, translate(e.service, e.ordered(), c.node)), false
			}
			for _, n := range e.nats {
				if f := (claim{n.Address, n.Protocol, n.Port}); taken[f] == nil && (!inner || isClusterIP(e.service, n)) {
					taken[f] = n
				}
			}
		}
	}
	for _, e := range c.sorted {
		for _, n := range e.nats {
			if taken[claim{n.Address, n.Protocol, n.Port}] == n {
				c.result = append(c.result, n)
			}
		}
	}
	return c.result
}

func isClusterIP(s *corev1.Service, n *dataplanev1.DestinationNat) bool {
	return slices.Contains(clusterIPs(s), n.Address)
}

// ordered are the slices by name.
func (e *entry) ordered() []*discoveryv1.EndpointSlice {
	return slices.SortedFunc(maps.Values(e.slices), func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
}

// claim is what a destination NAT is found by.
type claim struct {
	address        string
	protocol, port uint32
}
