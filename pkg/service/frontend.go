// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"netio.dev/netio/pkg/dataplane/packet"
)

// Labels of services, and of endpoints, that are none of ours.
const (
	// proxyNameLabel: another proxy serves them.
	proxyNameLabel = "service.kubernetes.io/service-proxy-name"
	// headlessLabel: no proxy does.
	headlessLabel = corev1.IsHeadlessService
)

// notOurs tells whether an object has one of these labels.
func notOurs(labels map[string]string) bool {
	_, other := labels[proxyNameLabel]
	_, headless := labels[headlessLabel]
	return other || headless
}

// protocols are IP protocol numbers (IANA, "Assigned Internet Protocol Numbers").
var protocols = map[corev1.Protocol]uint32{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}

// kind of a frontend; the word is part of its name.
type kind string

const (
	clusterIP    kind = ""
	nodePort     kind = "/node-port"
	loadBalancer kind = "/load-balancer"
	externalIP   kind = "/external-ip"
)

// frontend is where a port of a service is reached.
type frontend struct {
	name     string
	kind     kind
	address  netip.Addr
	protocol corev1.Protocol
	port     uint16
	of       corev1.ServicePort
}

// frontends are where a service is reached on the node.
func frontends(s *corev1.Service, node Node) []frontend {
	if s == nil || s.Spec.Type == corev1.ServiceTypeExternalName || notOurs(s.Labels) {
		return nil
	}
	var all []frontend
	add := func(kind kind, port corev1.ServicePort, number int32, address netip.Addr) {
		protocol := cmp.Or(port.Protocol, corev1.ProtocolTCP)
		if _, ok := protocols[protocol]; !ok || number < 1 || number > 65535 {
			return
		}
		name := keyOf(s.Namespace, s.Name) + portName(port) + string(kind) + "@" + address.String()
		all = append(all, frontend{name, kind, address, protocol, uint16(number), port})
	}
	own := addresses(clusterIPs(s)) // none: headless
	for _, port := range s.Spec.Ports {
		for _, a := range own {
			add(clusterIP, port, port.Port, a)
		}
		if !node.Proxy || len(own) == 0 {
			continue
		}
		for _, a := range slices.Concat(node.Sources, node.Addresses) {
			if hasFamily(own, a) {
				add(nodePort, port, port.NodePort, a)
			}
		}
		for _, a := range balancers(s) {
			add(loadBalancer, port, port.Port, a)
		}
		if node.ExternalIPs {
			for _, a := range addresses(s.Spec.ExternalIPs) {
				add(externalIP, port, port.Port, a)
			}
		}
	}
	return all
}

// balancers are the addresses that load balancers have for a service, but for those
// of balancers that want to see its traffic themselves (KEP-1860).
func balancers(s *corev1.Service) []netip.Addr {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	var texts []string
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP {
			texts = append(texts, i.IP)
		}
	}
	return addresses(texts)
}

func clusterIPs(s *corev1.Service) []string {
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		return []string{s.Spec.ClusterIP}
	}
	return s.Spec.ClusterIPs
}

// addresses are those that can be served.
func addresses(texts []string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil && usable(a) {
			all = append(all, a)
		}
	}
	return all
}

// usable tells whether the forwarder takes an address: one it does not take would
// cost all of its configuration.
func usable(a netip.Addr) bool {
	return a.Zone() == "" && !a.Is4In6() && packet.AddrFrom(a).IsUnicast()
}

func hasFamily(list []netip.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(b netip.Addr) bool { return a.Is6() == b.Is6() })
}
