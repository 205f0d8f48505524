// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestValidateAcceptsGoodSnapshots(t *testing.T) {
	gateway, own := town(), town()
	gateway.Ports[2].Addresses = []string{"169.254.0.1", "fe80::1"}
	wired := town()
	uplink(wired, "10.0.0.0/24", "192.0.2.7", "fd00::/64", "0.0.0.0/0", "::/0")
	far := town()
	tunnel(far, "192.0.2.2")
	tunnel(far, "2001:db8::2")
	own.Routes[2] = &dataplanev1.Route{Prefix: "10.0.0.1/32"} // the port's address wins
	for name, s := range map[string]*dataplanev1.Snapshot{
		"town": town(), "empty": {}, "none": nil, "the host as gateway": gateway, "a route to an address": own, "an uplink": wired, "tunnels": far,
	} {
		if err := Validate(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// uplink adds a NIC, which is Ports[3] of the town.
func uplink(s *dataplanev1.Snapshot, steer ...string) *dataplanev1.Port {
	p := &dataplanev1.Port{Name: "wire", Kind: dataplanev1.Port_UPLINK, Ifname: "eth1", Steer: steer}
	s.Ports = append(s.Ports, p)
	return p
}

// tunnel adds another node, which is Ports[3] of the town, or a later one.
func tunnel(s *dataplanev1.Snapshot, remote string) *dataplanev1.Port {
	s.Settings.Vxlan = &dataplanev1.Vxlan{Port: s.Ports[2].Name, Vni: 1, Ipv4: "192.0.2.1", Ipv6: "2001:db8::1"}
	p := &dataplanev1.Port{Name: "to " + remote, Kind: dataplanev1.Port_TUNNEL, Remote: remote, Addresses: []string{remote}}
	s.Ports = append(s.Ports, p)
	return p
}

func TestValidateNamesEveryViolation(t *testing.T) {
	type snapshot = *dataplanev1.Snapshot
	long := strings.Repeat("x", MaxNameLength+1)
	rule := func(s snapshot) *dataplanev1.Rule { return s.Policies[0].Ingress[0] }
	unknown := func(m proto.Message) { m.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1}) }
	tests := []struct {
		edit  func(s snapshot)
		field string
		says  string
	}{
		// tunnels
		{func(s snapshot) { tunnel(s, "192.0.2.2").Remote = "" }, "ports[3].remote", "not an IP address"},
		{func(s snapshot) { tunnel(s, "192.0.2.2").Ifname = "eth0" }, "ports[3].ifname", "has no interface"},
		{func(s snapshot) { tunnel(s, "192.0.2.2").Netns = "/run/netns/x" }, "ports[3].netns", "has no interface"},
		{func(s snapshot) { tunnel(s, "192.0.2.2").NbufQuota = 1 }, "ports[3].nbuf_quota", "has no interface"},
		{func(s snapshot) { tunnel(s, "192.0.2.2").Policies = []string{s.Policies[0].Name} }, "ports[3].policies", "apply to pods"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); tunnel(s, "192.0.2.3").Remote = "192.0.2.2" }, "ports[4].remote", "also the other end of ports[3]"},
		{func(s snapshot) { tunnel(s, "192.0.2.2").Remote = "192.0.2.1" }, "ports[3].remote", "own address"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); s.Settings.Vxlan = nil }, "ports[3].kind", "no settings.vxlan"},
		{func(s snapshot) { tunnel(s, "2001:db8::2"); s.Settings.Vxlan.Ipv6 = "" }, "ports[3].remote", "has no address of"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); s.Settings.Vxlan.Port = s.Ports[0].Name }, "settings.vxlan.port", "not a HOST port"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); s.Settings.Vxlan.Port = "" }, "settings.vxlan.port", "not a HOST port"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); s.Settings.Vxlan.Vni = 0 }, "settings.vxlan.vni", "expected 1"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); s.Settings.Vxlan.Vni = MaxVNI + 1 }, "settings.vxlan.vni", "expected 1"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); s.Settings.Vxlan.UdpPort = 1 << 16 }, "settings.vxlan.udp_port", "expected 1"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); s.Settings.Vxlan.Ipv4 = "2001:db8::1" }, "settings.vxlan.ipv4", "other family"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); s.Settings.Vxlan.ReceivedIpv6 = "x" }, "settings.vxlan.received_ipv6", "not an IP address"},
		{func(s snapshot) { s.Settings.Vxlan = &dataplanev1.Vxlan{Port: s.Ports[2].Name, Vni: 1} }, "settings.vxlan", "no address"},
		{func(s snapshot) { s.Ports[1].Remote = "192.0.2.2" }, "ports[1].remote", "only a TUNNEL"},
		{func(s snapshot) { tunnel(s, "192.0.2.2"); unknown(s.Settings.Vxlan) }, "settings.vxlan", "does not know"},
		// settings
		{func(s snapshot) { s.Settings.Ipv4 = "fd00::9" }, "settings.ipv4", "other family"},
		{func(s snapshot) { s.Settings.Ipv6 = "10.0.0.9" }, "settings.ipv6", "other family"},
		{func(s snapshot) { s.Settings.Ipv4 = "router" }, "settings.ipv4", "not an IP address"},
		{func(s snapshot) { s.Settings.Ipv4 = "10.0.0.9/32" }, "settings.ipv4", "is a prefix"},
		{func(s snapshot) { s.Settings.Ipv4 = "10.0.0.2" }, "settings.ipv4", "address of ports[1]"},
		{func(s snapshot) { s.Settings.MaxConnections = MaxTotalConnections + 1 }, "settings.max_connections", "more than"},
		{func(s snapshot) { s.Settings.MaxConnectionsPerPort = 1 << 31 }, "settings.max_connections_per_port", "more than"},
		{func(s snapshot) { s.Settings.Timeouts.TcpEstablished = MaxTimeoutSeconds + 1 }, "settings.timeouts.tcp_established", "more than"},
		{func(s snapshot) { s.Settings.Timeouts.Fragment = 1 << 31 }, "settings.timeouts.fragment", "more than"},
		{func(s snapshot) { unknown(s.Settings) }, "settings", "upgrade"},
		{func(s snapshot) { unknown(s.Settings.Timeouts) }, "settings.timeouts", "upgrade"},
		{func(s snapshot) { unknown(s) }, "snapshot", "upgrade"},
		// ports
		{func(s snapshot) { s.Ports[1].Name = "" }, "ports[1].name", "is empty"},
		{func(s snapshot) { s.Ports[1].Name = "web" }, "ports[1].name", "name of ports[0]"},
		{func(s snapshot) { s.Ports[1].Name = long }, "ports[1].name", "bytes long"},
		{func(s snapshot) { s.Ports[1].Name = "a\nb" }, "ports[1].name", "control"},
		{func(s snapshot) { s.Ports[1].Name = "a\xff" }, "ports[1].name", "UTF-8"},
		{func(s snapshot) { s.Ports[1].Kind = 0 }, "ports[1].kind", "expected POD"},
		{func(s snapshot) { s.Ports[1].Kind = 9 }, "ports[1].kind", "expected POD"},
		{func(s snapshot) { s.Ports[1].Ifname = "" }, "ports[1].ifname", "1 to 15"},
		{func(s snapshot) { s.Ports[1].Ifname = strings.Repeat("e", 16) }, "ports[1].ifname", "1 to 15"},
		{func(s snapshot) { s.Ports[1].Ifname = ".." }, "ports[1].ifname", "not an interface name"},
		{func(s snapshot) { s.Ports[1].Ifname = "a/b" }, "ports[1].ifname", "slash"},
		{func(s snapshot) { s.Ports[1].Ifname = "a b" }, "ports[1].ifname", "space"},
		{func(s snapshot) { s.Ports[1].Ifname = "eth%d" }, "ports[1].ifname", "percent"},
		{func(s snapshot) { s.Ports[1].Ifname = "a\xff" }, "ports[1].ifname", "UTF-8"},
		{func(s snapshot) { s.Ports[1].Netns = s.Ports[0].Netns }, "ports[1].ifname", "interface of ports[0]"},
		{func(s snapshot) { s.Ports[1].Netns = "netns/db" }, "ports[1].netns", "absolute"},
		{func(s snapshot) { s.Ports[1].Netns = "/a\x00" }, "ports[1].netns", "not a path"},
		{func(s snapshot) { s.Ports[1].Mtu = 575 }, "ports[1].mtu", "576"},
		{func(s snapshot) { s.Ports[0].Mtu = 1279 }, "ports[0].mtu", "1280"},
		{func(s snapshot) { s.Ports[1].Mtu = 65536 }, "ports[1].mtu", "65535"},
		{func(s snapshot) { s.Ports[1].NbufQuota = 1 << 24 }, "ports[1].nbuf_quota", "more nbufs"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "10.0.0" }, "ports[1].addresses[0]", "not an IP address"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "10.0.0.0/8" }, "ports[1].addresses[0]", "is a prefix"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "127.0.0.1" }, "ports[1].addresses[0]", "loopback"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "224.0.0.1" }, "ports[1].addresses[0]", "multicast"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "::" }, "ports[1].addresses[0]", "unspecified"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "fe80::1%eth0" }, "ports[1].addresses[0]", "zone"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "fe80::1" }, "ports[1].addresses[0]", "link-local"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "::ffff:10.0.0.9" }, "ports[1].addresses[0]", "write it as 10.0.0.9"},
		{func(s snapshot) { s.Ports[1].Addresses[0] = "10.0.0.1" }, "ports[1].addresses[0]", "ports[0] already"},
		{func(s snapshot) { s.Ports[1].Addresses = append(s.Ports[1].Addresses, "10.0.0.2") }, "ports[1].addresses[1]", "ports[1] already"},
		{func(s snapshot) { s.Ports[1].Policies[0] = "nowhere" }, "ports[1].policies[0]", "no policy"},
		{func(s snapshot) { s.Ports[0].Policies[1] = "p" }, "ports[0].policies[1]", "policies[0] already"},
		{func(s snapshot) { s.Ports[2].Policies = []string{"p"} }, "ports[2].policies", "host's port"},
		{func(s snapshot) { s.Ports[0].Tags[""] = "x" }, "ports[0].tags", "key"},
		{func(s snapshot) { s.Ports[0].Tags["k"] = strings.Repeat("v", MaxTagLength+1) }, "ports[0].tags", "value"},
		{func(s snapshot) {
			s.Ports[1].Addresses = nil
			for i := range MaxPortAddresses + 1 {
				s.Ports[1].Addresses = append(s.Ports[1].Addresses, fmt.Sprintf("10.9.%d.%d", i/256, i%256))
			}
		}, "ports[1].addresses", "at most 256"},
		{func(s snapshot) { unknown(s.Ports[1]) }, "ports[1]", "upgrade"},
		{func(s snapshot) { s.Ports[1].Steer = []string{"10.0.0.0/8"} }, "ports[1].steer", "only an UPLINK"},
		{func(s snapshot) { uplink(s).Policies = []string{"p"} }, "ports[3].policies", "this is an uplink"},
		{func(s snapshot) { uplink(s).Addresses = []string{"192.0.2.11"} }, "ports[3].addresses", "in steer"},
		{func(s snapshot) { uplink(s).Netns = "/run/netns/x" }, "ports[3].netns", "forwarder's own"},
		{func(s snapshot) { uplink(s, "10.0.0.1/8") }, "ports[3].steer[0]", "did you mean 10.0.0.0/8"},
		{func(s snapshot) { uplink(s, "somewhere") }, "ports[3].steer[0]", "not a prefix"},
		{func(s snapshot) { uplink(s, "10.0.0.0/8", "224.0.0.0/4") }, "ports[3].steer[1]", "multicast"},
		{func(s snapshot) { uplink(s, "255.255.255.255") }, "ports[3].steer[0]", "broadcast"},
		{func(s snapshot) { uplink(s, "127.0.0.0/8") }, "ports[3].steer[0]", "loopback"},
		{func(s snapshot) { uplink(s, "fe80::/64") }, "ports[3].steer[0]", "link-local"},
		{func(s snapshot) { uplink(s, "10.0.0.1", "::/0", "10.0.0.1/32") }, "ports[3].steer[2]", "steer[0] already"},
		{func(s snapshot) { uplink(s, make([]string, MaxPortSteer+1)...) }, "ports[3].steer", "at most 4096"},
		{func(s snapshot) { uplink(s).Ifname = "" }, "ports[3].ifname", "1 to 15"},
		{func(s snapshot) { uplink(s).Ifname = s.Ports[2].Ifname }, "ports[3].ifname", "interface of ports[2]"},
		// routes
		{func(s snapshot) { s.Routes[0].Prefix = "10.0.0.1/8" }, "routes[0].prefix", "did you mean 10.0.0.0/8"},
		{func(s snapshot) { s.Routes[0].Prefix = "default" }, "routes[0].prefix", "not a prefix"},
		{func(s snapshot) { s.Routes[0].Prefix = "::ffff:10.0.0.0/104" }, "routes[0].prefix", "prefix"},
		{func(s snapshot) { s.Routes[1].Prefix = "0.0.0.0/0" }, "routes[1].prefix", "prefix of routes[0]"},
		{func(s snapshot) { s.Routes[1].Port = "nowhere" }, "routes[1].port", "no port"},
		// address sets
		{func(s snapshot) { s.AddressSets = append(s.AddressSets, &dataplanev1.AddressSet{Name: "pods"}) }, "address_sets[2].name", "name of address_sets[0]"},
		{func(s snapshot) { s.AddressSets[0].Prefixes[1] = "fd00::1/64" }, "address_sets[0].prefixes[1]", "fd00::/64"},
		{func(s snapshot) { s.AddressSets[0].Prefixes[1] = "10.0.0.0/24" }, "address_sets[0].prefixes[1]", "[0] already"},
		{func(s snapshot) { s.AddressSets[1].Prefixes[0] = "203.0.113.7/32" }, "address_sets[1].prefixes[1]", "[0] already"},
		{func(s snapshot) { s.AddressSets[0].Except[0] = "10.0.0.129/25" }, "address_sets[0].except[0]", "10.0.0.128/25"},
		{func(s snapshot) { unknown(s.AddressSets[0]) }, "address_sets[0]", "upgrade"},
		// policies
		{func(s snapshot) { s.Policies = append(s.Policies, &dataplanev1.Policy{Name: "p"}) }, "policies[2].name", "name of policies[0]"},
		{func(s snapshot) { s.Policies[0].Ingress[1].Name = "http" }, "policies[0].ingress[1].name", "name of policies[0].ingress[0]"},
		{func(s snapshot) { rule(s).Name = "" }, "policies[0].ingress[0].name", "is empty"},
		{func(s snapshot) { rule(s).Action = 0 }, "policies[0].ingress[0].action", "expected ALLOW"},
		{func(s snapshot) { rule(s).Peers[0] = "nowhere" }, "policies[0].ingress[0].peers[0]", "no address set"},
		{func(s snapshot) { rule(s).L4[0] = nil }, "policies[0].ingress[0].l4[0]", "expected a protocol"},
		{func(s snapshot) { rule(s).L4[0].Protocol = 0 }, "policies[0].ingress[0].l4[0].protocol", "extension header"},
		{func(s snapshot) { rule(s).L4[0].Protocol = 44 }, "policies[0].ingress[0].l4[0].protocol", "extension header"},
		{func(s snapshot) { rule(s).L4[0].Protocol = 255 }, "policies[0].ingress[0].l4[0].protocol", "1 to 254"},
		{func(s snapshot) { rule(s).L4[0].Protocol = 262 }, "policies[0].ingress[0].l4[0].protocol", "1 to 254"},
		{func(s snapshot) { rule(s).L4[0].Protocol = 47 }, "policies[0].ingress[0].l4[0].first_port", "no ports"},
		{func(s snapshot) { rule(s).L4[1].FirstPort = 0 }, "policies[0].ingress[0].l4[1].first_port", "both 0"},
		{func(s snapshot) { rule(s).L4[1].LastPort = 999 }, "policies[0].ingress[0].l4[1].last_port", "before first_port"},
		{func(s snapshot) { rule(s).L4[1].LastPort = 65536 }, "policies[0].ingress[0].l4[1].last_port", "65535"},
		{func(s snapshot) { rule(s).L4[2].IcmpType = proto.Uint32(8) }, "policies[0].ingress[0].l4[2].icmp_type", "not ICMP"},
		{func(s snapshot) { s.Policies[0].Ingress[1].L4[0].IcmpType = nil }, "policies[0].ingress[1].l4[0].icmp_code", "add icmp_type"},
		{func(s snapshot) { s.Policies[0].Ingress[1].L4[0].IcmpType = proto.Uint32(256) }, "policies[0].ingress[1].l4[0].icmp_type", "0 to 255"},
		{func(s snapshot) { s.Policies[1].Egress = make([]*dataplanev1.Rule, MaxRules+1) }, "policies[1].egress", "at most 10000"},
		{func(s snapshot) { unknown(s.Policies[1]) }, "policies[1]", "upgrade"},
		{func(s snapshot) { unknown(rule(s)) }, "policies[0].ingress[0]", "upgrade"},
		{func(s snapshot) { unknown(rule(s).L4[1]) }, "policies[0].ingress[0].l4[1]", "upgrade"},
		// source NAT
		{func(s snapshot) { s.SourceNats[1].Name = "masquerade" }, "source_nats[1].name", "name of source_nats[0]"},
		{func(s snapshot) { s.SourceNats[0].Source = "" }, "source_nats[0].source", "not a prefix"},
		{func(s snapshot) { s.SourceNats[0].DestinationsExcept[0] = "10.1.2.3/8" }, "source_nats[0].destinations_except[0]", "10.0.0.0/8"},
		{func(s snapshot) { s.SourceNats[0].OutPort = "nowhere" }, "source_nats[0].out_port", "no port"},
		{func(s snapshot) { s.SourceNats[1].Addresses[0] = "192.0.2.10" }, "source_nats[1].addresses", "no address of the family"},
		{func(s snapshot) { s.SourceNats[1].Addresses = nil }, "source_nats[1].addresses", "no address of the family"},
		{func(s snapshot) { s.SourceNats[0].Addresses[0] = "10.0.0.1" }, "source_nats[0].addresses[0]", "pod ports[0]"},
		{func(s snapshot) { s.SourceNats[0].Addresses[1] = "192.0.2.10" }, "source_nats[0].addresses[1]", "[0] already"},
		{func(s snapshot) { s.SourceNats[0].Addresses[1] = "0.0.0.0" }, "source_nats[0].addresses[1]", "unspecified"},
		{func(s snapshot) { s.SourceNats[1].LastPort = 32767 }, "source_nats[1].last_port", "not a range"},
		{func(s snapshot) { s.SourceNats[1].LastPort = 65536 }, "source_nats[1].last_port", "not a range"},
		{func(s snapshot) { unknown(s.SourceNats[1]) }, "source_nats[1]", "upgrade"},
		// destination NAT
		{func(s snapshot) { s.DestinationNats[1].Name = "dns" }, "destination_nats[1].name", "name of destination_nats[0]"},
		{func(s snapshot) { s.DestinationNats[1].Protocol = 17 }, "destination_nats[1]", "destination_nats[0]"},
		{func(s snapshot) { s.DestinationNats[0].Address = "10.96.0.300" }, "destination_nats[0].address", "not an IP address"},
		{func(s snapshot) { s.DestinationNats[0].Protocol = 1 }, "destination_nats[0].protocol", "no ports"},
		{func(s snapshot) { s.DestinationNats[0].Protocol = 256 + 6 }, "destination_nats[0].protocol", "no ports"},
		{func(s snapshot) { s.DestinationNats[0].Port = 0 }, "destination_nats[0].port", "1 to 65535"},
		{func(s snapshot) { s.DestinationNats[0].Port = 65536 + 53 }, "destination_nats[0].port", "1 to 65535"},
		{func(s snapshot) { s.DestinationNats[0].AffinitySeconds = 1 << 30 }, "destination_nats[0].affinity_seconds", "no affinity"},
		{func(s snapshot) { s.DestinationNats[0].Sources = []string{"10.0.0.1/8"} }, "destination_nats[0].sources[0]", "did you mean 10.0.0.0/8?"},
		{func(s snapshot) {
			s.DestinationNats[0].External = &dataplanev1.External{Backends: []*dataplanev1.Backend{{Address: "fd00::1", Port: 53}}}
		}, "destination_nats[0].external.backends[0].address", "another family"},
		{func(s snapshot) { s.Settings.ServiceIpv4 = "fd00::9" }, "settings.service_ipv4", "the other family"},
		{func(s snapshot) { s.Settings.ServiceIpv4 = "10.0.0.1" }, "settings.service_ipv4", "one of its own"},
		{func(s snapshot) { s.Settings.HostAddresses = []string{"192.0.2.1", "here"} }, "settings.host_addresses[1]", "not an IP address"},
		{func(s snapshot) { s.DestinationNats[0].Backends[0].Address = "fd00::1" }, "destination_nats[0].backends[0].address", "another family"},
		{func(s snapshot) { s.DestinationNats[0].Backends[0].Address = "x" }, "destination_nats[0].backends[0].address", "not an IP address"},
		{func(s snapshot) { s.DestinationNats[0].Backends[0].Port = 0 }, "destination_nats[0].backends[0].port", "1 to 65535"},
		{func(s snapshot) { s.DestinationNats[0].Backends[0].Weight = 257 }, "destination_nats[0].backends[0].weight", "scale"},
		{func(s snapshot) { s.DestinationNats[0].Backends[1] = s.DestinationNats[0].Backends[0] }, "destination_nats[0].backends[1]", "backends[0] already"},
		{func(s snapshot) { s.DestinationNats[0].Backends[1] = nil }, "destination_nats[0].backends[1]", "is empty"},
		{func(s snapshot) { unknown(s.DestinationNats[0]) }, "destination_nats[0]", "upgrade"},
		{func(s snapshot) { unknown(s.DestinationNats[0].Backends[0]) }, "destination_nats[0].backends[0]", "upgrade"},
	}
	for _, tt := range tests {
		t.Run(tt.field+"/"+tt.says, func(t *testing.T) {
			s := town()
			tt.edit(s)
			err := Validate(s)
			var invalid *ValidationError
			if !errors.As(err, &invalid) {
				t.Fatalf("accepted: %v", err)
			}
			if len(invalid.Violations) != 1 || invalid.Violations[0].Field != tt.field || !strings.Contains(invalid.Violations[0].Description, tt.says) {
				t.Errorf("want %s: ...%s...\ngot  %v", tt.field, tt.says, err)
			}
		})
	}
}

