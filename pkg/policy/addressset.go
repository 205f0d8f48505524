// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// address is an address of an endpoint and the same as a prefix, made once and
// shared by all sets that hold it.
type address struct {
	netip.Addr
	prefix string
}

// addresses returns sorted addresses without duplicates, in canonical form:
// IPv4-mapped ones as IPv4, zones removed, invalid ones left out.
func addresses(in []netip.Addr) []address {
	out := make([]address, 0, len(in))
	for _, a := range in {
		if a = a.Unmap().WithZone(""); a.IsValid() {
			out = append(out, address{a, netip.PrefixFrom(a, a.BitLen()).String()})
		}
	}
	slices.SortFunc(out, address.compare)
	return slices.Compact(out)
}

func (a address) compare(b address) int { return a.Addr.Compare(b.Addr) }

// addressSet is the address set of a selector. Each address counts its owners,
// because two endpoints may have the same one for a moment, when one goes and
// the next comes. Changes wait until the set is asked for: then they are merged
// in one pass, however many there are.
type addressSet struct {
	name    string
	members []member // sorted by address
	waiting []member // changes, in the order they came
	message *dataplanev1.AddressSet
}

type member struct {
	address
	owners int32 // in a change: how many more
}

func (s *addressSet) add(as []address)    { s.change(as, 1) }
func (s *addressSet) remove(as []address) { s.change(as, -1) }

func (s *addressSet) change(as []address, owners int32) {
	for _, a := range as {
		s.waiting = append(s.waiting, member{a, owners})
	}
	// A set that nobody asks for must not grow for ever.
	if len(s.waiting) > 64+2*len(s.members) {
		s.merge()
	}
}

// get returns the set. The message is not changed afterwards: a set with other
// addresses is another message.
func (s *addressSet) get() *dataplanev1.AddressSet {
	s.merge()
	if s.message == nil {
		s.message = &dataplanev1.AddressSet{Name: s.name, Prefixes: make([]string, len(s.members))}
		for i := range s.members {
			s.message.Prefixes[i] = s.members[i].prefix
		}
	}
	return s.message
}

// merge carries out the waiting changes. The message goes if the set has other
// addresses then.
func (s *addressSet) merge() {
	if len(s.waiting) == 0 {
		return
	}
	slices.SortFunc(s.waiting, func(a, b member) int { return a.compare(b.address) })
	merged := make([]member, 0, len(s.members)+len(s.waiting))
	members, waiting := s.members, s.waiting
	for len(waiting) > 0 {
		at, found := slices.BinarySearchFunc(members, waiting[0].address, func(m member, a address) int { return m.compare(a) })
		merged = append(merged, members[:at]...)
		members = members[at:]

		m := member{address: waiting[0].address}
		if found {
			m, members = members[0], members[1:]
		}
		for len(waiting) > 0 && waiting[0].Addr == m.Addr {
			m.owners += waiting[0].owners
			waiting = waiting[1:]
		}
		if m.owners > 0 {
			merged = append(merged, m)
		}
		if found != (m.owners > 0) {
			s.message = nil
		}
	}
	s.members = append(merged, members...)
	s.waiting = nil
}

// parsePrefix parses a prefix as CEL's isCIDR does: no IPv4-mapped addresses,
// and then no bits after the prefix length.
func parsePrefix(in v1alpha1.Prefix) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(string(in))
	if err != nil || p.Addr().Is4In6() || p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q: expected an address prefix without bits after its length, like 10.0.0.0/8", in)
	}
	return p, nil
}
