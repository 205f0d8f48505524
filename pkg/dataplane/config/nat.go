// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
	"time"

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
	Name string
	Choice
	// External is for connections from outside, nil: they have the same choice.
	External *Choice
	// Affinity is how long after its last connection a client keeps its backend, 0:
	// it does not.
	Affinity time.Duration

	sources []netip.Prefix // none: everywhere
	config  *dataplanev1.DestinationNat
}

// Takes tells whether connections may come from an address.
func (n *DestinationNAT) Takes(src packet.Addr) bool {
	if len(n.sources) == 0 {
		return true
	}
	a := src.Netip()
	return slices.ContainsFunc(n.sources, func(p netip.Prefix) bool { return p.Contains(a) })
}

// DestinationNAT of a destination, nil if it is not a service.
func (t *Tables) DestinationNAT(dst packet.Addr, proto uint8, port uint16) *DestinationNAT {
	if len(t.dnat) == 0 {
		return nil
	}
	return t.dnat[service{dst, port, proto}]
}

// IsService tells whether an address is the services' alone.
func (t *Tables) IsService(a packet.Addr) bool {
	alone, ok := t.services[a]
	return ok && alone
}

func (t *Tables) buildDestinationNATs(prev *Tables) {
	list := t.snapshot.GetDestinationNats()
	if sameSlice(list, prev.snapshot.GetDestinationNats()) && (prev.dnat != nil || len(list) == 0) {
		t.dnat, t.services = prev.dnat, prev.services
		return
	}
	t.dnat = make(map[service]*DestinationNAT, len(list))
	t.services = make(map[packet.Addr]bool, len(list))
	for _, n := range list {
		addr, err := netip.ParseAddr(n.GetAddress())
		if err != nil {
			continue // Validate has refused it
		}
		key := service{packet.AddrFrom(addr), uint16(n.GetPort()), uint8(n.GetProtocol())}
		alone, more := t.services[key.addr]
		t.services[key.addr] = !n.GetShared() && (alone || !more)
		if old := prev.dnat[key]; old != nil && old.config == n {
			t.dnat[key] = old
		} else {
			t.dnat[key] = newDestinationNAT(n)
		}
	}
}

func newDestinationNAT(n *dataplanev1.DestinationNat) *DestinationNAT {
	d := &DestinationNAT{
		Name: n.GetName(), Choice: newChoice(n.GetBackends(), n.GetSilent()),
		Affinity: time.Duration(n.GetAffinitySeconds()) * time.Second, sources: prefixes(n.GetSources()), config: n,
	}
	if e := n.GetExternal(); e != nil {
		c := newChoice(e.GetBackends(), e.GetSilent())
		d.External = &c
	}
	return d
}

func newChoice(list []*dataplanev1.Backend, silent bool) Choice {
	var backends []Backend
	for _, b := range list {
		if a, err := netip.ParseAddr(b.GetAddress()); err == nil {
			backends = append(backends, Backend{packet.AddrFrom(a), uint16(b.GetPort()), int(max(b.GetWeight(), 1))})
		}
	}
	return NewChoice(backends, silent)
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
