// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func (v *validator) sourceNats(nats []*dataplanev1.SourceNat, known func(int) bool) {
	if v.tooMany(func() string { return "source_nats" }, len(nats), MaxSourceNats) {
		return
	}
	names := make(map[string]int, len(nats))
	for i, n := range nats {
		v.name("source_nats", i, n.GetName(), names)
		if _, ok := v.portNames[n.GetOutPort()]; !ok && n.GetOutPort() != "" {
			v.errors.add(place("source_nats[%d].out_port", i), "there is no port %s; add it before or with the rule, or leave it empty for any port", quote(n.GetOutPort()))
		}
		for j, s := range n.GetAddresses() {
			if a, err := netip.ParseAddr(s); err == nil {
				if o, ok := v.owners[packet.AddrFrom(a)]; ok && o.pod {
					v.errors.add(place("source_nats[%d].addresses[%d]", i, j), "%s is an address of pod ports[%d], which would get the answers; use an address of the host or of its own", quote(s), o.port)
				}
			}
		}
		if !known(i) {
			v.sourceNat(i, n)
		}
	}
}

func (v *validator) sourceNat(i int, n *dataplanev1.SourceNat) {
	field := func(name string) string { return place("source_nats[%d].%s", i, name) }
	v.known(place("source_nats[%d]", i), n)
	source, why := parsePrefix(n.GetSource())
	if why != "" {
		v.errors.add(field("source"), "%s %s", quote(n.GetSource()), why)
	}
	if !v.tooMany(func() string { return field("destinations_except") }, len(n.GetDestinationsExcept()), MaxNatExceptions) {
		v.prefixes(func(j int) string { return place("source_nats[%d].destinations_except[%d]", i, j) }, n.GetDestinationsExcept())
	}
	v.tooMany(func() string { return field("addresses") }, len(n.GetAddresses()), MaxNatAddresses)
	usable := 0
	seen := make(map[netip.Addr]int, len(n.GetAddresses()))
	for j, s := range n.GetAddresses() {
		a, bad := parseAddr(s)
		if bad != "" {
			v.errors.add(place("source_nats[%d].addresses[%d]", i, j), "%s %s", quote(s), bad)
			continue
		}
		if first, ok := seen[a]; ok {
			v.errors.add(place("source_nats[%d].addresses[%d]", i, j), "%s is in the list at [%d] already; name it once", quote(s), first)
			continue
		}
		seen[a] = j
		if a.Is4() == source.Addr().Is4() {
			usable++
		}
	}
	if usable == 0 && why == "" {
		v.errors.add(field("addresses"), "has no address of the family of source %s; add one", quote(n.GetSource()))
	}
	first, last := natRange(n)
	if first > maxPortNumber || last > maxPortNumber || first > last {
		v.errors.add(field("last_port"), "%d to %d is not a range of ports; expected 1 to 65535, or 0 for %d and %d", first, last, defaultNatFirstPort, defaultNatLastPort)
	}
}

// natRange is a source NAT's range of ports, defaults filled in.
func natRange(n *dataplanev1.SourceNat) (first, last uint32) {
	first, last = n.GetFirstPort(), n.GetLastPort()
	if first == 0 {
		first = defaultNatFirstPort
	}
	if last == 0 {
		last = defaultNatLastPort
	}
	return first, last
}

func (v *validator) destinationNats(nats []*dataplanev1.DestinationNat, known func(int) bool) {
	if v.tooMany(func() string { return "destination_nats" }, len(nats), MaxDestinationNats) {
		return
	}
	type service struct {
		addr  netip.Addr
		proto uint32
		port  uint32
	}
	names := make(map[string]int, len(nats))
	services := make(map[service]int, len(nats))
	for i, n := range nats {
		v.name("destination_nats", i, n.GetName(), names)
		if !known(i) {
			v.destinationNat(i, n)
		}
		if a, err := netip.ParseAddr(n.GetAddress()); err == nil {
			key := service{a, n.GetProtocol(), n.GetPort()}
			if first, ok := services[key]; ok {
				v.errors.add(place("destination_nats[%d]", i), "%s port %d protocol %d is also destination_nats[%d]; join their backends", a, n.GetPort(), n.GetProtocol(), first)
			} else {
				services[key] = i
			}
		}
	}
}

func (v *validator) destinationNat(i int, n *dataplanev1.DestinationNat) {
	field := func(name string) string { return place("destination_nats[%d].%s", i, name) }
	v.known(place("destination_nats[%d]", i), n)
	addr, bad := parseAddr(n.GetAddress())
	if bad != "" {
		v.errors.add(field("address"), "%s %s", quote(n.GetAddress()), bad)
	}
	if n.GetProtocol() > maxProtocol || !packet.HasPorts(uint8(n.GetProtocol())) {
		v.errors.add(field("protocol"), "%d has no ports; expected 6 (TCP), 17 (UDP) or 132 (SCTP)", n.GetProtocol())
	}
	if n.GetPort() == 0 || n.GetPort() > maxPortNumber {
		v.errors.add(field("port"), "%d is not a port; expected 1 to 65535", n.GetPort())
	}
	if n.GetAffinitySeconds() > MaxAffinitySeconds {
		v.errors.add(field("affinity_seconds"), "%d is more than %d; use 0 for no affinity", n.GetAffinitySeconds(), MaxAffinitySeconds)
	}
	if !v.tooMany(func() string { return field("sources") }, len(n.GetSources()), MaxNatExceptions) {
		v.prefixes(func(j int) string { return place("destination_nats[%d].sources[%d]", i, j) }, n.GetSources())
	}
	service := netip.Addr{}
	if bad == "" {
		service = addr
	}
	v.backends(field("backends"), service, n.GetBackends())
	if e := n.GetExternal(); e != nil {
		v.known(field("external"), e)
		v.backends(field("external.backends"), service, e.GetBackends())
	}
}

// backends checks those of a service; its address is zero if that is wrong itself.
func (v *validator) backends(list string, service netip.Addr, backends []*dataplanev1.Backend) {
	if v.tooMany(func() string { return list }, len(backends), MaxBackends) {
		return
	}
	seen := make(map[netip.AddrPort]int, len(backends))
	for j, b := range backends {
		at := func(name string) string { return place("%s[%d]%s", list, j, name) }
		if b == nil {
			v.errors.add(at(""), "is empty; expected an address and a port")
			continue
		}
		v.known(at(""), b)
		a, why := parseAddr(b.GetAddress())
		switch {
		case why != "":
			v.errors.add(at(".address"), "%s %s", quote(b.GetAddress()), why)
		case service.IsValid() && a.Is4() != service.Is4():
			v.errors.add(at(".address"), "%s is of another family than the service's %s; addresses are not translated between families", quote(b.GetAddress()), service)
		}
		if b.GetPort() == 0 || b.GetPort() > maxPortNumber {
			v.errors.add(at(".port"), "%d is not a port; expected 1 to 65535", b.GetPort())
		}
		if b.GetWeight() > MaxBackendWeight {
			v.errors.add(at(".weight"), "%d is more than %d; weights are relative, scale them down", b.GetWeight(), MaxBackendWeight)
		}
		if why != "" {
			continue
		}
		key := netip.AddrPortFrom(a, uint16(b.GetPort()))
		if first, ok := seen[key]; ok {
			v.errors.add(at(""), "%s is backends[%d] already; give that one more weight", key, first)
		} else {
			seen[key] = j
		}
	}
}
