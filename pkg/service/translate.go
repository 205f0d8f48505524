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

// proxyNameLabel marks services that another proxy serves.
const proxyNameLabel = "service.kubernetes.io/service-proxy-name"

// protocols are IP protocol numbers (IANA, "Assigned Internet Protocol Numbers").
var protocols = map[corev1.Protocol]uint32{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}

// translate makes the destination NATs of a service, sorted by name.
func translate(s *corev1.Service, endpoints []*discoveryv1.EndpointSlice, node Node) []*dataplanev1.DestinationNat {
	if s == nil || s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if _, other := s.Labels[proxyNameLabel]; other {
		return nil
	}
	var nats []*dataplanev1.DestinationNat
	for _, text := range clusterIPs(s) {
		address, err := netip.ParseAddr(text)
		if err != nil {
			continue // "None": headless
		}
		for _, port := range s.Spec.Ports {
			protocol, ok := protocols[cmp.Or(port.Protocol, corev1.ProtocolTCP)]
			if !ok {
				continue
			}
			n := &dataplanev1.DestinationNat{
				Name:    keyOf(s.Namespace, s.Name) + portName(port) + "@" + address.String(),
				Address: address.String(), Protocol: protocol, Port: uint32(port.Port), AffinitySeconds: affinity(s),
			}
			for _, e := range choose(s, candidates(endpoints, address.Is6(), port), node) {
				n.Backends = append(n.Backends, &dataplanev1.Backend{Address: e.address.Addr().String(), Port: uint32(e.address.Port())})
			}
			nats = append(nats, n)
		}
	}
	slices.SortFunc(nats, func(a, b *dataplanev1.DestinationNat) int { return strings.Compare(a.Name, b.Name) })
	return nats
}

func clusterIPs(s *corev1.Service) []string {
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		return []string{s.Spec.ClusterIP}
	}
	return s.Spec.ClusterIPs
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
				if err != nil || address.Is6() != six {
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

// choose takes the endpoints that clients on the node are to reach: those that are
// ready, or, with none, those that still serve while they end (KEP-1669); of the
// node alone if the service says so, else of those that hints prefer.
func choose(s *corev1.Service, all []endpoint, node Node) []endpoint {
	if p := s.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		return alive(filter(all, func(e endpoint) bool { return e.node == node.Name }))
	}
	return preferred(alive(all), node)
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
