// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"netio.dev/netio/pkg/dataplane/hash"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Backend of a service.
type Backend struct {
	Addr   packet.Addr
	Port   uint16
	Weight int // 1 to MaxBackendWeight
}

// hash of what it is, apart from its weight.
func (b *Backend) hash() uint64 { return hash.Mix(b.Addr.Hi^uint64(b.Port), b.Addr.Lo) }

// Choice is what there is to choose from. NewChoice makes it.
type Choice struct {
	Backends []Backend
	// Silent: without a backend, connections are dropped and not refused.
	Silent bool

	table []uint16 // of more than rendezvousMax backends: see maglev
}

// rendezvousMax is up to how many backends each is asked for each connection. That takes
// some 20 ns each, and a backend that comes or goes moves its own share of connections only.
const rendezvousMax = 16

// NewChoice is one of up to MaxBackends backends.
func NewChoice(backends []Backend, silent bool) Choice {
	c := Choice{Backends: backends, Silent: silent}
	if len(backends) > rendezvousMax {
		c.table = maglev(backends)
	}
	return c
}

// Pick picks a backend, of which there is at least one, by a hash of what tells connections
// apart, the same on all nodes that have the same backends, and for each in proportion to
// its weight.
func (c *Choice) Pick(connection uint64) *Backend {
	if c.table != nil {
		at, _ := bits.Mul64(hash.Scramble(connection), uint64(len(c.table)))
		return &c.Backends[c.table[at]]
	}
	return rendezvous(c.Backends, connection)
}

// rendezvous is weighted rendezvous hashing (Thaler and Ravishankar, IEEE/ACM Transactions on
// Networking 6.1, 1998).
func rendezvous(backends []Backend, connection uint64) *Backend {
	weighted := slices.ContainsFunc(backends, func(b Backend) bool { return b.Weight != backends[0].Weight })
	best := &backends[0]
	most, score := uint64(0), math.Inf(-1)
	for i := range backends {
		b := &backends[i]
		h := hash.Scramble(connection ^ b.hash())
		if !weighted {
			if h >= most {
				most, best = h, b
			}
			continue
		}
		// The largest of k draws from (0, 1) is distributed as the k-th root of one:
		// compare log(u)/k.
		u := (float64(h>>11) + 0.5) / (1 << 53)
		if s := math.Log(u) / float64(b.Weight); s > score {
			score, best = s, b
		}
	}
	return best
}

// Sizes of Maglev's table: primes. The small one has a hundred entries for each of 163 backends of
// one weight, the large one for 1310, and 13 for MaxBackends. They are two, as another size moves
// all connections.
const (
	maglevSmall = 16381
	maglevLarge = 131071
)

// maglev is the look-up table of Maglev hashing (Eisenbud and others, "Maglev: A Fast and Reliable
// Software Network Load Balancer", NSDI 2016, section 3.4): indices of backends. Each takes
// places in an order of its own, in turns as often as its weight says. A backend
// that comes or goes moves little more than its own share.
func maglev(backends []Backend) []uint16 {
	type candidate struct {
		index    uint16
		hash     uint64
		weight   int
		turn     int // weight that it has saved up
		at, skip int // the next place that it wants, and how far it is to the one after
	}
	total, most := 0, 0
	all := make([]candidate, len(backends))
	for i := range backends {
		b := &backends[i]
		all[i] = candidate{index: uint16(i), weight: max(b.Weight, 1), hash: b.hash()}
		total += all[i].weight
		most = max(most, all[i].weight)
	}
	size := maglevSmall
	if total/most*100 > size || len(backends)*100 > size {
		size = maglevLarge
	}
	// The order in which they are listed makes no difference.
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.hash, b.hash) })
	for i := range all {
		c := &all[i]
		h := hash.Scramble(c.hash)
		c.at, c.skip = int(h%uint64(size)), int(hash.Scramble(h)%uint64(size-1))+1
	}
	const free = math.MaxUint16
	table := make([]uint16, size)
	for i := range table {
		table[i] = free
	}
	for filled := 0; ; {
		for i := range all {
			c := &all[i]
			// With a weight of a third of the largest it has every third turn.
			if c.turn += c.weight; c.turn < most {
				continue
			}
			c.turn -= most
			for table[c.at] != free {
				if c.at += c.skip; c.at >= size {
					c.at -= size
				}
			}
			table[c.at] = c.index
			if filled++; filled == size {
				return table
			}
		}
	}
}
