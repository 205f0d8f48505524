// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"net/netip"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Settings are the snapshot's, with defaults filled in.
type Settings struct {
	RouterIPv4, RouterIPv6 packet.Addr // zero: none
	MaxConnections         int
	MaxConnectionsPerPort  int
	Timeouts               conntrack.Timeouts
	FragmentTimeout        time.Duration
	// Sources of the host's connections to services; zero: none.
	serviceIPv4, serviceIPv6 packet.Addr
	hosts                    map[packet.Addr]struct{}
}

// ServiceSource is the source of connections to a service that come by the host's
// port and leave by it, zero if they keep their own.
func (s *Settings) ServiceSource(six bool) packet.Addr {
	if six {
		return s.serviceIPv6
	}
	return s.serviceIPv4
}

// IsHost tells whether an address is one of the host's own.
func (s *Settings) IsHost(a packet.Addr) bool {
	_, ok := s.hosts[a]
	return ok
}

// Router is the router's address of a family (packet.IPv4, IPv6), zero if it
// has none.
func (s *Settings) Router(family uint8) packet.Addr {
	if family == packet.IPv4 {
		return s.RouterIPv4
	}
	return s.RouterIPv6
}

func buildSettings(s *dataplanev1.Settings) Settings {
	to := s.GetTimeouts()
	ms := func(seconds, def uint32) uint32 { return cmp.Or(seconds, def) * 1000 } // at most MaxTimeoutSeconds: fits
	set := Settings{
		MaxConnections:        int(cmp.Or(s.GetMaxConnections(), defaultConnections)),
		MaxConnectionsPerPort: int(cmp.Or(s.GetMaxConnectionsPerPort(), defaultPortShare)),
		Timeouts: conntrack.Timeouts{
			TCPEstablished: ms(to.GetTcpEstablished(), defaultTCPEstab),
			TCPOpening:     ms(to.GetTcpOpening(), defaultTCPOpening),
			TCPClosing:     ms(to.GetTcpClosing(), defaultTCPClosing),
			UDP:            ms(to.GetUdp(), defaultUDP),
			UDPStream:      ms(to.GetUdpStream(), defaultUDPStream),
			ICMP:           ms(to.GetIcmp(), defaultICMP),
			Other:          ms(to.GetOther(), defaultOther),
		},
		FragmentTimeout: time.Duration(cmp.Or(to.GetFragment(), defaultFragment)) * time.Second,
	}
	for _, f := range []struct {
		text string
		addr *packet.Addr
	}{
		{s.GetIpv4(), &set.RouterIPv4}, {s.GetIpv6(), &set.RouterIPv6},
		{s.GetServiceIpv4(), &set.serviceIPv4}, {s.GetServiceIpv6(), &set.serviceIPv6},
	} {
		if a, err := netip.ParseAddr(f.text); err == nil {
			*f.addr = packet.AddrFrom(a)
		}
	}
	set.hosts = make(map[packet.Addr]struct{}, len(s.GetHostAddresses()))
	for _, text := range s.GetHostAddresses() {
		if a, err := netip.ParseAddr(text); err == nil {
			set.hosts[packet.AddrFrom(a)] = struct{}{}
		}
	}
	return set
}
