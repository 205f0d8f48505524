// SPDX-License-Identifier: Apache-2.0

package route

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"netio.dev/netio/pkg/dataplane/packet"
)

// golden is a table that one can see to be right.
type golden map[netip.Prefix]uint32

func (g golden) lookup(a netip.Addr) (Entry, bool) {
	best, found := Entry{}, false
	for p, v := range g {
		if p.Contains(a) && (!found || p.Bits() > best.Prefix.Bits()) {
			best, found = Entry{p, v}, true
		}
	}
	return best, found
}

// randomPrefix draws from a few address ranges, so that prefixes nest and
// lookups hit.
func randomPrefix(r *rand.Rand) netip.Prefix {
	a := randomAddr(r)
	return netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.Uint32())})
	}
	var b [16]byte
	copy(b[:], []byte{0x20, 1, 0x0d, 0xb8, 0, 0, 0, byte(r.IntN(3))})
	b[8], b[15] = byte(r.IntN(2)<<7), byte(r.Uint32())
	return netip.AddrFrom16(b)
}

func compare(t *testing.T, r *rand.Rand, tab *Table, g golden) {
	t.Helper()
	if tab.Len() != len(g) {
		t.Fatalf("%d prefixes, want %d", tab.Len(), len(g))
	}
	for range 60 {
		a := randomAddr(r)
		want, wantOK := g.lookup(a)
		if got, ok := tab.Lookup(packet.AddrFrom(a)); ok != wantOK || got != want.Value {
			t.Fatalf("%v: %d %v, want %+v %v", a, got, ok, want, wantOK)
		}
		if got, ok := tab.Match(packet.AddrFrom(a)); ok != wantOK || got != want {
			t.Fatalf("%v: %+v %v, want %+v %v", a, got, ok, want, wantOK)
		}
	}
	for p, v := range g {
		if got, ok := tab.Get(p); !ok || got != v {
			t.Fatalf("%v: %d %v, want %d", p, got, ok, v)
		}
	}
}

func TestTableAgainstGolden(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 9 {
		g := golden{}
		var entries []Entry
		for range r.IntN(200) {
			e := Entry{randomPrefix(r), r.Uint32()}
			entries = append(entries, e)
			g[e.Prefix] = e.Value
		}
		tab := Build(entries)
		compare(t, r, tab, g)
		for range 8 {
			before := tab
			old := golden{}
			for p, v := range g {
				old[p] = v
			}
			n := 1 + r.IntN(3)
			if round%3 == 0 {
				n = 100 // the way of copying all
			}
			var remove []netip.Prefix
			var insert []Entry
			for range n {
				remove = append(remove, randomPrefix(r))
				for p := range g {
					remove = append(remove, p)
					break
				}
				insert = append(insert, Entry{randomPrefix(r), r.Uint32()})
			}
			for _, p := range remove {
				delete(g, p)
			}
			for _, e := range insert {
				g[e.Prefix] = e.Value
			}
			tab = tab.Update(remove, insert)
			compare(t, r, tab, g)
			compare(t, r, before, old) // is as it was
		}
	}
}

func TestEmptyTable(t *testing.T) {
	var tab Table
	a := packet.AddrFrom(netip.MustParseAddr("10.0.0.1"))
	if _, ok := tab.Lookup(a); ok || tab.Len() != 0 {
		t.Error("found something")
	}
	if _, ok := tab.Match(a); ok {
		t.Error("matched something")
	}
	if _, ok := tab.Get(netip.MustParsePrefix("10.0.0.0/8")); ok {
		t.Error("has something")
	}
	if tab.Update(nil, nil) != &tab {
		t.Error("no change makes another table")
	}
	p := netip.MustParsePrefix("0.0.0.0/0")
	next := tab.Update([]netip.Prefix{p}, []Entry{{p, 7}})
	if v, ok := next.Lookup(a); !ok || v != 7 || tab.Len() != 0 {
		t.Error("default route is not found, or in the wrong table")
	}
	if _, ok := next.Lookup(packet.AddrFrom(netip.MustParseAddr("2001:db8::1"))); ok {
		t.Error("IPv4 default route matches IPv6")
	}
}

// spread is a table of n host routes as on a node, and addresses all over it.
func spread(n int, v6 bool) (*Table, []packet.Addr) {
	r := rand.New(rand.NewPCG(2, 2))
	entries := []Entry{{netip.MustParsePrefix("0.0.0.0/0"), 1}, {netip.MustParsePrefix("::/0"), 1}}
	keys := make([]packet.Addr, 1<<16)
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if v6 {
			var b [16]byte
			b[0], b[1] = 0xfd, 0
			binary.BigEndian.PutUint32(b[4:], uint32(i>>8))
			b[15] = byte(i)
			a = netip.AddrFrom16(b)
		}
		entries = append(entries, Entry{netip.PrefixFrom(a, a.BitLen()), uint32(i + 2)})
	}
	for i := range keys {
		keys[i] = packet.AddrFrom(entries[2+r.IntN(n)].Prefix.Addr())
	}
	return Build(entries), keys
}

func BenchmarkLookup(b *testing.B) {
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, n := range []int{100, 10_000, 100_000} {
			tab, keys := spread(n, family == "IPv6")
			b.Run(fmt.Sprintf("%s/%d", family, n), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					tab.Lookup(keys[i&(len(keys)-1)])
					i++
				}
			})
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	tab, _ := spread(100_000, false)
	p := netip.MustParsePrefix("10.0.5.5/32")
	for b.Loop() {
		tab = tab.Update([]netip.Prefix{p}, []Entry{{p, 9}})
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	tab, keys := spread(1000, true)
	if n := testing.AllocsPerRun(100, func() { tab.Lookup(keys[0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
