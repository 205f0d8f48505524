// SPDX-License-Identifier: Apache-2.0

package forward

import "netio.dev/netio/pkg/dataplane/packet"

// Reason says why a packet was dropped. Every dropped packet has one, counted
// by the port that it came from. The first ones are those of package packet.
type Reason uint8

// ReasonNone: the packet was not dropped.
const ReasonNone Reason = 0

// Reasons of the forwarder. Their names are what netioctl drops shows.
const (
	ReasonUnknownPort Reason = Reason(packet.ReasonCount) + iota
	ReasonSpoofed
	ReasonMulticast
	ReasonMartian
	ReasonNoConnection
	ReasonUnrelatedICMP
	ReasonFragmentOrder
	ReasonFragmentFull
	ReasonFragmentNAT
	ReasonNoBackend
	ReasonNoRoute
	ReasonLoop
	ReasonPolicyEgress
	ReasonPolicyIngress
	ReasonNATExhausted
	ReasonTTL
	ReasonTooBig
	ReasonTableFull
	ReasonPortLimit
	ReasonDevice
	ReasonNoLocalBackend
	ReasonServiceSource
	ReasonTunnelEnd
	ReasonTunnelMalformed
	ReasonTunnelCongestion
	ReasonCount
)

var reasons = [ReasonCount]struct{ name, description string }{
	ReasonUnknownPort:      {"unknown-port", "it came from a port that the configuration does not have (any more)"},
	ReasonSpoofed:          {"spoofed-source", "its source address does not belong to the port; give the port the address, or look for an impostor"},
	ReasonMulticast:        {"multicast", "multicast and broadcast are not forwarded between ports"},
	ReasonMartian:          {"martian", "source or destination is loopback, unspecified, reserved or link-local, which no router forwards"},
	ReasonNoConnection:     {"no-connection", "a TCP reset, or an ICMP answer, that belongs to no connection in the table"},
	ReasonUnrelatedICMP:    {"unrelated-icmp-error", "an ICMP error about a packet of no connection in the table"},
	ReasonFragmentOrder:    {"fragment-without-first", "a fragment came before, or without, the first one of its packet"},
	ReasonFragmentFull:     {"fragment-table-full", "too many fragmented packets at a time; lower the sender's packet size to the path's MTU"},
	ReasonFragmentNAT:      {"fragment-nat", "a fragmented SCTP packet cannot be given other ports, as its checksum covers what is not in the fragment; lower the sender's packet size"},
	ReasonNoBackend:        {"no-backend", "the service address has no backend; look at the endpoints behind it"},
	ReasonNoRoute:          {"no-route", "no route to the destination; look at netioctl ports and the configured routes"},
	ReasonLoop:             {"loop", "the route leads back to the port that it came from"},
	ReasonPolicyEgress:     {"policy-egress", "a policy of the sender forbids it; netioctl policy explain says which"},
	ReasonPolicyIngress:    {"policy-ingress", "a policy of the receiver forbids it; netioctl policy explain says which"},
	ReasonNATExhausted:     {"nat-exhausted", "all source ports of the NAT address are taken for this destination; add addresses"},
	ReasonTTL:              {"ttl-expired", "its hop limit is reached; there may be a routing loop"},
	ReasonTooBig:           {"too-big", "larger than the MTU of the egress port; the sender was told with an ICMP error"},
	ReasonTableFull:        {"connection-table-full", "no room for another connection; raise max_connections"},
	ReasonPortLimit:        {"port-connection-limit", "the port has as many connections as one may have; raise max_connections_per_port"},
	ReasonNoLocalBackend:   {"no-local-backend", "the service takes such connections only to backends on this node, and there is none; look at its internalTrafficPolicy and externalTrafficPolicy"},
	ReasonServiceSource:    {"service-source", "the service takes no connections from there; look at its loadBalancerSourceRanges"},
	ReasonTunnelEnd:        {"tunnel-unknown-end", "it came in a tunnel from an address that is no node's; look for an impostor, or wait until this node knows the other one"},
	ReasonTunnelMalformed:  {"tunnel-malformed", "it came in a tunnel and is not VXLAN with an IP packet, has another network identifier, or the NIC has merged it with others; give all nodes the same one, and turn UDP GRO off (ethtool -K rx-udp-gro-forwarding off)"},
	ReasonTunnelCongestion: {"tunnel-congestion", "a router between the nodes has marked it instead of dropping it, and its sender does not understand that (RFC 6040)"},
	ReasonDevice:           {"device", "the device had no free buffer for it, or its port's quota is used up"},
}

// String is the reason's name.
func (r Reason) String() string {
	switch {
	case int(r) < packet.ReasonCount:
		return packet.Reason(r).String()
	case r < ReasonCount:
		return reasons[r].name
	}
	return "unknown"
}

// Description says what the reason means and what to do.
func (r Reason) Description() string {
	switch {
	case int(r) < packet.ReasonCount:
		return packet.Reason(r).Description()
	case r < ReasonCount:
		return reasons[r].description
	}
	return "unknown reason"
}

// ReasonNames are the names by number, for package observe.
func ReasonNames() []string {
	names := make([]string, ReasonCount)
	for r := range names {
		names[r] = Reason(r).String()
	}
	return names
}
