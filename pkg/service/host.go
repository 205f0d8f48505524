// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// HostSide is what the host of a node has to lead to the forwarder, for services to
// be reached from the host itself and from the world.
type HostSide struct {
	// Addresses of services, sorted: none is a node's.
	Addresses []netip.Addr
	// TCP, UDP and SCTP are node ports, sorted.
	TCP, UDP, SCTP []uint16
}

// HostSideOf is what services have, nothing unless node.Proxy.
func HostSideOf(services map[string]*corev1.Service, node Node) HostSide {
	var h HostSide
	if !node.Proxy {
		return h
	}
	for _, s := range services {
		for _, f := range frontends(s, node) {
			switch {
			case f.kind != nodePort && !node.has(f.address):
				h.Addresses = append(h.Addresses, f.address)
			case f.kind != nodePort:
			case f.protocol == corev1.ProtocolTCP:
				h.TCP = append(h.TCP, f.port)
			case f.protocol == corev1.ProtocolUDP:
				h.UDP = append(h.UDP, f.port)
			case f.protocol == corev1.ProtocolSCTP:
				h.SCTP = append(h.SCTP, f.port)
			}
		}
	}
	slices.SortFunc(h.Addresses, netip.Addr.Compare)
	h.Addresses = slices.Compact(h.Addresses)
	for _, list := range []*[]uint16{&h.TCP, &h.UDP, &h.SCTP} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return h
}
