// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// HealthCheck is a port at which a load balancer asks whether the node has endpoints
// of a service (spec.healthCheckNodePort).
type HealthCheck struct {
	Namespace, Name string
	Port            uint16
	// Local is how many endpoints are ready on the node. Those that are about to end
	// do not count: the load balancer is to look elsewhere.
	Local int
}

// HealthChecksOf are those of services, sorted, none unless node.Proxy.
func HealthChecksOf(services map[string]*corev1.Service, endpoints map[string]*discoveryv1.EndpointSlice, node Node) []HealthCheck {
	if !node.Proxy {
		return nil
	}
	at := map[[2]string]int{} // namespace and name: place in all
	var all []HealthCheck
	for _, s := range services {
		if port := s.Spec.HealthCheckNodePort; port > 0 && port <= 65535 && len(frontends(s, node)) > 0 {
			at[[2]string{s.Namespace, s.Name}] = len(all)
			all = append(all, HealthCheck{Namespace: s.Namespace, Name: s.Name, Port: uint16(port)})
		}
	}
	if len(all) == 0 {
		return nil
	}
	type place struct {
		check   int
		address string
	}
	counted := map[place]bool{} // an endpoint may be in two slices
	for _, s := range endpoints {
		of := serviceOf(s)
		i, ok := at[[2]string{of.Namespace, of.Name}]
		if !ok {
			continue
		}
		for _, e := range s.Endpoints {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			if !ready || e.NodeName == nil || *e.NodeName != node.Name || len(e.Addresses) == 0 || counted[place{i, e.Addresses[0]}] {
				continue
			}
			counted[place{i, e.Addresses[0]}] = true
			all[i].Local++
		}
	}
	slices.SortFunc(all, func(a, b HealthCheck) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(keyOf(a.Namespace, a.Name), keyOf(b.Namespace, b.Name)))
	})
	return all
}
