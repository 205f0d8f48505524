// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

// town is a valid snapshot with one of everything.
func town() *dataplanev1.Snapshot {
	return &dataplanev1.Snapshot{
		Revision: 1,
		Settings: &dataplanev1.Settings{
			Ipv4: "169.254.0.1", Ipv6: "fe80::1", MaxConnections: 1000, MaxConnectionsPerPort: 100,
			Timeouts: &dataplanev1.Timeouts{Udp: 5, Fragment: 3},
		},
		Ports: []*dataplanev1.Port{
			{Name: "web", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/web", Mtu: 1400, Addresses: []string{"10.0.0.1", "fd00::1"}, Policies: []string{"p", "q"}, Tags: map[string]string{"pod": "web-1"}},
			{Name: "db", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/db", Addresses: []string{"10.0.0.2"}, Policies: []string{"q"}},
			{Name: "host", Kind: dataplanev1.Port_HOST, Ifname: "netio0", Addresses: []string{"192.0.2.10"}},
		},
		Routes: []*dataplanev1.Route{{Prefix: "0.0.0.0/0", Port: "host"}, {Prefix: "::/0", Port: "host"}, {Prefix: "10.0.0.0/16"}},
		AddressSets: []*dataplanev1.AddressSet{
			{Name: "pods", Prefixes: []string{"10.0.0.0/24", "fd00::/64"}, Except: []string{"10.0.0.128/25"}},
			{Name: "office", Prefixes: []string{"198.51.100.0/24", "203.0.113.7"}},
		},
		Policies: []*dataplanev1.Policy{
			{Name: "p", IsolatesIngress: true, Ingress: []*dataplanev1.Rule{
				{Name: "http", Priority: 10, Action: dataplanev1.Action_ALLOW, Peers: []string{"pods", "office"}, L4: []*dataplanev1.L4Match{{Protocol: 6, FirstPort: 80}, {Protocol: 17, FirstPort: 1000, LastPort: 2000}, {Protocol: 47}}},
				{Name: "ping", Tier: 1, Action: dataplanev1.Action_PASS, L4: []*dataplanev1.L4Match{{Protocol: 1, IcmpType: proto.Uint32(8), IcmpCode: proto.Uint32(0)}, {Protocol: 58}}},
			}},
			{Name: "q", IsolatesEgress: true, Audit: true, Egress: []*dataplanev1.Rule{{Name: "out", Action: dataplanev1.Action_DENY, Peers: []string{"office"}}}},
		},
		SourceNats: []*dataplanev1.SourceNat{
			{Name: "masquerade", Source: "10.0.0.0/16", DestinationsExcept: []string{"10.0.0.0/8"}, OutPort: "host", Addresses: []string{"192.0.2.10", "2001:db8::10"}},
			{Name: "masquerade6", Source: "fd00::/48", Addresses: []string{"2001:db8::10"}, FirstPort: 32768, LastPort: 40000},
		},
		DestinationNats: []*dataplanev1.DestinationNat{
			{Name: "dns", Address: "10.96.0.10", Protocol: 17, Port: 53, AffinitySeconds: 60, Backends: []*dataplanev1.Backend{{Address: "10.0.0.1", Port: 53, Weight: 3}, {Address: "10.0.0.2", Port: 53}}},
			{Name: "dns-tcp", Address: "10.96.0.10", Protocol: 6, Port: 53},
			{Name: "web6", Address: "fd00:96::1", Protocol: 6, Port: 80, Backends: []*dataplanev1.Backend{{Address: "fd00::1", Port: 8080}}},
		},
	}
}

var townIDs = map[string]uint32{"web": 1, "db": 2, "host": 7}
