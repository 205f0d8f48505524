// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func (v *validator) ports(base, s *dataplanev1.Snapshot) {
	ports := s.GetPorts()
	if v.tooMany(func() string { return "ports" }, len(ports), MaxPorts) {
		return
	}
	known := shared(base.GetPorts(), ports)
	x := newPortIndex(s, known)
	v.portNames, v.owners = x.names, x.owners
	needPolicies := lostPolicies(base, v.policyNames)
	// What is new goes first into the index, so that the rest, which is known to
	// be without duplicates, need not.
	for i, p := range ports {
		if !known(i) {
			v.port(i, p)
			v.newPort(x, i, p)
		}
	}
	for i, p := range ports {
		if known(i) {
			v.knownPort(x, i, p)
		}
		if !known(i) || needPolicies {
			for j, name := range p.GetPolicies() {
				if _, ok := v.policyNames[name]; !ok {
					v.errors.add(place("ports[%d].policies[%d]", i, j), "there is no policy %s; add it before or with the port", quote(name))
				}
			}
		}
	}
}

// lostPolicies tells whether the base has a policy that is no more.
func lostPolicies(base *dataplanev1.Snapshot, now map[string]int) bool {
	for _, p := range base.GetPolicies() {
		if _, ok := now[p.GetName()]; !ok {
			return true
		}
	}
	return false
}

// portIndex finds ports by what must be unique and by what others refer to. Of
// ports that are known to be valid it takes up only what somebody asks for: of
// ten thousand ports and one new one that is little.
type portIndex struct {
	names      map[string]int
	owners     map[packet.Addr]owner
	interfaces map[inside]int
	askedNames map[string]struct{}
	askedAddrs map[packet.Addr]struct{}
}

type inside struct{ netns, ifname string }

func newPortIndex(s *dataplanev1.Snapshot, known func(int) bool) *portIndex {
	fresh := 0
	for i := range s.GetPorts() {
		if !known(i) {
			fresh++
		}
	}
	x := &portIndex{
		names: make(map[string]int, fresh), owners: make(map[packet.Addr]owner, 2*fresh), interfaces: make(map[inside]int, fresh),
		askedNames: map[string]struct{}{}, askedAddrs: map[packet.Addr]struct{}{},
	}
	ask := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil {
			x.askedAddrs[packet.AddrFrom(a)] = struct{}{}
		}
	}
	ask(s.GetSettings().GetIpv4())
	ask(s.GetSettings().GetIpv6())
	ask(s.GetSettings().GetServiceIpv4())
	ask(s.GetSettings().GetServiceIpv6())
	for _, r := range s.GetRoutes() {
		x.askedNames[r.GetPort()] = struct{}{}
	}
	x.askedNames[s.GetSettings().GetVxlan().GetPort()] = struct{}{}
	for _, n := range s.GetSourceNats() {
		x.askedNames[n.GetOutPort()] = struct{}{}
		for _, a := range n.GetAddresses() {
			ask(a)
		}
	}
	return x
}

// newPort takes up a port, and checks that no other new one is like it.
func (v *validator) newPort(x *portIndex, i int, p *dataplanev1.Port) {
	v.name("ports", i, p.GetName(), x.names)
	at := inside{p.GetNetns(), p.GetIfname()}
	if first, ok := x.interfaces[at]; ok {
		v.sameInterface(i, first, at)
	} else if p.GetKind() != dataplanev1.Port_TUNNEL {
		x.interfaces[at] = i
	}
	for j, s := range p.GetAddresses() {
		a, why := parseAddr(s)
		if why == "" && a.Is6() && a.IsLinkLocalUnicast() && p.GetKind() == dataplanev1.Port_POD {
			why = "is link-local and cannot be routed to a pod; leave it out"
		}
		if why != "" {
			v.errors.add(place("ports[%d].addresses[%d]", i, j), "%s %s", quote(s), why)
			continue
		}
		key := packet.AddrFrom(a)
		if first, ok := x.owners[key]; ok {
			v.sameAddress(i, j, s, first.port)
			continue
		}
		x.owners[key] = owner{i, j, p.GetKind() == dataplanev1.Port_POD}
	}
}

