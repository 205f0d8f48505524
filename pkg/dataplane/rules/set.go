// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"netio.dev/netio/pkg/dataplane/packet"
)

// Set is a set of addresses: what its prefixes cover, less what the exceptions
// do. It is immutable and shared by all rules that name it.
type Set struct {
	name   string
	in     *bart.Lite
	except *bart.Lite // nil: none
}

// Change is what Update takes out of a Set and puts into it.
type Change struct {
	Remove, Insert             []netip.Prefix
	RemoveExcept, InsertExcept []netip.Prefix
}

func (c *Change) size() int {
	return len(c.Remove) + len(c.Insert) + len(c.RemoveExcept) + len(c.InsertExcept)
}

// NewSet makes a set. Host bits do not count, invalid prefixes are left out.
func NewSet(name string, prefixes, except []netip.Prefix) *Set {
	s := &Set{name: name, in: new(bart.Lite)}
	for _, p := range prefixes {
		s.in.Insert(p)
	}
	if len(except) > 0 {
		s.except = new(bart.Lite)
		for _, p := range except {
			s.except.Insert(p)
		}
	}
	return s
}

// Name is the name that the set was made with.
func (s *Set) Name() string { return s.name }

// Len is the number of prefixes, exceptions not counted.
func (s *Set) Len() int { return s.in.Size() }

// Update returns the set with a change; s is unchanged. What is unchanged is
// shared, so that a change of a few addresses costs microseconds in a large set.
func (s *Set) Update(c Change) *Set {
	if c.size() == 0 {
		return s
	}
	n := &Set{name: s.name, in: update(s.in, c.Remove, c.Insert), except: s.except}
	if len(c.RemoveExcept)+len(c.InsertExcept) > 0 {
		if n.except == nil {
			n.except = new(bart.Lite)
		}
		if n.except = update(n.except, c.RemoveExcept, c.InsertExcept); n.except.Size() == 0 {
			n.except = nil
		}
	}
	return n
}

func update(t *bart.Lite, remove, insert []netip.Prefix) *bart.Lite {
	for _, p := range remove {
		t = t.DeletePersist(p)
	}
	for _, p := range insert {
		t = t.InsertPersist(p)
	}
	return t
}

// Contains tells whether an address is in the set.
func (s *Set) Contains(a packet.Addr) bool { return s.contains(a.Netip()) }

func (s *Set) contains(ip netip.Addr) bool {
	return s.in.Contains(ip) && (s.except == nil || !s.except.Contains(ip))
}
