// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"time"

	"github.com/gaissmai/bart"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/rules"
)

// Tables are a configuration as workers use it: immutable, replaced whole. No
// method allocates.
type Tables struct {
	Generation uint32
	Settings   Settings

	ports  []*Port // by number
	byName map[string]*Port
	routes bart.Fast[uint32]
	owners map[packet.Addr]uint32 // pods' own addresses
	dnat   map[service]*DestinationNAT
	snat   []*SourceNAT
	sets   map[string]*rules.Set
}

// Settings are the snapshot's, with defaults filled in.
type Settings struct {
	RouterIPv4, RouterIPv6 packet.Addr // zero: none
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

// Port is a port as the stages see it.
type Port struct {
	ID   uint32
	Name string
	Pod  bool // else the host's
	MTU  int
	// Ingress and Egress rules; nil: open.
	Ingress, Egress *rules.List
	addrs           []packet.Addr
}

// Owns tells whether an address is one of the port's own.
func (p *Port) Owns(a packet.Addr) bool {
	for _, own := range p.addrs {
		if own == a {
			return true
		}
	}
	return false
}

// Port by number, nil if the configuration has none.
func (t *Tables) Port(id uint32) *Port {
	if id < uint32(len(t.ports)) {
		return t.ports[id]
	}
	return nil
}

// PortByName finds a port, nil if there is none with a knet.
func (t *Tables) PortByName(name string) *Port { return t.byName[name] }

// Route is the port that the longest matching prefix leads to.
func (t *Tables) Route(a packet.Addr) (uint32, bool) {
	id, ok := t.routes.Lookup(a.Netip())
	return id, ok && id != 0
}

// OwnerOf is the pod's port that owns an address.
func (t *Tables) OwnerOf(a packet.Addr) (uint32, bool) {
	id, ok := t.owners[a]
	return id, ok
}

type service struct {
	addr  packet.Addr
	port  uint16
	proto uint8
}

// DestinationNAT is a service address.
type DestinationNAT struct {
	Name     string
	Backends []Backend
	Affinity bool // a client's connections go to the same backend
}

// Backend of a service.
type Backend struct {
	Addr   packet.Addr
	Port   uint16
	Weight int
}

// DestinationNAT of a destination, nil if it is not a service.
func (t *Tables) DestinationNAT(dst packet.Addr, proto uint8, port uint16) *DestinationNAT {
	if len(t.dnat) == 0 {
		return nil
	}
	return t.dnat[service{dst, port, proto}]
}

// SourceNAT is a rule that gives connections another source.
type SourceNAT struct {
	Name                string
	Addresses           []packet.Addr // of the source's family
	FirstPort, LastPort uint16

	source  netip.Prefix
	except  []netip.Prefix
	outPort uint32 // 0: any
}

// SourceNAT that applies to a connection, nil if none does.
func (t *Tables) SourceNAT(src, dst packet.Addr, out uint32) *SourceNAT {
	if len(t.snat) == 0 {
		return nil
	}
	s, d := src.Netip(), dst.Netip()
rules:
	for _, n := range t.snat {
		if n.outPort != 0 && n.outPort != out || !n.source.Contains(s) {
			continue
		}
		for _, e := range n.except {
			if e.Contains(d) {
				continue rules
			}
		}
		return n
	}
	return nil
}

func orSeconds(v, def uint32) uint32 {
	if v == 0 {
		v = def
	}
	return min(v, 1<<20) * 1000
}

func buildSettings(s *dataplanev1.Settings) Settings {
	to := s.GetTimeouts()
	set := Settings{
		MaxConnectionsPerPort: int(s.GetMaxConnectionsPerPort()),
		Timeouts: conntrack.Timeouts{
			TCPEstablished: orSeconds(to.GetTcpEstablished(), 7200),
			TCPOpening:     orSeconds(to.GetTcpOpening(), 30),
			TCPClosing:     orSeconds(to.GetTcpClosing(), 30),
			UDP:            orSeconds(to.GetUdp(), 30),
			UDPStream:      orSeconds(to.GetUdpStream(), 120),
			ICMP:           orSeconds(to.GetIcmp(), 30),
			Other:          orSeconds(to.GetOther(), 120),
		},
		FragmentTimeout: time.Duration(orSeconds(to.GetFragment(), 10)) * time.Millisecond,
	}
	if set.MaxConnectionsPerPort == 0 {
		set.MaxConnectionsPerPort = 65536
	}
	if a, err := netip.ParseAddr(s.GetIpv4()); err == nil {
		set.RouterIPv4 = packet.AddrFrom(a)
	}
	if a, err := netip.ParseAddr(s.GetIpv6()); err == nil {
		set.RouterIPv6 = packet.AddrFrom(a)
	}
	return set
}
