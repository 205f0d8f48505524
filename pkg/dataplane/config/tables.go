// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/route"
	"netio.dev/netio/pkg/dataplane/rules"
)

// Tables are a configuration as workers use it: immutable, replaced whole, safe
// for concurrent use. No method but Match allocates.
type Tables struct {
	Generation uint32
	Settings   Settings
	// VXLAN is nil if there are no tunnels.
	VXLAN *VXLAN

	ports  []*Port // by number
	byName map[string]*Port
	// routes has the routes and, as host routes, the ports' own addresses. The
	// values are port numbers, 0 for unreachable, with isPods or'ed in.
	routes *route.Table
	dnat   map[service]*DestinationNAT
	// services are the addresses that dnat has, and whether they are its alone.
	services map[packet.Addr]bool
	snat     []*SourceNAT

	// What the next Build uses again.
	snapshot *dataplanev1.Snapshot
	ids      []uint32 // of snapshot.Ports, 0: left out
	via      []compiledRoute
	sets     map[string]*setEntry
	policies map[string]policyRef
	groups   map[string]*group
}

const (
	portMask = 1<<24 - 1
	isPods   = 1 << 31 // the prefix is an address of a pod
)

// Port is a port as the stages see it.
type Port struct {
	ID   uint32
	Name string
	Pod  bool // else the host's, or another node's
	MTU  int  // bytes
	// Tunnel is nil but for a port that is one.
	Tunnel *packet.VXLANHeader
	// Ingress and Egress rules; nil: open.
	Ingress, Egress *rules.List

	addrs  []packet.Addr
	config *dataplanev1.Port
	group  *group
}

// Owns tells whether an address is one of the port's own.
func (p *Port) Owns(a packet.Addr) bool { return slices.Contains(p.addrs, a) }

// Addresses are the port's own; they must not be changed.
func (p *Port) Addresses() []packet.Addr { return p.addrs }

// Remote is the address of a tunnel's other end, "" for any other port.
func (p *Port) Remote() string { return p.config.GetRemote() }

// Uplink tells whether the port is a NIC.
func (p *Port) Uplink() bool { return p.config.GetKind() == dataplanev1.Port_UPLINK }

// Port by number, nil if the configuration has none.
func (t *Tables) Port(id uint32) *Port {
	if id < uint32(len(t.ports)) {
		return t.ports[id]
	}
	return nil
}

// PortByName finds a port, nil if there is none with a knet.
func (t *Tables) PortByName(name string) *Port { return t.byName[name] }

// Route is the port that the longest matching prefix leads to. It is false if
// there is none, or if it says unreachable.
func (t *Tables) Route(a packet.Addr) (uint32, bool) {
	v, _ := t.routes.Lookup(a)
	id := v & portMask
	return id, id != 0
}

// Match is the prefix by which Route finds its answer, for showing to people.
func (t *Tables) Match(a packet.Addr) (netip.Prefix, bool) {
	e, ok := t.routes.Match(a)
	return e.Prefix, ok
}

// OwnerOf is the pod's port that owns an address.
func (t *Tables) OwnerOf(a packet.Addr) (uint32, bool) {
	v, _ := t.routes.Lookup(a)
	if v&isPods == 0 {
		return 0, false
	}
	return v & portMask, true
}
