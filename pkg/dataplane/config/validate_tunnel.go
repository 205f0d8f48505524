// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// vxlan checks what tunnels have in common.
func (v *validator) vxlan(c *dataplanev1.Vxlan) {
	if c == nil {
		return
	}
	v.known("settings.vxlan", c)
	if c.GetVni() == 0 || c.GetVni() > MaxVNI {
		v.errors.add("settings.vxlan.vni", "%d is not possible; expected 1 to %d", c.GetVni(), MaxVNI)
	}
	if c.GetUdpPort() > maxPortNumber {
		v.errors.add("settings.vxlan.udp_port", "%d is not possible; expected 1 to %d, or 0 for 4789", c.GetUdpPort(), maxPortNumber)
	}
	for _, a := range []struct {
		field, value string
		is4          bool
	}{
		{"ipv4", c.GetIpv4(), true}, {"ipv6", c.GetIpv6(), false},
		{"received_ipv4", c.GetReceivedIpv4(), true}, {"received_ipv6", c.GetReceivedIpv6(), false},
	} {
		if a.value == "" {
			continue
		}
		ip, why := parseAddr(a.value)
		switch {
		case why != "":
			v.errors.add("settings.vxlan."+a.field, "%s %s", quote(a.value), why)
		case ip.Is4() != a.is4:
			v.errors.add("settings.vxlan."+a.field, "%s is of the other family", quote(a.value))
		}
	}
	if c.GetIpv4() == "" && c.GetIpv6() == "" {
		v.errors.add("settings.vxlan", "has no address that packets are sent from; give it ipv4, ipv6 or both")
	}
}

// tunnel checks what concerns a tunnel alone.
func (v *validator) tunnel(i int, p *dataplanev1.Port) {
	field := func(name string) string { return place("ports[%d].%s", i, name) }
	if len(p.GetPolicies()) > 0 {
		v.errors.add(field("policies"), "policies apply to pods and this is a tunnel; leave them out")
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"ifname", p.GetIfname() != ""}, {"netns", p.GetNetns() != ""}, {"nbuf_quota", p.GetNbufQuota() != 0}} {
		if f.set {
			v.errors.add(field(f.name), "a tunnel has no interface; leave it out")
		}
	}
	if _, why := parseAddr(p.GetRemote()); why != "" {
		v.errors.add(field("remote"), "%s %s", quote(p.GetRemote()), why)
	}
}

// tunnels checks what tunnels need of each other and of the rest.
func (v *validator) tunnels(s *dataplanev1.Snapshot) {
	c := s.GetSettings().GetVxlan()
	if c != nil {
		i, ok := v.portNames[c.GetPort()]
		if !ok || s.GetPorts()[i].GetKind() != dataplanev1.Port_HOST {
			v.errors.add("settings.vxlan.port", "%s is not a HOST port; name the one whose stack takes the tunnels' packets on", quote(c.GetPort()))
		}
	}
	ends, count := map[netip.Addr]int{}, 0
	for i, p := range s.GetPorts() {
		if p.GetKind() != dataplanev1.Port_TUNNEL {
			continue
		}
		if count++; count > MaxTunnels {
			v.errors.add("ports", "has more than %d tunnels, which is not possible", MaxTunnels)
			return
		}
		a, err := netip.ParseAddr(p.GetRemote())
		if err != nil {
			continue
		}
		if first, ok := ends[a]; ok {
			v.errors.add(place("ports[%d].remote", i), "%s is also the other end of ports[%d]; a node has one tunnel", quote(p.GetRemote()), first)
		}
		ends[a] = i
		switch {
		case c == nil:
			v.errors.add(place("ports[%d].kind", i), "there is a tunnel and no settings.vxlan; add it")
		case a.Is4() && c.GetIpv4() == "" || a.Is6() && c.GetIpv6() == "":
			v.errors.add(place("ports[%d].remote", i), "%s is of a family that settings.vxlan has no address of; add it", quote(p.GetRemote()))
		case p.GetRemote() == c.GetIpv4() || p.GetRemote() == c.GetIpv6():
			v.errors.add(place("ports[%d].remote", i), "%s is this end's own address", quote(p.GetRemote()))
		}
	}
}
