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
	if a, err := netip.ParseAddr(s.GetIpv4()); err == nil {
		set.RouterIPv4 = packet.AddrFrom(a)
	}
	if a, err := netip.ParseAddr(s.GetIpv6()); err == nil {
		set.RouterIPv6 = packet.AddrFrom(a)
	}
	return set
}
