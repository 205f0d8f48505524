// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/rules"
)

// Build compiles a snapshot that Validate has passed. ids are the device's port
// numbers by name; a port without one (its knet could not be made) is left out, and
// so is what leads to it. prev are the tables before, whose unchanged parts are
// used again; nil for none.
func Build(s *dataplanev1.Snapshot, ids map[string]uint32, prev *Tables, generation uint32) *Tables {
	t := &Tables{
		Generation: generation,
		Settings:   buildSettings(s.GetSettings()),
		byName:     make(map[string]*Port, len(s.GetPorts())),
		owners:     make(map[packet.Addr]uint32, 2*len(s.GetPorts())),
		dnat:       make(map[service]*DestinationNAT, len(s.GetDestinationNats())),
		sets:       make(map[string]*rules.Set, len(s.GetAddressSets())),
	}
	for _, a := range s.GetAddressSets() {
		t.sets[a.GetName()] = rules.NewSet(a.GetName(), prefixes(a.GetPrefixes()), prefixes(a.GetExcept()))
	}
	policies := make(map[string]rules.Policy, len(s.GetPolicies()))
	for _, p := range s.GetPolicies() {
		policies[p.GetName()] = rules.Policy{Policy: p, Sets: t.sets}
	}
	for _, p := range s.GetPorts() {
		if id := ids[p.GetName()]; id != 0 {
			t.addPort(p, id, policies)
		}
	}
	for _, r := range s.GetRoutes() {
		id := uint32(0) // unreachable
		if p := t.byName[r.GetPort()]; p != nil {
			id = p.ID
		}
		for _, p := range prefixes([]string{r.GetPrefix()}) {
			t.routes.Insert(p, id)
		}
	}
	for _, p := range t.byName {
		for _, a := range p.addrs {
			ip := a.Netip()
			t.routes.Insert(netip.PrefixFrom(ip, ip.BitLen()), p.ID)
		}
	}
	for _, n := range s.GetDestinationNats() {
		t.addDestinationNAT(n)
	}
	for _, n := range s.GetSourceNats() {
		t.addSourceNAT(n)
	}
	return t
}

func (t *Tables) addPort(p *dataplanev1.Port, id uint32, policies map[string]rules.Policy) {
	port := &Port{ID: id, Name: p.GetName(), Pod: p.GetKind() == dataplanev1.Port_POD, MTU: int(cmp.Or(p.GetMtu(), 1500))}
	for _, a := range p.GetAddresses() {
		if ip, err := netip.ParseAddr(a); err == nil {
			port.addrs = append(port.addrs, packet.AddrFrom(ip))
		}
	}
	var list []rules.Policy
	for _, name := range p.GetPolicies() {
		list = append(list, policies[name])
	}
	port.Ingress, port.Egress = rules.Compile(list, true), rules.Compile(list, false)
	if int(id) >= len(t.ports) {
		t.ports = append(t.ports, make([]*Port, int(id)+1-len(t.ports))...)
	}
	t.ports[id] = port
	t.byName[port.Name] = port
	if port.Pod {
		for _, a := range port.addrs {
			t.owners[a] = id
		}
	}
}

func (t *Tables) addDestinationNAT(n *dataplanev1.DestinationNat) {
	addr, err := netip.ParseAddr(n.GetAddress())
	if err != nil {
		return
	}
	d := &DestinationNAT{Name: n.GetName(), Affinity: n.GetAffinitySeconds() > 0}
	for _, b := range n.GetBackends() {
		if a, err := netip.ParseAddr(b.GetAddress()); err == nil {
			d.Backends = append(d.Backends, Backend{Addr: packet.AddrFrom(a), Port: uint16(b.GetPort()), Weight: int(max(b.GetWeight(), 1))})
		}
	}
	t.dnat[service{packet.AddrFrom(addr), uint16(n.GetPort()), uint8(n.GetProtocol())}] = d
}

func (t *Tables) addSourceNAT(n *dataplanev1.SourceNat) {
	source, err := netip.ParsePrefix(n.GetSource())
	if err != nil {
		return
	}
	d := &SourceNAT{
		Name: n.GetName(), source: source, except: prefixes(n.GetDestinationsExcept()),
		FirstPort: uint16(cmp.Or(n.GetFirstPort(), 1024)), LastPort: uint16(cmp.Or(n.GetLastPort(), 65535)),
	}
	if n.GetOutPort() != "" {
		p := t.byName[n.GetOutPort()]
		if p == nil {
			return
		}
		d.outPort = p.ID
	}
	for _, s := range n.GetAddresses() {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() == source.Addr().Is4() {
			d.Addresses = append(d.Addresses, packet.AddrFrom(a))
		}
	}
	if len(d.Addresses) > 0 {
		t.snat = append(t.snat, d)
	}
}

// prefixes parses prefixes and plain addresses; Validate has seen that they
// are good.
func prefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		} else if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}
