// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func TestNext(t *testing.T) {
	for _, test := range []struct {
		name  string
		cidrs []string
		size  int
		taken []string
		want  string // "" for none
	}{
		{"first of all", []string{"10.0.0.0/24"}, 26, nil, "10.0.0.0/26"},
		{"behind what is taken", []string{"10.0.0.0/24"}, 26, []string{"10.0.0.0/26"}, "10.0.0.64/26"},
		{"the gap", []string{"10.0.0.0/24"}, 26, []string{"10.0.0.0/26", "10.0.0.128/26"}, "10.0.0.64/26"},
		{"smaller blocks in the way", []string{"10.0.0.0/24"}, 26, []string{"10.0.0.4/30", "10.0.0.100/32"}, "10.0.0.128/26"},
		{"a larger one in the way", []string{"10.0.0.0/24"}, 26, []string{"10.0.0.0/25"}, "10.0.0.128/26"},
		{"second CIDR", []string{"10.0.0.0/26", "10.9.0.0/16"}, 26, []string{"10.0.0.0/26"}, "10.9.0.0/26"},
		{"full", []string{"10.0.0.0/26"}, 26, []string{"10.0.0.63/32"}, ""},
		{"all of it in the way", []string{"10.0.0.0/26"}, 28, []string{"10.0.0.0/8"}, ""},
		{"end of all addresses", []string{"255.255.255.0/24"}, 25, []string{"255.255.255.0/25", "255.255.255.128/25"}, ""},
		{"IPv6", []string{"fd00::/64"}, 122, []string{"fd00::/122", "10.0.0.0/8"}, "fd00::40/122"},
		{"larger than the CIDR", []string{"10.0.0.0/26"}, 24, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			taken := spaceOf(prefixes(test.taken))
			got, ok := next(prefixes(test.cidrs), test.size, &taken)
			if ok != (test.want != "") || ok && got.String() != test.want {
				t.Errorf("%v, %v", got, ok)
			}
		})
	}
}

// TestNextAgainstOracle: the block is the one that is found by looking at each.
func TestNextAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		base := netip.MustParseAddr("10.0.0.0")
		if r.IntN(2) == 0 {
			base = netip.MustParseAddr("fd00::")
		}
		random := func(min, max int) netip.Prefix {
			b := base.AsSlice()
			b[len(b)-1] = byte(r.IntN(256))
			a, _ := netip.AddrFromSlice(b)
			return netip.PrefixFrom(a, base.BitLen()-min-r.IntN(max-min+1)).Masked()
		}
		var list, taken []netip.Prefix
		for range 1 + r.IntN(3) {
			list = append(list, random(3, 8))
		}
		for range r.IntN(30) {
			taken = append(taken, random(0, 5))
		}
		size := base.BitLen() - r.IntN(6)
		want, found := slowNext(list, size, taken)
		s := spaceOf(taken)
		if got, ok := next(list, size, &s); ok != found || got != want {
			t.Fatalf("next(%v, %d, %v): %v, %v; expected %v, %v", list, size, taken, got, ok, want, found)
		}
		if !found {
			continue
		}
		s.add(want)
		if fresh := spaceOf(append(taken, want)); !slices.EqualFunc(merged(s.spans), merged(fresh.spans), func(a, b span) bool { return a == b }) {
			t.Fatalf("%v and %v: %v, expected %v", taken, want, s, fresh)
		}
	}
}

// merged joins ranges that meet.
func merged(spans []span) []span {
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].last.Next() == s.first {
			out[n-1].last = s.last
			continue
		}
		out = append(out, s)
	}
	return out
}

func slowNext(cidrs []netip.Prefix, size int, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, c := range cidrs {
		if size < c.Bits() {
			continue
		}
		for a := c.Addr(); c.Contains(a); a = a.Next() {
			p := netip.PrefixFrom(a, size)
			if p.Masked() == p && !slices.ContainsFunc(taken, p.Overlaps) {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

func TestSizes(t *testing.T) {
	for _, test := range []struct {
		cidrs []string
		size  int
		want  int64
	}{
		{[]string{"10.0.0.0/16"}, 26, 1024},
		{[]string{"10.0.0.0/16", "10.9.0.0/26"}, 26, 1025},
		{[]string{"10.0.0.0/26"}, 24, 0},
		{[]string{"fd00::/64"}, 122, 1 << 58},
		{[]string{"fd00::/16"}, 126, math.MaxInt64},
	} {
		if got := blocks(prefixes(test.cidrs), test.size); got != test.want {
			t.Errorf("%v has %d blocks of /%d, expected %d", test.cidrs, got, test.size, test.want)
		}
	}
	for _, test := range []struct {
		size int
		six  bool
		want int64
	}{{26, false, 62}, {30, false, 2}, {122, true, 63}, {64, true, 1<<62 - 1}} {
		if got := usable(test.size, test.six); got != test.want {
			t.Errorf("a /%d has %d addresses, expected %d", test.size, got, test.want)
		}
	}
}
