// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// translate makes the destination NATs of a service, sorted by name.
func translate(s *corev1.Service, endpoints []*discoveryv1.EndpointSlice, node Node) []*dataplanev1.DestinationNat {
	var nats []*dataplanev1.DestinationNat
	for _, f := range frontends(s, node) {
		all := candidates(endpoints, f.address.Is6(), f.of)
		n := &dataplanev1.DestinationNat{
			Name: f.name, Address: f.address.String(), Protocol: protocols[f.protocol], Port: uint32(f.port),
			AffinitySeconds: affinity(s), Shared: node.has(f.address),
		}
		n.Backends, n.Silent = choose(all, node, f.kind == clusterIP && internalLocal(s))
		if f.kind != clusterIP && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
			n.External = &dataplanev1.External{}
			n.External.Backends, n.External.Silent = choose(all, node, true)
		}
		if f.kind == loadBalancer {
			n.Sources = sources(s, f.address.Is6())
		}
		nats = append(nats, n)
	}
	slices.SortFunc(nats, func(a, b *dataplanev1.DestinationNat) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(nats, func(a, b *dataplanev1.DestinationNat) bool { return a.Name == b.Name })
}

func internalLocal(s *corev1.Service) bool {
	p := s.Spec.InternalTrafficPolicy
	return p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal
}

// sources are the prefixes that clients of a load balancer may come from, none for
// all of them.
func sources(s *corev1.Service, six bool) []string {
	if len(s.Spec.LoadBalancerSourceRanges) == 0 {
		return nil
	}
	var all []string
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil && p.Addr().Is6() == six {
			all = append(all, p.Masked().String())
		}
	}
	if len(all) > 0 {
		return all
	}
	// Those of the other family only: nobody may, which no packet's source says
	// better than the unspecified address.
	if six {
		return []string{"::/128"}
	}
	return []string{"0.0.0.0/32"}
}

// portName tells the ports of a service apart: those with a name by it, the one
// that may have none by its number.
func portName(p corev1.ServicePort) string {
	return cmp.Or(p.Name, fmt.Sprintf("%d/%s", p.Port, strings.ToLower(string(cmp.Or(p.Protocol, corev1.ProtocolTCP)))))
}

// affinity is how long a client keeps its endpoint, in seconds; 0: it does not.
func affinity(s *corev1.Service) uint32 {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return uint32(max(*c.ClientIP.TimeoutSeconds, 1))
	}
	return uint32(corev1.DefaultClientIPServiceAffinitySeconds)
}

// endpoint is one that may serve a port of a service.
type endpoint struct {
	address        netip.AddrPort
	ready, serving bool // serving: it is ready, or about to end and works still
	node           string
	zones          []string // whose clients it is for, as far as it is known
	nodes          []string
}

// candidates are the endpoints of a port, of one family, each once, sorted.
func candidates(list []*discoveryv1.EndpointSlice, six bool, port corev1.ServicePort) []endpoint {
	family := discoveryv1.AddressTypeIPv4
	if six {
		family = discoveryv1.AddressTypeIPv6
	}
	found := map[netip.AddrPort]endpoint{}
	for _, s := range list {
		if s.AddressType != family {
			continue
		}
		number, ok := targetPort(s, port)
		if !ok {
			continue
		}
		for _, e := range s.Endpoints {
			for _, text := range e.Addresses[:min(len(e.Addresses), 1)] { // more have no meaning (discovery/v1)
				address, err := netip.ParseAddr(text)
				if err != nil || address.Is6() != six || !usable(address) {
					continue
				}
				at := netip.AddrPortFrom(address, number)
				is := endpointOf(e, at)
				// While an endpoint moves from one slice to another it is in both: the
				// first one that is ready counts.
				if was, twice := found[at]; !twice || is.ready && !was.ready {
					found[at] = is
				}
			}
		}
	}
	all := make([]endpoint, 0, len(found))
	for _, e := range found {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b endpoint) int { return a.address.Compare(b.address) })
	return all
}

// targetPort is the number that a port of a service has at the endpoints of a slice.
func targetPort(s *discoveryv1.EndpointSlice, port corev1.ServicePort) (uint16, bool) {
	for _, p := range s.Ports {
		name, protocol := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if name == port.Name && protocol == cmp.Or(port.Protocol, corev1.ProtocolTCP) && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func endpointOf(e discoveryv1.Endpoint, at netip.AddrPort) endpoint {
	is := endpoint{address: at}
	// Unset means ready, and serving as ready (discovery/v1, EndpointConditions).
	is.ready = e.Conditions.Ready == nil || *e.Conditions.Ready
	is.serving = is.ready
	if e.Conditions.Serving != nil {
		is.serving = *e.Conditions.Serving
	}
	if e.NodeName != nil {
		is.node = *e.NodeName
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			is.zones = append(is.zones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			is.nodes = append(is.nodes, n.Name)
		}
	}
	return is
}

// choose takes the endpoints that clients are to reach: those that are ready, or,
// with none, those that still serve while they end (KEP-1669); of the node alone if
// so is asked, else of those that hints prefer. Silent: there are some, but not
// here.
func choose(all []endpoint, node Node, local bool) (backends []*dataplanev1.Backend, silent bool) {
	some := alive(all)
	if local {
		here := alive(filter(all, func(e endpoint) bool { return e.node == node.Name }))
		silent = len(here) == 0 && len(some) > 0
		some = here
	} else {
		some = preferred(some, node)
	}
	for _, e := range some {
		backends = append(backends, &dataplanev1.Backend{Address: e.address.Addr().String(), Port: uint32(e.address.Port())})
	}
	return backends, silent
}

func alive(all []endpoint) []endpoint {
	if ready := filter(all, func(e endpoint) bool { return e.ready }); len(ready) > 0 {
		return ready
	}
	return filter(all, func(e endpoint) bool { return e.serving })
}

// preferred follows the hints of endpoints, the narrowest that all of them have,
// where they leave any for the node (KEP-2433, KEP-3015).
func preferred(all []endpoint, node Node) []endpoint {
	for _, hint := range []struct {
		mine  string
		hints func(endpoint) []string
	}{
		{node.Name, func(e endpoint) []string { return e.nodes }},
		{node.Zone, func(e endpoint) []string { return e.zones }},
	} {
		if hint.mine == "" || slices.ContainsFunc(all, func(e endpoint) bool { return len(hint.hints(e)) == 0 }) {
			continue
		}
		if mine := filter(all, func(e endpoint) bool { return slices.Contains(hint.hints(e), hint.mine) }); len(mine) > 0 {
			return mine
		}
	}
	return all
}

func filter(all []endpoint, keep func(endpoint) bool) []endpoint {
	var some []endpoint
	for _, e := range all {
		if keep(e) {
			some = append(some, e)
		}
	}
	return some
}

// keepEqual is now, with the messages of was that say the same.
func keepEqual(was, now []*dataplanev1.DestinationNat) []*dataplanev1.DestinationNat {
	old := make(map[string]*dataplanev1.DestinationNat, len(was))
	for _, n := range was {
		old[n.Name] = n
	}
	for i, n := range now {
		if o := old[n.Name]; o != nil && proto.Equal(o, n) {
			now[i] = o
		}
	}
	return now
}
