// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"net/netip"
	"slices"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Tunnel is what the forwarder's tunnels to other nodes are made of.
type Tunnel struct {
	// VNI is VXLAN's network identifier, Port its UDP port.
	VNI  uint32
	Port uint16
	// Addresses are this node's, at most one of each family; Received are what packets
	// to them have as their destination when they come to the forwarder.
	Addresses, Received []netip.Addr
	// MTU of the network between the nodes, in bytes.
	MTU   int
	Peers []Peer
}

// Peer is another node of the cluster.
type Peer struct {
	Name      string
	Addresses []netip.Addr
	// PodCIDRs are all prefixes of its pods, blocks of pools too.
	PodCIDRs []netip.Prefix
}

// tunnelPort is the name of the port that leads to a node. No pod's port has it: those
// have a slash.
func tunnelPort(node string) string { return "tunnel-" + node }

func ofFamily(list []netip.Addr, six bool) netip.Addr {
	if i := slices.IndexFunc(list, func(a netip.Addr) bool { return a.Is6() == six }); i >= 0 {
		return list[i]
	}
	return netip.Addr{}
}

// remote is the address that a node is sent to: of a family that both have, and pods
// too, IPv4 if there are two.
func (t *Tunnel) remote(p *Peer) (netip.Addr, bool) {
	for _, six := range []bool{false, true} {
		if a := ofFamily(p.Addresses, six); a.IsValid() && ofFamily(t.Addresses, six).IsValid() && ofFamily(t.Received, six).IsValid() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// reachable gives each the peers that there is a tunnel to, with its other end, and
// returns why there is none to the others. A node without prefixes for pods runs no
// forwarder, and of two that claim one address or prefix only the first has it: the
// forwarder would refuse the whole configuration.
func (n *Node) reachable(each func(p *Peer, remote netip.Addr)) (problems []error) {
	t := n.Tunnel
	addresses, prefixes := map[netip.Addr]string{}, map[netip.Prefix]string{}
	for _, a := range slices.Concat(t.Addresses, t.Received) {
		addresses[a] = n.Name
	}
	for _, c := range n.PodCIDRs {
		prefixes[c] = n.Name
	}
peers:
	for i := range t.Peers {
		p := &t.Peers[i]
		if len(p.PodCIDRs) == 0 {
			continue
		}
		remote, ok := t.remote(p)
		if !ok {
			problems = append(problems, fmt.Errorf("node %s has the addresses %v and this one %v: there is no IP version that both have; give them one (kubelet --node-ip)", p.Name, p.Addresses, t.Addresses))
			continue
		}
		for _, a := range p.Addresses {
			if other, taken := addresses[a]; taken {
				problems = append(problems, fmt.Errorf("nodes %s and %s both have the address %s; delete the Node that is no more", other, p.Name, a))
				continue peers
			}
		}
		for _, c := range p.PodCIDRs {
			if other, taken := prefixes[c]; taken {
				problems = append(problems, fmt.Errorf("nodes %s and %s both have pods in %s; delete the Node that is no more", other, p.Name, c))
				continue peers
			}
		}
		for _, a := range p.Addresses {
			addresses[a] = p.Name
		}
		for _, c := range p.PodCIDRs {
			prefixes[c] = p.Name
		}
		each(p, remote)
	}
	return problems
}

// Unreachable is why there is no tunnel to other nodes.
func (n *Node) Unreachable() []error {
	if n.Tunnel == nil {
		return nil
	}
	return n.reachable(func(*Peer, netip.Addr) {})
}

// tunnels are the ports that lead to other nodes, and the routes to their pods.
func tunnels(n Node) (ports []*dataplanev1.Port, routes []*dataplanev1.Route) {
	if n.Tunnel == nil {
		return nil, nil
	}
	n.reachable(func(p *Peer, remote netip.Addr) {
		overhead := packet.VXLANOverhead4
		if remote.Is6() {
			overhead = packet.VXLANOverhead6
		}
		port := &dataplanev1.Port{Name: tunnelPort(p.Name), Kind: dataplanev1.Port_TUNNEL, Remote: remote.String(), Mtu: uint32(n.Tunnel.MTU - overhead)}
		for _, a := range p.Addresses {
			port.Addresses = append(port.Addresses, a.String())
		}
		ports = append(ports, port)
		for _, c := range p.PodCIDRs {
			routes = append(routes, &dataplanev1.Route{Prefix: c.String(), Port: port.Name})
		}
	})
	return ports, routes
}

// vxlan is this node's end of the tunnels.
func vxlan(n Node) *dataplanev1.Vxlan {
	t := n.Tunnel
	if t == nil || len(t.Addresses) == 0 {
		return nil
	}
	text := func(list []netip.Addr, six bool) string {
		if a := ofFamily(list, six); a.IsValid() {
			return a.String()
		}
		return ""
	}
	return &dataplanev1.Vxlan{
		Port: HostPort, Vni: t.VNI, UdpPort: uint32(t.Port),
		Ipv4: text(t.Addresses, false), Ipv6: text(t.Addresses, true), ReceivedIpv4: text(t.Received, false), ReceivedIpv6: text(t.Received, true),
	}
}
