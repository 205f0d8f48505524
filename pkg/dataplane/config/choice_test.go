// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netio.dev/netio/pkg/dataplane/packet"
)

// some backends with addresses in a row.
func some(n int, weight func(i int) int) []Backend {
	all := make([]Backend, n)
	for i := range all {
		all[i] = Backend{Addr: packet.Addr4(10<<24 | uint32(i)), Port: 8080, Weight: weight(i)}
	}
	return all
}

func equal(int) int { return 1 }

// connections are hashes of so many.
func connections(n int) []uint64 {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]uint64, n)
	for i := range all {
		all[i] = r.Uint64()
	}
	return all
}

// TestShares: each of many backends has its share of the table, to one place or one in a hundred.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		n      int
		weight func(int) int
	}{
		{17, equal},
		{163, equal},
		{1000, equal},
		{MaxBackends, equal},
		{40, func(i int) int { return 1 + i%4 }},
		{20, func(i int) int { return []int{MaxBackendWeight, 1}[min(i, 1)] }},
	} {
		all := some(c.n, c.weight)
		total := 0
		for _, b := range all {
			total += b.Weight
		}
		table, got := maglev(all), make([]int, c.n)
		for _, i := range table {
			got[i]++
		}
		for i, b := range all {
			want := float64(len(table)) * float64(b.Weight) / float64(total)
			if d := float64(got[i]) - want; math.Abs(d) > max(1.5, want/100) {
				t.Errorf("%d backends: %d of weight %d has %d places of %d, want %.1f", c.n, i, b.Weight, got[i], len(table), want)
			}
		}
	}
}

// TestPickIsStable: the order of backends makes no difference, and one that comes or goes
// moves few connections of others.
func TestPickIsStable(t *testing.T) {
	for _, n := range []int{3, 17, 100, 1000} {
		all := some(n+1, func(i int) int { return 1 + i%3 })
		mixed := slices.Clone(all)
		rand.New(rand.NewPCG(3, 4)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		full, other, less := NewChoice(all, false), NewChoice(mixed, false), NewChoice(all[:n], false)
		const flows = 20000
		moved := 0
		for _, h := range connections(flows) {
			a, b, c := full.Pick(h), other.Pick(h), less.Pick(h)
			if *a != *b {
				t.Fatalf("%d backends: %v, and %v in another order", n, a, b)
			}
			if *a != *c && *a != all[n] {
				moved++
			}
		}
		if most := flows / 20; moved > most || n <= rendezvousMax && moved > 0 {
			t.Errorf("%d of %d connections moved between %d backends that stayed, want %d at most", moved, flows, n, most)
		}
	}
}

// BenchmarkPick: what a new connection to a service with so many backends pays.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{2, 16, 17, 1000, MaxBackends} {
		c := NewChoice(some(n, equal), false)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				c.Pick(uint64(i))
			}
		})
	}
}

// BenchmarkNewChoice: what a change of a service's backends costs.
func BenchmarkNewChoice(b *testing.B) {
	for _, n := range []int{16, 17, 1000, MaxBackends} {
		all := some(n, equal)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NewChoice(all, false)
			}
		})
	}
}
