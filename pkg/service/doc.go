// SPDX-License-Identifier: Apache-2.0

// Package service makes the forwarder's destination NAT out of Kubernetes Services
// and their EndpointSlices, for what pods send to them.
//
//	Service ──────── clusterIPs, ports ──┐
//	EndpointSlices ─ addresses, ports ───┼──> Compiler ──> DestinationNats
//	node ─────────── name, zone ─────────┘
//
// Cluster IPs of both families, session affinity, internalTrafficPolicy, topology
// hints and endpoints that are about to end are understood as kube-proxy does
// (Kubernetes reference, "Virtual IPs and Service Proxies"). Node ports, addresses
// of load balancers and external IPs are not here: they meet the host's stack first.
package service
