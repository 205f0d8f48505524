// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"net/netip"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// VXLAN is this end of the tunnels.
type VXLAN struct {
	// Carrier is the number of the port that outer packets go to and come from.
	Carrier uint32
	VNI     uint32
	UDPPort uint16
	// Sources of packets to ends of a family, and what packets from them have as
	// their destination; zero: none.
	source4, source6     packet.Addr
	received4, received6 packet.Addr
	// ends are the tunnels' ports by the addresses of their other ends.
	ends map[packet.Addr]uint32
}

// Source of what this end sends, zero without one of the family.
func (v *VXLAN) Source(six bool) packet.Addr {
	if six {
		return v.source6
	}
	return v.source4
}

// Receives tells whether packets of tunnels come with the destination.
func (v *VXLAN) Receives(a packet.Addr) bool {
	return a != packet.Addr{} && (a == v.received4 || a == v.received6)
}

// End is the port of the tunnel whose other end has the address.
func (v *VXLAN) End(a packet.Addr) (id uint32, ok bool) {
	id, ok = v.ends[a]
	return id, ok
}

// buildVXLAN makes what tunnels have in common, if there are any.
func (t *Tables) buildVXLAN(ids map[string]uint32) {
	c := t.snapshot.GetSettings().GetVxlan()
	if c == nil {
		return
	}
	v := &VXLAN{Carrier: ids[c.GetPort()], VNI: c.GetVni(), UDPPort: uint16(cmp.Or(c.GetUdpPort(), packet.VXLANPort)), ends: map[packet.Addr]uint32{}}
	for _, f := range []struct {
		text string
		addr *packet.Addr
	}{
		{c.GetIpv4(), &v.source4}, {c.GetIpv6(), &v.source6},
		{cmp.Or(c.GetReceivedIpv4(), c.GetIpv4()), &v.received4}, {cmp.Or(c.GetReceivedIpv6(), c.GetIpv6()), &v.received6},
	} {
		if a, err := netip.ParseAddr(f.text); err == nil {
			*f.addr = packet.AddrFrom(a)
		}
	}
	for _, p := range t.snapshot.GetPorts() {
		if p.GetKind() != dataplanev1.Port_TUNNEL {
			continue
		}
		if a, err := netip.ParseAddr(p.GetRemote()); err == nil {
			v.ends[packet.AddrFrom(a)] = ids[p.GetName()]
		}
	}
	t.VXLAN = v
}

// sameTunnels tells whether tunnels' headers are what they were.
func (t *Tables) sameTunnels(prev *Tables) bool {
	was, is := prev.snapshot.GetSettings().GetVxlan(), t.snapshot.GetSettings().GetVxlan()
	return was == is || proto.Equal(was, is)
}

// tunnel is the header of packets to a tunnel's other end.
func (t *Tables) tunnel(p *dataplanev1.Port) *packet.VXLANHeader {
	a, err := netip.ParseAddr(p.GetRemote())
	if err != nil || t.VXLAN == nil {
		return nil
	}
	h := packet.NewVXLANHeader(t.VXLAN.Source(a.Is6()), packet.AddrFrom(a), t.VXLAN.VNI, t.VXLAN.UDPPort)
	return &h
}