// knownPort checks that no new port is like a port of the base, and takes up
// what is asked for.
func (v *validator) knownPort(x *portIndex, i int, p *dataplanev1.Port) {
	name := p.GetName()
	if other, ok := x.names[name]; ok {
		v.errors.add(place("ports[%d].name", max(i, other)), "%s is also the name of ports[%d]; give each a name of its own", quote(name), min(i, other))
	} else if _, ok := x.askedNames[name]; ok {
		x.names[name] = i
	}
	at := inside{p.GetNetns(), p.GetIfname()}
	if other, ok := x.interfaces[at]; ok && p.GetKind() != dataplanev1.Port_TUNNEL {
		v.sameInterface(max(i, other), min(i, other), at)
	}
	for j, s := range p.GetAddresses() {
		a, err := netip.ParseAddr(s)
		if err != nil {
			continue
		}
		key := packet.AddrFrom(a)
		if other, ok := x.owners[key]; ok {
			if other.port > i {
				v.sameAddress(other.port, other.address, s, i)
			} else {
				v.sameAddress(i, j, s, other.port)
			}
		} else if _, ok := x.askedAddrs[key]; ok {
			x.owners[key] = owner{i, j, p.GetKind() == dataplanev1.Port_POD}
		}
	}
}

func (v *validator) sameInterface(i, first int, at inside) {
	v.errors.add(place("ports[%d].ifname", i), "%s is also the interface of ports[%d] in the same network namespace; use another name", quote(at.ifname), first)
}

func (v *validator) sameAddress(i, j int, s string, first int) {
	v.errors.add(place("ports[%d].addresses[%d]", i, j), "%s is an address of ports[%d] already; an address belongs to one port", quote(s), first)
}

// port checks what concerns the port alone.
func (v *validator) port(i int, p *dataplanev1.Port) {
	field := func(name string) string { return place("ports[%d].%s", i, name) }
	v.known(place("ports[%d]", i), p)
	switch p.GetKind() {
	case dataplanev1.Port_POD:
	case dataplanev1.Port_HOST:
		if len(p.GetPolicies()) > 0 {
			v.errors.add(field("policies"), "policies apply to pods and this is the host's port; leave them out")
		}
	case dataplanev1.Port_UPLINK:
		v.uplink(i, p)
	case dataplanev1.Port_TUNNEL:
		v.tunnel(i, p)
	default:
		v.errors.add(field("kind"), "%d is not a kind of port; expected POD (%d), HOST (%d), UPLINK (%d) or TUNNEL (%d)", p.GetKind(),
			dataplanev1.Port_POD, dataplanev1.Port_HOST, dataplanev1.Port_UPLINK, dataplanev1.Port_TUNNEL)
	}
	if p.GetRemote() != "" && p.GetKind() != dataplanev1.Port_TUNNEL {
		v.errors.add(field("remote"), "only a TUNNEL has another end; leave it out")
	}
	if len(p.GetSteer()) > 0 && p.GetKind() != dataplanev1.Port_UPLINK {
		v.errors.add(field("steer"), "only an UPLINK is steered, all packets from a knet are the forwarder's; leave it out")
	}
	if why := badInterfaceName(p.GetIfname()); why != "" && p.GetKind() != dataplanev1.Port_TUNNEL {
		v.errors.add(field("ifname"), "%s %s", quote(p.GetIfname()), why)
	}
	if why := badNetNS(p.GetNetns()); why != "" {
		v.errors.add(field("netns"), "%s %s", quote(p.GetNetns()), why)
	}
	v.tooMany(func() string { return field("addresses") }, len(p.GetAddresses()), MaxPortAddresses)
	v.tooMany(func() string { return field("policies") }, len(p.GetPolicies()), MaxPortPolicies)
	v.tooMany(func() string { return field("tags") }, len(p.GetTags()), MaxTags)
	if mtu := p.GetMtu(); mtu != 0 {
		least := uint32(MinMTU)
		if hasIPv6(p.GetAddresses()) {
			least = MinMTU6
		}
		if mtu < least || mtu > MaxMTU {
			v.errors.add(field("mtu"), "%d is not possible; expected %d to %d (%d at least with IPv6 addresses), or 0 for %d", mtu, MinMTU, MaxMTU, MinMTU6, defaultMTU)
		}
	}
	if p.GetNbufQuota() > MaxPorts {
		v.errors.add(field("nbuf_quota"), "%d is more nbufs than a device can have; use 0 for the default", p.GetNbufQuota())
	}
	named := make(map[string]int, len(p.GetPolicies()))
	for j, name := range p.GetPolicies() {
		if first, ok := named[name]; ok {
			v.errors.add(place("ports[%d].policies[%d]", i, j), "%s is named at policies[%d] already; name it once", quote(name), first)
		} else {
			named[name] = j
		}
	}
	for k, value := range p.GetTags() {
		if why := badName(k); why != "" {
			v.errors.add(field("tags"), "key %s %s", quote(k), why)
		}
		if len(value) > MaxTagLength || !utf8.ValidString(value) {
			v.errors.add(field("tags"), "value of %s is not UTF-8 of at most %d bytes", quote(k), MaxTagLength)
		}
	}
}