func TestValidateListsAll(t *testing.T) {
	s := town()
	s.Ports[0].Ifname, s.Ports[1].Mtu, s.Routes[2].Prefix = "", 1, "x"
	err := Validate(s)
	for _, want := range []string{"3 violations", "\n  ports[0].ifname: ", "\n  ports[1].mtu: ", "\n  routes[2].prefix: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	// A flood is cut.
	s = &dataplanev1.Snapshot{Routes: make([]*dataplanev1.Route, 5000)}
	err = Validate(s)
	var invalid *ValidationError
	if !errors.As(err, &invalid) || len(invalid.Violations) != maxViolations || invalid.More != 4000 || !strings.HasSuffix(err.Error(), "and 4000 more") {
		t.Errorf("5000 violations came as %d and %d more", len(invalid.Violations), invalid.More)
	}
	st, _ := status.FromError(Status(err))
	if n := len(st.Message()); n > 4000 {
		t.Errorf("status message of %d bytes", n)
	}
	// Bad input is repeated in part only.
	s = town()
	s.Ports[0].Ifname = strings.Repeat("x", 100_000)
	if err := Validate(s); len(err.Error()) > 1000 {
		t.Errorf("message of %d bytes", len(err.Error()))
	}
}

func TestStatus(t *testing.T) {
	if Status(nil) != nil {
		t.Error("no error has a status")
	}
	s := town()
	s.Ports[0].Ifname, s.Ports[1].Mtu = "", 1
	err := Validate(s)
	// Also as gRPC itself converts what a handler returns.
	for _, e := range []error{Status(err), Status(fmt.Errorf("apply: %w", err)), err} {
		st, ok := status.FromError(e)
		if !ok || st.Code() != codes.InvalidArgument || !strings.Contains(st.Message(), "ports[0].ifname") {
			t.Fatalf("%v", st)
		}
		bad := st.Details()[0].(*errdetails.BadRequest)
		if len(bad.FieldViolations) != 2 || bad.FieldViolations[1].Field != "ports[1].mtu" || bad.FieldViolations[1].Description == "" {
			t.Errorf("%v", bad)
		}
	}
	if c := status.Code(Status(fmt.Errorf("merge: %w", ErrRevision))); c != codes.Aborted {
		t.Errorf("revision: %v", c)
	}
	if c := status.Code(Status(errors.New("x"))); c != codes.InvalidArgument {
		t.Errorf("other: %v", c)
	}
}

// What a snapshot shares with its valid base is not looked into again, but how
// it stands to the rest is.
func TestValidateUpdate(t *testing.T) {
	base := town()
	for name, tt := range map[string]struct {
		delta *dataplanev1.Delta
		field string
	}{
		"nothing":          {&dataplanev1.Delta{}, ""},
		"a good port":      {&dataplanev1.Delta{Ports: []*dataplanev1.Port{{Name: "new", Kind: 1, Ifname: "e", Addresses: []string{"10.0.0.3"}}}}, ""},
		"a bad port":       {&dataplanev1.Delta{Ports: []*dataplanev1.Port{{Name: "new", Kind: 1}}}, "ports[3].ifname"},
		"a bad change":     {&dataplanev1.Delta{Ports: []*dataplanev1.Port{{Name: "db", Kind: 1}}}, "ports[1].ifname"},
		"a taken address":  {&dataplanev1.Delta{Ports: []*dataplanev1.Port{{Name: "new", Kind: 1, Ifname: "e", Addresses: []string{"10.0.0.2"}}}}, "ports[3].addresses[0]"},
		"a needed policy":  {&dataplanev1.Delta{DeletePolicies: []string{"p"}}, "ports[0].policies[0]"},
		"a needed set":     {&dataplanev1.Delta{DeleteAddressSets: []string{"pods"}}, "policies[0].ingress[0].peers[0]"},
		"a needed port":    {&dataplanev1.Delta{DeletePorts: []string{"host"}, DeleteRoutes: []string{"0.0.0.0/0", "::/0"}}, "source_nats[0].out_port"},
		"a moved address":  {&dataplanev1.Delta{DeletePorts: []string{"db"}, Ports: []*dataplanev1.Port{{Name: "new", Kind: 1, Ifname: "e", Addresses: []string{"10.0.0.2"}}}}, ""},
		"the same service": {&dataplanev1.Delta{DestinationNats: []*dataplanev1.DestinationNat{{Name: "x", Address: "10.96.0.10", Protocol: 17, Port: 53}}}, "destination_nats[3]"},
		"a bad setting":    {&dataplanev1.Delta{Settings: &dataplanev1.Settings{Ipv4: "x"}}, "settings.ipv4"},
		"a bad set":        {&dataplanev1.Delta{AddressSets: []*dataplanev1.AddressSet{{Name: "pods", Prefixes: []string{"x"}}}}, "address_sets[0].prefixes[0]"},
		"a bad policy":     {&dataplanev1.Delta{Policies: []*dataplanev1.Policy{{Name: "q", Egress: []*dataplanev1.Rule{{Name: "r"}}}}}, "policies[1].egress[0].action"},
		"a bad source NAT": {&dataplanev1.Delta{SourceNats: []*dataplanev1.SourceNat{{Name: "masquerade", Source: "x", Addresses: []string{"192.0.2.1"}}}}, "source_nats[0].source"},
		"a bad service":    {&dataplanev1.Delta{DestinationNats: []*dataplanev1.DestinationNat{{Name: "dns", Address: "10.96.0.10", Protocol: 17}}}, "destination_nats[0].port"},
		"a pod as NAT":     {&dataplanev1.Delta{Ports: []*dataplanev1.Port{{Name: "new", Kind: 1, Ifname: "e", Addresses: []string{"2001:db8::10"}}}}, "source_nats[0].addresses[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.delta.BaseRevision, tt.delta.Revision = 1, 2
			s, err := Merge(base, tt.delta)
			if err != nil {
				t.Fatal(err)
			}
			got, want := ValidateUpdate(base, s), Validate(s)
			if !alike(got, want) {
				t.Fatalf("update: %v\nwhole: %v", got, want)
			}
			if tt.field == "" && got != nil || tt.field != "" && (got == nil || !strings.Contains(got.Error(), tt.field+": ")) {
				t.Errorf("want %q: %v", tt.field, got)
			}
		})
	}
}

