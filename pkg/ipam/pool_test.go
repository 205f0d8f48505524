// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestPoolsRefused(t *testing.T) {
	for _, c := range []struct {
		name            string
		pools, reserved []netip.Prefix
		says            []string
	}{
		{"overlap", prefixes("10.0.0.0/8", "fd00::/64", "10.1.0.0/16"), nil, []string{"10.1.0.0/16", "10.0.0.0/8", "overlaps"}},
		{"twice the same", prefixes("10.0.0.0/24", "10.0.0.0/24"), nil, []string{"overlaps"}},
		{"host bits", prefixes("10.0.0.1/24"), nil, []string{"10.0.0.1/24", "host bits", "did you mean 10.0.0.0/24"}},
		{"host bits in IPv6", prefixes("fd00::1/64"), nil, []string{"did you mean fd00::/64"}},
		{"IPv4 length over 32", []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 64)}, nil, []string{"up to 32"}},
		{"no prefix", []netip.Prefix{{}}, nil, []string{"expected a prefix"}},
		{"mapped", prefixes("::ffff:10.0.0.0/120"), nil, []string{"write it as IPv4"}},
		{"IPv6 too large", prefixes("fd00::/48"), nil, []string{"at most a /64", "fd00::/64"}},
		{"loopback", prefixes("127.0.0.0/16"), nil, []string{"loopback"}},
		{"everything", prefixes("0.0.0.0/0"), nil, []string{"0.0.0.0/0"}},
		{"multicast", prefixes("ff05::/64"), nil, []string{"multicast"}},
		{"link-local", prefixes("fe80::/64"), nil, []string{"link-local"}},
		{"all reserved", prefixes("10.0.0.0/30"), prefixes("10.0.0.0/31", "10.0.0.2/32"), []string{"10.0.0.0/30", "too small"}},
		{"a /32 of the router", prefixes("10.0.0.1/32"), prefixes("10.0.0.1/32"), []string{"too small"}},
		{"a /64 inside a reservation", prefixes("fd00::/64"), prefixes("fd00::/16"), []string{"too small"}},
		{"bad reservation", prefixes("10.0.0.0/24"), []netip.Prefix{{}}, []string{"reservation"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(t.TempDir()+"/db", Options{Pools: c.pools, Reserved: c.reserved})
			refused(t, err, ErrInvalid, c.says...)
		})
	}
}

func TestPoolSizes(t *testing.T) {
	for _, c := range []struct {
		pool     string
		reserved []netip.Prefix
		size     uint64
		first    string
	}{
		{"10.0.0.0/24", nil, 254, "10.0.0.1"},
		{"10.0.0.0/30", nil, 2, "10.0.0.1"},
		{"10.0.0.4/31", nil, 2, "10.0.0.5"},
		{"10.0.0.4/32", nil, 1, "10.0.0.4"},
		{"10.0.0.0/8", nil, 1<<24 - 2, "10.0.0.1"},
		{"fd00::/64", nil, math.MaxUint64, "fd00::1"},
		{"fd00::/120", nil, 255, "fd00::1"},
		{"fd00::4/127", nil, 2, "fd00::5"},
		{"fd00::4/128", nil, 1, "fd00::4"},
		{"fd00::/64", prefixes("fd00::/65"), 1 << 63, "fd00::8000:0:0:0"},
		{"fd00::/64", prefixes("fd00::8000:0:0:0/65"), 1<<63 - 1, "fd00::1"},
		{"10.0.0.0/24", prefixes("10.0.0.0/28", "10.0.0.4/30", "10.0.0.16/32"), 255 - 17, "10.0.0.17"},
	} {
		p := newPool(netip.MustParsePrefix(c.pool), c.reserved)
		if p.size != c.size {
			t.Errorf("%s without %v: size %d, want %d", c.pool, c.reserved, p.size, c.size)
		}
		o, ok := p.next()
		if !ok || p.addr(o).String() != c.first {
			t.Errorf("%s without %v: first %s, want %s", c.pool, c.reserved, p.addr(o), c.first)
		}
	}
}

func TestNextAtTheEndOfTheAddressSpace(t *testing.T) {
	p := newPool(netip.MustParsePrefix("fd00::/64"), nil)
	p.cursor = math.MaxUint64 - 1
	for _, want := range []uint64{math.MaxUint64, 1, 2} {
		o, ok := p.next()
		if !ok || o != want {
			t.Fatalf("next = %#x, %v, want %#x", o, ok, want)
		}
		p.taken.add(o)
		p.used++
		p.cursor = o
	}
}

// The golden oracle of the bitmap is a map and a loop.
func TestBitmapAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		base := []uint64{0, 1 << 20, math.MaxUint64 - 3*pageBits}[seed%3]
		limit := uint64(2*pageBits + 500)
		b, want := newBitmap(), make(map[uint64]bool)
		for range 30000 {
			n := base + r.Uint64N(limit)
			// Dense, so that whole pages fill.
			if r.IntN(8) > 0 {
				for m := n; m < min(n+r.Uint64N(200), base+limit); m++ {
					b.add(m)
					want[m] = true
				}
			} else {
				b.remove(n)
				delete(want, n)
			}
			if b.has(n) != want[n] {
				t.Fatalf("seed %d: has(%d) = %v", seed, n, b.has(n))
			}
			if r.IntN(50) > 0 {
				continue
			}
			from, to := base+r.Uint64N(limit), base+r.Uint64N(limit)
			got, ok := b.nextClear(from, to)
			expect, found := uint64(0), false
			for m := from; m <= to && !found; m++ {
				if !want[m] {
					expect, found = m, true
				}
			}
			if ok != found || ok && got != expect {
				t.Fatalf("seed %d: nextClear(%d, %d) = %d, %v, want %d, %v", seed, from, to, got, ok, expect, found)
			}
		}
		for n := range want {
			b.remove(n)
		}
		if len(b.pages) != 0 {
			t.Errorf("seed %d: an empty set keeps %d pages", seed, len(b.pages))
		}
	}
}

func TestBitmapAtItsEnds(t *testing.T) {
	b := newBitmap()
	last := uint64(math.MaxUint64)
	for n := last - pageBits + 1; n != 0; n++ {
		b.add(n)
	}
	if n, ok := b.nextClear(last-5, last); ok {
		t.Errorf("nextClear in a full last page = %#x", n)
	}
	if n, ok := b.nextClear(last-2*pageBits, last); !ok || n != last-2*pageBits {
		t.Errorf("nextClear = %#x, %v", n, ok)
	}
	if _, ok := b.nextClear(5, 4); ok {
		t.Error("nextClear of an empty range found something")
	}
}

// BenchmarkNextInFullPool is the worst case: one free address, just behind the
// place where the search begins.
func BenchmarkNextInFullPool(b *testing.B) {
	for _, prefix := range []string{"10.0.0.0/16", "10.0.0.0/10"} {
		b.Run(prefix, func(b *testing.B) {
			p := newPool(netip.MustParsePrefix(prefix), nil)
			p.cursor = p.last / 2
			for o := uint64(1); o < p.last; o++ {
				if o != p.cursor-1 {
					p.taken.add(o)
					p.used++
				}
			}
			for b.Loop() {
				if o, ok := p.next(); !ok || o != p.cursor-1 {
					b.Fatal(o, ok)
				}
			}
		})
	}
}
