// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"net/netip"
	"slices"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/route"
)

// Build compiles a snapshot that Validate has passed. ids are the device's port
// numbers by name; a port without one (its knet could not be made) is left out, and
// routes to it are unreachable. prev are the tables before, nil for none: what
// is unchanged since then is used again, so that a small change of a large
// configuration costs milliseconds. prev stays as it is.
func Build(s *dataplanev1.Snapshot, ids map[string]uint32, prev *Tables, generation uint32) *Tables {
	if prev == nil {
		prev = &Tables{routes: route.Build(nil), snapshot: &dataplanev1.Snapshot{}}
	}
	t := &Tables{Generation: generation, Settings: buildSettings(s.GetSettings()), snapshot: s}
	t.buildSets(prev)
	t.buildPolicies(prev)
	t.buildVXLAN(ids)
	fresh := t.buildGroups(prev)
	change := t.buildPorts(ids, prev, fresh)
	t.buildRoutes(prev, change)
	t.buildDestinationNATs(prev)
	t.buildSourceNATs()
	return t
}

// hostRoutes are the changes of the ports' own addresses.
type hostRoutes struct {
	remove []netip.Prefix
	insert []route.Entry
}

// buildPorts makes the ports. fresh is what has become of the groups of prev.
func (t *Tables) buildPorts(ids map[string]uint32, prev *Tables, fresh map[*group]*group) hostRoutes {
	list := t.snapshot.GetPorts()
	t.ids = make([]uint32, len(list))
	most := uint32(0)
	for i, p := range list {
		t.ids[i] = ids[p.GetName()]
		most = max(most, t.ids[i])
	}
	t.ports = make([]*Port, most+1)
	var change hostRoutes
	kept := 0
	for i, p := range list {
		id := t.ids[i]
		if id == 0 {
			continue
		}
		old := prev.Port(id)
		switch {
		case old == nil || old.Name != p.GetName() || !samePort(old.config, p), p.GetKind() == dataplanev1.Port_TUNNEL && !t.sameTunnels(prev):
			t.ports[id] = t.newPort(p, id)
			if old == nil || old.Pod != t.ports[id].Pod || !slices.Equal(old.addrs, t.ports[id].addrs) {
				change.insert = append(change.insert, t.ports[id].hostRoutes()...)
			}
		case fresh[old.group] != old.group || old.config != p:
			next := *old
			next.config = p
			if g := fresh[old.group]; g != nil {
				next.join(g)
			} else {
				next.join(t.group(p.GetPolicies()))
			}
			t.ports[id] = &next
		default:
			t.ports[id] = old
			kept++
		}
	}
	for id, old := range prev.ports {
		if old == nil {
			continue
		}
		now := t.Port(uint32(id))
		for _, a := range old.addrs {
			if now == nil || !now.Owns(a) {
				change.remove = append(change.remove, hostPrefix(a))
			}
		}
	}
	if kept == len(list) && kept == len(prev.byName) {
		t.byName = prev.byName
		return change
	}
	t.byName = make(map[string]*Port, len(list))
	for _, p := range t.ports {
		if p != nil {
			t.byName[p.Name] = p
		}
	}
	return change
}

// samePort tells whether two messages make the same Port.
func samePort(a, b *dataplanev1.Port) bool {
	return a == b || a.GetName() == b.GetName() && a.GetKind() == b.GetKind() && a.GetMtu() == b.GetMtu() &&
		a.GetRemote() == b.GetRemote() && slices.Equal(a.GetAddresses(), b.GetAddresses()) && slices.Equal(a.GetPolicies(), b.GetPolicies())
}

func (t *Tables) newPort(p *dataplanev1.Port, id uint32) *Port {
	port := &Port{
		ID: id, Name: p.GetName(), Pod: p.GetKind() == dataplanev1.Port_POD, MTU: int(cmp.Or(p.GetMtu(), defaultMTU)),
		addrs: make([]packet.Addr, 0, len(p.GetAddresses())), config: p,
	}
	for _, s := range p.GetAddresses() {
		if a, err := netip.ParseAddr(s); err == nil {
			port.addrs = append(port.addrs, packet.AddrFrom(a))
		}
	}
	if p.GetKind() == dataplanev1.Port_TUNNEL {
		port.Tunnel = t.tunnel(p)
	}
	port.join(t.group(p.GetPolicies()))
	return port
}

func (p *Port) join(g *group) {
	p.group = g
	p.Ingress, p.Egress = g.ingress, g.egress
}

func (p *Port) hostRoutes() []route.Entry {
	out := make([]route.Entry, len(p.addrs))
	for i, a := range p.addrs {
		out[i] = route.Entry{Prefix: hostPrefix(a), Value: p.routeValue()}
	}
	return out
}

// routeValue is what the trie has for the port's own addresses.
func (p *Port) routeValue() uint32 {
	if p.Pod {
		return p.ID | isPods
	}
	return p.ID
}

func hostPrefix(a packet.Addr) netip.Prefix {
	ip := a.Netip()
	return netip.PrefixFrom(ip, ip.BitLen())
}
