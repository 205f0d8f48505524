// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strings"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// The policy that nftables and NetIO enforce on both pods: deny one large set
// of addresses, allow some that are not in use here, at last allow what
// is measured; deny the rest. It applies to what a sends and what b gets.
type policy struct {
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

// newPolicy allows the traffic between the two addresses.
func newPolicy(a, b netip.Addr) policy {
	p := policy{deny: addressSet{name: "denied"}}
	for i := range deniedPrefixes {
		p.deny.prefixes = append(p.deny.prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 25))
	}
	for i := range otherAllowed {
		peers := addressSet{name: fmt.Sprintf("peers%d", i)}
		for j := range peersOfOther {
			peers.prefixes = append(peers.prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 19, byte(i), byte(4 * j)}), 32))
		}
		p.allow = append(p.allow, allowance{peers, uint16(8000 + 10*i), uint16(8000 + 10*i)})
	}
	measured := addressSet{name: "measured", prefixes: []netip.Prefix{netip.PrefixFrom(a, 32), netip.PrefixFrom(b, 32)}}
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

// nftables is the policy as a ruleset for a router with the interfaces pa and
// pb: source addresses are checked, known connections pass, the rules judge
// the first packet.
func (p policy) nftables(a, b netip.Addr) string {
	var s strings.Builder
	s.WriteString("table inet pods {\n")
	for _, set := range p.sets() {
		fmt.Fprintf(&s, "\tset %s { type ipv4_addr; flags interval; elements = { %s } }\n", set.name, strings.Join(texts(set.prefixes), ", "))
	}
	direction := func(chain, address, verdict string) {
		fmt.Fprintf(&s, "\tchain %s {\n\t\tip %s @%s drop\n", chain, address, p.deny.name)
		for _, a := range p.allow {
			for _, protocol := range []string{"tcp", "udp"} {
				fmt.Fprintf(&s, "\t\tip %s @%s %s dport %d-%d %s\n", address, a.peers.name, protocol, a.first, a.last, verdict)
			}
		}
		s.WriteString("\t\tdrop\n\t}\n")
	}
	direction("a_egress", "daddr", "return")
	direction("b_ingress", "saddr", "accept")
	fmt.Fprintf(&s, `	chain forward {
		type filter hook forward priority filter; policy drop;
		iifname "pa" ip saddr != %s drop
		iifname "pb" ip saddr != %s drop
		ct state vmap { established : accept, related : accept, invalid : drop }
		iifname "pa" jump a_egress
		oifname "pb" jump b_ingress
	}
}
`, a, b)
	return s.String()
}

// dataplane is the policy for NetIO: address sets, and the policies "a" and
// "b" for the ports.
func (p policy) dataplane() ([]*dataplanev1.AddressSet, []*dataplanev1.Policy) {
	var sets []*dataplanev1.AddressSet
	for _, set := range p.sets() {
		sets = append(sets, &dataplanev1.AddressSet{Name: set.name, Prefixes: texts(set.prefixes)})
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

func texts(prefixes []netip.Prefix) []string {
	var out []string
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}
