// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// span is a closed range of offsets in a pool.
type span struct{ first, last uint64 }

// pool is a prefix from which addresses are leased. Addresses are handled as
// offsets from its network address, which fit 64 bits since no pool is
// larger than a /64.
type pool struct {
	name   string // of a block's pool; "" for those of Options
	prefix netip.Prefix
	last   uint64 // offset of the last address of the prefix
	// never holds the offsets that are not leased: sorted, disjoint.
	never []span
	size  uint64 // addresses that can be leased
	taken bitmap // leased or cooling
	// Counts of leasable addresses only, so that used+cooling <= size.
	used, cooling uint64
	cursor        uint64 // offset given last
}

// unfit are the ranges that no pod can use as its address.
var unfit = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "\"this network\""},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the limited broadcast address"},
	{netip.MustParsePrefix("::/127"), "the unspecified and the loopback address"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

func newPools(prefixes, reserved []netip.Prefix) ([]*pool, error) {
	for _, r := range reserved {
		if !r.IsValid() || r.Addr().Is4In6() {
			return nil, fmt.Errorf("%w reservation %s: expected an IPv4 or IPv6 prefix such as 10.0.0.1/32", ErrInvalid, r)
		}
	}
	var pools []*pool
	for _, prefix := range prefixes {
		if err := checkPool(prefix); err != nil {
			return nil, err
		}
		for _, other := range pools {
			if other.prefix.Overlaps(prefix) {
				return nil, fmt.Errorf("%w pool %s: it overlaps with pool %s; remove one of them", ErrInvalid, prefix, other.prefix)
			}
		}
		p := newPool(prefix, reserved)
		if p.size == 0 {
			return nil, fmt.Errorf("%w pool %s: too small, all its addresses are reserved (network, broadcast, router); give a larger prefix", ErrInvalid, prefix)
		}
		pools = append(pools, p)
	}
	return pools, nil
}

func checkPool(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return fmt.Errorf("%w pool %s: expected a prefix such as 10.0.0.0/24 (length up to 32) or fd00::/64 (up to 128)", ErrInvalid, p)
	case p.Addr().Is4In6():
		return fmt.Errorf("%w pool %s: it is an IPv4-mapped IPv6 prefix; write it as IPv4", ErrInvalid, p)
	case p.Masked() != p:
		return fmt.Errorf("%w pool %s: it has host bits set; did you mean %s?", ErrInvalid, p, p.Masked())
	case p.Addr().Is6() && p.Bits() < 64:
		return fmt.Errorf("%w pool %s: an IPv6 pool is at most a /64; give one of its /64s, such as %s", ErrInvalid, p, netip.PrefixFrom(p.Addr(), 64))
	}
	for _, u := range unfit {
		if u.prefix.Overlaps(p) {
			return fmt.Errorf("%w pool %s: it overlaps with %s (%s), whose addresses pods cannot use", ErrInvalid, p, u.prefix, u.what)
		}
	}
	return nil
}

func newPool(prefix netip.Prefix, reserved []netip.Prefix) *pool {
	p := &pool{prefix: prefix, taken: newBitmap()}
	bits := prefix.Addr().BitLen() - prefix.Bits()
	p.last = 1<<bits - 1 // for bits = 64 the shift gives 0

	var never []span
	if bits >= 2 {
		never = append(never, span{0, 0})
		if prefix.Addr().Is4() {
			never = append(never, span{p.last, p.last})
		}
	}
	for _, r := range reserved {
		r = r.Masked()
		switch {
		case !r.Overlaps(prefix):
		case r.Bits() <= prefix.Bits():
			never = append(never, span{0, p.last})
		default:
			first := p.offset(r.Addr())
			rest := uint64(1)<<(r.Addr().BitLen()-r.Bits()) - 1
			never = append(never, span{first, first + rest})
		}
	}
	p.never = mergeSpans(never)

	// Wraps to the right value for a /64, whose 2^64 addresses always lack one.
	p.size = p.last + 1
	for _, s := range p.never {
		p.size -= s.last - s.first + 1
	}
	return p
}

func mergeSpans(in []span) []span {
	slices.SortFunc(in, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []span
	for _, s := range in {
		if n := len(out); n > 0 && s.first <= out[n-1].last {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// offset of an address that lies in the pool.
func (p *pool) offset(a netip.Addr) uint64 {
	return low64(a) - low64(p.prefix.Addr())
}

func (p *pool) addr(offset uint64) netip.Addr {
	n := low64(p.prefix.Addr()) + offset
	if p.prefix.Addr().Is4() {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(n))))
	}
	b := p.prefix.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], n)
	return netip.AddrFrom16(b)
}

func low64(a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[8:])
}

// neverSpan finds the reservation that holds an offset.
func (p *pool) neverSpan(offset uint64) (span, bool) {
	i, found := slices.BinarySearchFunc(p.never, offset, func(s span, o uint64) int {
		switch {
		case s.last < o:
			return -1
		case s.first > o:
			return 1
		}
		return 0
	})
	if !found {
		return span{}, false
	}
	return p.never[i], true
}

func (p *pool) leasable(offset uint64) bool {
	_, reserved := p.neverSpan(offset)
	return !reserved
}

// next finds the first free address behind the cursor, going round once.
func (p *pool) next() (uint64, bool) {
	if p.used+p.cooling >= p.size {
		return 0, false
	}
	if p.cursor < p.last {
		if o, ok := p.free(p.cursor+1, p.last); ok {
			return o, true
		}
	}
	return p.free(0, min(p.cursor, p.last))
}

// free finds the first free and leasable offset in [from, to].
func (p *pool) free(from, to uint64) (uint64, bool) {
	for {
		o, ok := p.taken.nextClear(from, to)
		if !ok {
			return 0, false
		}
		s, reserved := p.neverSpan(o)
		if !reserved {
			return o, true
		}
		if s.last >= to {
			return 0, false
		}
		from = s.last + 1
	}
}
