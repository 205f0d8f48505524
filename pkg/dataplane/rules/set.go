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
	in     bart.Lite
	except *bart.Lite
}

// NewSet makes a set. Prefixes must be valid; host bits do not count.
func NewSet(name string, prefixes, except []netip.Prefix) *Set {
	s := &Set{name: name}
	for _, p := range prefixes {
		s.in.Insert(p.Masked())
	}
	if len(except) > 0 {
		s.except = new(bart.Lite)
		for _, p := range except {
			s.except.Insert(p.Masked())
		}
	}
	return s
}

// Contains tells whether an address is in the set.
func (s *Set) Contains(a packet.Addr) bool {
	ip := a.Netip()
	return s.in.Contains(ip) && (s.except == nil || !s.except.Contains(ip))
}
