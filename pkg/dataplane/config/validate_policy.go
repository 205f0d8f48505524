// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func (v *validator) addressSets(sets []*dataplanev1.AddressSet, known func(int) bool) {
	v.setNames = make(map[string]int, len(sets))
	if v.tooMany(func() string { return "address_sets" }, len(sets), MaxAddressSets) {
		return
	}
	for i, s := range sets {
		v.name("address_sets", i, s.GetName(), v.setNames)
		if known(i) {
			continue
		}
		v.known(place("address_sets[%d]", i), s)
		if v.tooMany(func() string { return place("address_sets[%d].prefixes", i) }, len(s.GetPrefixes())+len(s.GetExcept()), MaxSetPrefixes) {
			continue
		}
		v.prefixes(func(j int) string { return place("address_sets[%d].prefixes[%d]", i, j) }, s.GetPrefixes())
		v.prefixes(func(j int) string { return place("address_sets[%d].except[%d]", i, j) }, s.GetExcept())
	}
}

// prefixes checks a list of prefixes, none of them twice.
func (v *validator) prefixes(field func(int) string, list []string) {
	seen := make(map[netip.Prefix]int, len(list))
	for j, s := range list {
		p, why := parsePrefix(s)
		if why != "" {
			v.errors.add(field(j), "%s %s", quote(s), why)
		} else if first, ok := seen[p]; ok {
			v.errors.add(field(j), "%s is in the list at [%d] already; name it once", quote(s), first)
		} else {
			seen[p] = j
		}
	}
}

func (v *validator) policies(policies []*dataplanev1.Policy, known func(int) bool) {
	v.policyNames = make(map[string]int, len(policies))
	if v.tooMany(func() string { return "policies" }, len(policies), MaxPolicies) {
		return
	}
	for i, p := range policies {
		v.name("policies", i, p.GetName(), v.policyNames)
		if !known(i) {
			v.known(place("policies[%d]", i), p)
		}
		v.rules(i, "ingress", p.GetIngress(), known(i))
		v.rules(i, "egress", p.GetEgress(), known(i))
	}
}

func (v *validator) rules(policy int, direction string, rules []*dataplanev1.Rule, known bool) {
	if v.tooMany(func() string { return place("policies[%d].%s", policy, direction) }, len(rules), MaxRules) {
		return
	}
	for j, r := range rules {
		for k, peer := range r.GetPeers() {
			if _, ok := v.setNames[peer]; !ok {
				v.errors.add(place("policies[%d].%s[%d].peers[%d]", policy, direction, j, k), "there is no address set %s; add it before or with the policy", quote(peer))
			}
		}
	}
	if known {
		return
	}
	seen := make(map[string]int, len(rules))
	for j, r := range rules {
		at := func(name string) string { return place("policies[%d].%s[%d].%s", policy, direction, j, name) }
		v.known(place("policies[%d].%s[%d]", policy, direction, j), r)
		v.name(place("policies[%d].%s", policy, direction), j, r.GetName(), seen)
		switch r.GetAction() {
		case dataplanev1.Action_ALLOW, dataplanev1.Action_DENY, dataplanev1.Action_PASS:
		default:
			v.errors.add(at("action"), "%d is not an action; expected ALLOW (1), DENY (2) or PASS (3)", r.GetAction())
		}
		v.tooMany(func() string { return at("peers") }, len(r.GetPeers()), MaxRulePeers)
		v.tooMany(func() string { return at("l4") }, len(r.GetL4()), MaxRuleMatches)
		for k, m := range r.GetL4() {
			v.match(func(name string) string {
				return place("policies[%d].%s[%d].l4[%d]%s", policy, direction, j, k, name)
			}, m)
		}
	}
}

func (v *validator) match(at func(string) string, m *dataplanev1.L4Match) {
	if m == nil {
		v.errors.add(at(""), "is empty; expected a protocol")
		return
	}
	v.known(at(""), m)
	proto := m.GetProtocol()
	switch {
	case proto == 0 || proto == 43 || proto == 44 || proto == 60:
		v.errors.add(at(".protocol"), "%d is an IPv6 extension header; rules see the protocol that follows it, such as 6 for TCP", proto)
		return
	case proto > maxProtocol:
		v.errors.add(at(".protocol"), "%d is not a protocol; expected an IP protocol number of 1 to %d", proto, maxProtocol)
		return
	}
	icmp := proto == packet.ProtoICMP || proto == packet.ProtoICMPv6
	first, last := m.GetFirstPort(), m.GetLastPort()
	switch {
	case first == 0 && last == 0:
	case !packet.HasPorts(uint8(proto)):
		v.errors.add(at(".first_port"), "protocol %d has no ports; leave them out", proto)
	case first == 0:
		v.errors.add(at(".first_port"), "is 0 and last_port is %d; expected 1 to 65535, or both 0 for all ports", last)
	case first > maxPortNumber || last > maxPortNumber:
		v.errors.add(at(".last_port"), "%d to %d is not a range of ports; they end at 65535", first, last)
	case last != 0 && last < first:
		v.errors.add(at(".last_port"), "%d is before first_port, which is %d", last, first)
	}
	switch {
	case m.IcmpType == nil && m.IcmpCode == nil:
	case !icmp:
		v.errors.add(at(".icmp_type"), "protocol %d is not ICMP (1 or 58); leave out icmp_type and icmp_code", proto)
	case m.IcmpType == nil:
		v.errors.add(at(".icmp_code"), "a code means something with a type only; add icmp_type")
	case m.GetIcmpType() > maxICMPTypeOrCode || m.GetIcmpCode() > maxICMPTypeOrCode:
		v.errors.add(at(".icmp_type"), "type %d, code %d: expected 0 to 255", m.GetIcmpType(), m.GetIcmpCode())
	}
}