func TestShared(t *testing.T) {
	a, b, c, d := new(int), new(int), new(int), new(int)
	for _, tt := range []struct {
		base, next []*int
		want       []bool
	}{
		{nil, []*int{a}, []bool{false}},
		{[]*int{a, b, c}, []*int{a, b, c}, []bool{true, true, true}},
		{[]*int{a, b, c}, []*int{a, c}, []bool{true, true}},
		{[]*int{a, b, c}, []*int{a, d, c}, []bool{true, false, true}},
		{[]*int{a, b}, []*int{a, b, d}, []bool{true, true, false}},
		{[]*int{a, b}, []*int{d, b, a}, []bool{false, true, true}},
		{[]*int{a, b}, []*int{b, a, a}, []bool{true, true, false}},
		{[]*int{a}, nil, nil},
	} {
		same := shared(tt.base, tt.next)
		for i, want := range tt.want {
			if same(i) != want {
				t.Errorf("%v to %v: element %d", tt.base, tt.next, i)
			}
		}
	}
}

// alike tells whether two validations have found the same, in whatever order.
func alike(a, b error) bool {
	var x, y *ValidationError
	if !errors.As(a, &x) || !errors.As(b, &y) {
		return a == nil && b == nil
	}
	return len(x.Violations) == len(y.Violations) && x.More == y.More
}
