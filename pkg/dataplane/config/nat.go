// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// service is what a destination NAT is found by.
type service struct {
	addr  packet.Addr
	port  uint16
	proto uint8
}

// DestinationNAT is a service address.
type DestinationNAT struct {
	Name     string
	Backends []Backend // none: connections are refused
	Affinity bool      // a client's connections go to the same backend

	config *dataplanev1.DestinationNat
}

// Backend of a service.
type Backend struct {
	Addr   packet.Addr
	Port   uint16
	Weight int // 1 to MaxBackendWeight
}

// DestinationNAT of a destination, nil if it is not a service.
func (t *Tables) DestinationNAT(dst packet.Addr, proto uint8, port uint16) *DestinationNAT {
	if len(t.dnat) == 0 {
		return nil
	}
	return t.dnat[service{dst, port, proto}]
}

func (t *Tables) buildDestinationNATs(prev *Tables) {
	list := t.snapshot.GetDestinationNats()
	if sameSlice(list, prev.snapshot.GetDestinationNats()) && (prev.dnat != nil || len(list) == 0) {
		t.dnat = prev.dnat
		return
	}
	t.dnat = make(map[service]*DestinationNAT, len(list))
	for _, n := range list {
		addr, err := netip.ParseAddr(n.GetAddress())
		if err != nil {
			continue // Validate has refused it
		}
		key := service{packet.AddrFrom(addr), uint16(n.GetPort()), uint8(n.GetProtocol())}
		if old := prev.dnat[key]; old != nil && old.config == n {
			t.dnat[key] = old
		} else {
			t.dnat[key] = newDestinationNAT(n)
		}
	}
}

func newDestinationNAT(n *dataplanev1.DestinationNat) *DestinationNAT {
	d := &DestinationNAT{Name: n.GetName(), Affinity: n.GetAffinitySeconds() > 0, config: n}
	for _, b := range n.GetBackends() {
		if a, err := netip.ParseAddr(b.GetAddress()); err == nil {
			d.Backends = append(d.Backends, Backend{packet.AddrFrom(a), uint16(b.GetPort()), int(max(b.GetWeight(), 1))})
		}
	}
	return d
}

// SourceNAT is a rule that gives connections another source.
type SourceNAT struct {
	Name                string
	Addresses           []packet.Addr // of the source's family, at least one
	FirstPort, LastPort uint16

	source  netip.Prefix
	except  []netip.Prefix
	outPort uint32 // 0: any
}

// SourceNAT is the first rule that applies to a connection from src to dst that
// leaves by port out, nil if none does.
func (t *Tables) SourceNAT(src, dst packet.Addr, out uint32) *SourceNAT {
	if len(t.snat) == 0 {
		return nil
	}
	s, d := src.Netip(), dst.Netip()
	for _, n := range t.snat {
		if n.applies(s, d, out) {
			return n
		}
	}
	return nil
}

func (n *SourceNAT) applies(src, dst netip.Addr, out uint32) bool {
	if n.outPort != 0 && n.outPort != out || !n.source.Contains(src) {
		return false
	}
	for _, e := range n.except {
		if e.Contains(dst) {
			return false
		}
	}
	return true
}

// buildSourceNATs compiles all of them: there are few.
func (t *Tables) buildSourceNATs() {
	for _, n := range t.snapshot.GetSourceNats() {
		source, why := parsePrefix(n.GetSource())
		if why != "" {
			continue // Validate has refused it
		}
		first, last := natRange(n)
		d := &SourceNAT{
			Name: n.GetName(), source: source, except: prefixes(n.GetDestinationsExcept()),
			FirstPort: uint16(first), LastPort: uint16(last),
		}
		if n.GetOutPort() != "" {
			p := t.byName[n.GetOutPort()]
			if p == nil {
				continue // nothing leaves by it
			}
			d.outPort = p.ID
		}
		for _, s := range n.GetAddresses() {
			if a, err := netip.ParseAddr(s); err == nil && a.Is4() == source.Addr().Is4() {
				d.Addresses = append(d.Addresses, packet.AddrFrom(a))
			}
		}
		t.snat = append(t.snat, d)
	}
}
