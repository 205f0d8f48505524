// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"math"
	"net/netip"
	"slices"
)

// span is a range of addresses of one family, both ends included.
type span struct{ first, last netip.Addr }

// space is a set of addresses: ranges that are sorted and do not overlap.
type space struct{ spans []span }

// spaceOf is what the prefixes cover.
func spaceOf(prefixes []netip.Prefix) space {
	s := space{spans: make([]span, 0, len(prefixes))}
	sorted := slices.SortedFunc(slices.Values(prefixes), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for _, p := range sorted {
		n := len(s.spans)
		if n > 0 && s.spans[n-1].last.Compare(p.Addr()) >= 0 {
			if l := last(p); s.spans[n-1].last.Less(l) {
				s.spans[n-1].last = l
			}
			continue
		}
		s.spans = append(s.spans, span{p.Addr(), last(p)})
	}
	return s
}

// overlap is the range with the lowest addresses of which some are the prefix's.
func (s *space) overlap(p netip.Prefix) (span, bool) {
	i := s.at(p.Addr())
	if i < len(s.spans) && s.spans[i].first.Compare(last(p)) <= 0 {
		return s.spans[i], true
	}
	return span{}, false
}

// at is the index of the first range that does not end before a.
func (s *space) at(a netip.Addr) int {
	i, _ := slices.BinarySearchFunc(s.spans, a, func(s span, a netip.Addr) int { return s.last.Compare(a) })
	return i
}

// add adds a prefix none of whose addresses are in the set.
func (s *space) add(p netip.Prefix) {
	s.spans = slices.Insert(s.spans, s.at(p.Addr()), span{p.Addr(), last(p)})
}

// next is the lowest block of the size, in the first of the CIDRs that has one, of
// which nothing is taken.
func next(cidrs []netip.Prefix, size int, taken *space) (netip.Prefix, bool) {
	for _, c := range cidrs {
		if size < c.Bits() || size > c.Addr().BitLen() {
			continue
		}
		block := netip.PrefixFrom(c.Addr(), size)
		for {
			o, overlaps := taken.overlap(block)
			if !overlaps {
				return block, true
			}
			// Whatever else the block with the range's end has, it is not free.
			end := o.last
			if l := last(block); end.Less(l) {
				end = l
			}
			behind := last(netip.PrefixFrom(end, size).Masked()).Next()
			if !behind.IsValid() || !c.Contains(behind) {
				break
			}
			block = netip.PrefixFrom(behind, size)
		}
	}
	return netip.Prefix{}, false
}

// last is the last address of a prefix without host bits.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// blocks is how many of the size the CIDRs have, at most math.MaxInt64.
func blocks(cidrs []netip.Prefix, size int) int64 {
	var n uint64
	for _, c := range cidrs {
		bits := size - c.Bits()
		if bits < 0 {
			continue
		}
		if bits > 62 {
			return math.MaxInt64
		}
		n += 1 << bits // of few CIDRs: it does not wrap
	}
	return int64(min(n, math.MaxInt64))
}

// usable is how many addresses of a block pods can have: not the first one, nor
// the last one of IPv4.
func usable(size int, six bool) int64 {
	if six {
		return 1<<min(128-size, 62) - 1
	}
	return 1<<(32-size) - 2
}
