// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strings"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// The policy that nftables and NetIO enforce on both pods, as in test/bench: deny
// one large set of addresses, allow some that are not in use here, at last what
// is measured; deny the rest. It applies to what a sends and to what b gets.
type policy struct {
	a, b  pod
	deny  addressSet
	allow []allowance
}

type addressSet struct {
	name     string
	prefixes []netip.Prefix
}

// allowance lets TCP and UDP to the ports pass, to or from the peers.
type allowance struct {
	peers       addressSet
	first, last uint16
}

const (
	deniedPrefixes = 100
	otherAllowed   = 15 // allowances that do not match
	peersOfOther   = 8

	// firstPort to lastPort are the ports that the measurements use.
	firstPort, lastPort = 20000, 20099
)

// newPolicy allows the traffic between the two pods.
func newPolicy(a, b pod) policy {
	p := policy{a: a, b: b, deny: addressSet{name: "denied"}}
	for i := range deniedPrefixes {
		p.deny.prefixes = append(p.deny.prefixes,
			netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 25),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 1, 0, 0, 0, byte(i)}), 64))
	}
	for i := range otherAllowed {
		peers := addressSet{name: fmt.Sprintf("peers%d", i)}
		for j := range peersOfOther {
			peers.prefixes = append(peers.prefixes,
				netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 19, byte(i), byte(4 * j)}), 32),
				netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 2, 0, 0, 0, byte(i), 15: byte(4 * j)}), 128))
		}
		p.allow = append(p.allow, allowance{peers, uint16(8000 + 10*i), uint16(8000 + 10*i)})
	}
	measured := addressSet{name: "measured"}
	for _, one := range []pod{a, b} {
		measured.prefixes = append(measured.prefixes, netip.PrefixFrom(one.ipv4, 32), netip.PrefixFrom(one.ipv6, 128))
	}
	p.allow = append(p.allow, allowance{measured, firstPort, lastPort})
	return p
}

func (p policy) sets() []addressSet {
	sets := []addressSet{p.deny}
	for _, a := range p.allow {
		sets = append(sets, a.peers)
	}
	return sets
}

// of a set, the prefixes of one family.
func (s addressSet) of(is6 bool) string {
	var out []string
	for _, p := range s.prefixes {
		if p.Addr().Is6() == is6 {
			out = append(out, p.String())
		}
	}
	return strings.Join(out, ", ")
}

// nftables is the policy as a ruleset for a router with the interfaces pa and
// pb: source addresses are checked, known connections pass, the rules judge
// the first packet.
func (p policy) nftables() string {
	var s strings.Builder
	s.WriteString("table inet pods {\n")
	for _, set := range p.sets() {
		fmt.Fprintf(&s, "\tset %s4 { type ipv4_addr; flags interval; elements = { %s } }\n", set.name, set.of(false))
		fmt.Fprintf(&s, "\tset %s6 { type ipv6_addr; flags interval; elements = { %s } }\n", set.name, set.of(true))
	}
	direction := func(chain, address, verdict string) {
		fmt.Fprintf(&s, "\tchain %s {\n", chain)
		for _, family := range []struct{ name, suffix string }{{"ip", "4"}, {"ip6", "6"}} {
			match := fmt.Sprintf("\t\t%s %s @", family.name, address)
			fmt.Fprintf(&s, "%s%s%s drop\n", match, p.deny.name, family.suffix)
			for _, a := range p.allow {
				for _, protocol := range []string{"tcp", "udp"} {
					fmt.Fprintf(&s, "%s%s%s %s dport %d-%d %s\n", match, a.peers.name, family.suffix, protocol, a.first, a.last, verdict)
				}
			}
		}
		s.WriteString("\t\tdrop\n\t}\n")
	}
	direction("a_egress", "daddr", "return")
	direction("b_ingress", "saddr", "accept")
	fmt.Fprintf(&s, `	chain forward {
		type filter hook forward priority filter; policy drop;
		iifname "pa" ip saddr != %s drop
		iifname "pa" ip6 saddr != %s drop
		iifname "pb" ip saddr != %s drop
		iifname "pb" ip6 saddr != %s drop
		ct state vmap { established : accept, related : accept, invalid : drop }
		iifname "pa" jump a_egress
		oifname "pb" jump b_ingress
	}
}
`, p.a.ipv4, p.a.ipv6, p.b.ipv4, p.b.ipv6)
	return s.String()
}

// dataplane is the policy for NetIO: address sets, and the policies "a" and
// "b" for the ports.
func (p policy) dataplane() ([]*dataplanev1.AddressSet, []*dataplanev1.Policy) {
	var sets []*dataplanev1.AddressSet
	for _, set := range p.sets() {
		out := &dataplanev1.AddressSet{Name: set.name}
		for _, prefix := range set.prefixes {
			out.Prefixes = append(out.Prefixes, prefix.String())
		}
		sets = append(sets, out)
	}
	rules := []*dataplanev1.Rule{{
		Name: p.deny.name, Priority: 1, Action: dataplanev1.Action_DENY, Peers: []string{p.deny.name},
	}}
	for _, a := range p.allow {
		rule := &dataplanev1.Rule{
			Name: a.peers.name, Priority: 2, Action: dataplanev1.Action_ALLOW, Peers: []string{a.peers.name},
		}
		for _, protocol := range []uint32{6, 17} {
			rule.L4 = append(rule.L4, &dataplanev1.L4Match{Protocol: protocol, FirstPort: uint32(a.first), LastPort: uint32(a.last)})
		}
		rules = append(rules, rule)
	}
	return sets, []*dataplanev1.Policy{
		{Name: "a", IsolatesEgress: true, Egress: rules},
		{Name: "b", IsolatesIngress: true, Ingress: rules},
	}
}