// uplink checks what concerns a NIC.
func (v *validator) uplink(i int, p *dataplanev1.Port) {
	field := func(name string) string { return place("ports[%d].%s", i, name) }
	if len(p.GetPolicies()) > 0 {
		v.errors.add(field("policies"), "policies apply to pods and this is an uplink; leave them out")
	}
	if len(p.GetAddresses()) > 0 {
		v.errors.add(field("addresses"), "an uplink has no addresses; name what it receives in steer, and what is behind it in routes")
	}
	if p.GetNetns() != "" {
		v.errors.add(field("netns"), "an uplink is in the forwarder's own network namespace; leave it out")
	}
	if v.tooMany(func() string { return field("steer") }, len(p.GetSteer()), MaxPortSteer) {
		return
	}
	seen := make(map[netip.Prefix]int, len(p.GetSteer()))
	for j, s := range p.GetSteer() {
		prefix, why := parsePrefix(s)
		if why == "" && !steerable(prefix) {
			why = "is multicast, broadcast, loopback or link-local, which the host receives always; leave it out"
		}
		if first, ok := seen[prefix]; ok && why == "" {
			why = fmt.Sprintf("is at steer[%d] already; name it once", first)
		}
		if why != "" {
			v.errors.add(place("ports[%d].steer[%d]", i, j), "%s %s", quote(s), why)
			continue
		}
		seen[prefix] = j
	}
}

// steerable tells whether a device can give packets to the prefix to a port.
func steerable(p netip.Prefix) bool {
	a := p.Addr()
	return p.Bits() == 0 || !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func hasIPv6(addresses []string) bool {
	for _, s := range addresses {
		if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
			return true
		}
	}
	return false
}

// badInterfaceName says why the kernel would refuse a name, or take it for a
// pattern (dev_valid_name and dev_alloc_name in net/core/dev.c).
func badInterfaceName(s string) string {
	switch {
	case s == "" || len(s) > maxInterfaceNameLen:
		return "is not 1 to 15 bytes long"
	case s == "." || s == "..":
		return "is not an interface name"
	case !utf8.ValidString(s):
		return "is not UTF-8"
	case strings.ContainsAny(s, "/:%") || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return "has a slash, colon, percent sign, space or control character; leave them out"
	}
	return ""
}

func badNetNS(s string) string {
	switch {
	case s == "":
		return ""
	case len(s) > maxNetNSPathLen || strings.ContainsRune(s, 0) || !utf8.ValidString(s):
		return "is not a path"
	case !filepath.IsAbs(s):
		return "is not an absolute path; expected one such as /run/netns/name"
	}
	return ""
}

func (v *validator) routes(routes []*dataplanev1.Route) {
	if v.tooMany(func() string { return "routes" }, len(routes), MaxRoutes) {
		return
	}
	seen := make(map[netip.Prefix]int, len(routes))
	for i, r := range routes {
		v.known(place("routes[%d]", i), r)
		p, why := parsePrefix(r.GetPrefix())
		if why != "" {
			v.errors.add(place("routes[%d].prefix", i), "%s %s", quote(r.GetPrefix()), why)
		} else if first, ok := seen[p]; ok {
			v.errors.add(place("routes[%d].prefix", i), "%s is also the prefix of routes[%d]; a prefix has one route", quote(r.GetPrefix()), first)
		} else {
			seen[p] = i
		}
		if _, ok := v.portNames[r.GetPort()]; !ok && r.GetPort() != "" {
			v.errors.add(place("routes[%d].port", i), "there is no port %s; add it before or with the route, or leave it empty for an unreachable destination", quote(r.GetPort()))
		}
	}
}
