// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"fmt"
	"slices"
	"strings"

	"netio.dev/netio/pkg/ipam"
)

// Use tells of each pool of which the node has blocks or pods wait, by name. What is
// pending are blocks that are leased from when this is written.
func (p *Pools) Use() (list []Use, pending bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, err := p.count()
	if err != nil {
		return nil, false, err
	}
	p.reclaim(c)
	if err := p.drop(c); err != nil {
		return nil, false, err
	}
	all := map[string]*Use{}
	of := func(pool string) *Use {
		if all[pool] == nil {
			all[pool] = &Use{Pool: pool}
		}
		return all[pool]
	}
	for _, b := range p.candidates {
		if u := of(b.Pool); slices.Contains(p.empty, b) {
			u.Empty = append(u.Empty, b.Prefix)
		} else {
			u.Blocks = append(u.Blocks, b.Prefix)
		}
	}
	for _, b := range p.lost {
		if u := of(b.Pool); !slices.Contains(u.Blocks, b.Prefix) {
			u.Blocks = append(u.Blocks, b.Prefix)
		}
	}
	for f := range p.waiting {
		of(f.pool)
	}
	for pool, u := range all {
		u.IPv4, u.IPv6 = c.numbers(family{pool, false}), c.numbers(family{pool, true})
		list = append(list, *u)
	}
	slices.SortFunc(list, func(a, b Use) int { return strings.Compare(a.Pool, b.Pool) })
	pending = slices.ContainsFunc(p.candidates, func(b ipam.Block) bool { return !slices.Contains(p.offered, b) && !slices.Contains(p.empty, b) })
	return list, pending, nil
}

// counts are what families of pools have and lack.
type counts struct {
	used, free, margin, waiting map[family]int64
	// unknown are those of which blocks will be leased from soon: they want nothing.
	unknown map[family]bool
	// blank are the blocks, leased from, in which no address is used or cools down,
	// and their sizes.
	blank map[ipam.Block]int64
}

func (c *counts) wanted(f family) int64 {
	if c.unknown[f] {
		return 0
	}
	return max(0, c.margin[f]+c.waiting[f]-c.free[f])
}

func (c *counts) numbers(f family) Numbers {
	return Numbers{Used: c.used[f], Free: c.free[f], Wanted: c.wanted(f)}
}

// count counts, and forgets what was lost and has no pods any more; p.mu is held.
func (p *Pools) count() (*counts, error) {
	usage, err := p.leases.Usage()
	if err != nil {
		return nil, fmt.Errorf("count addresses: %w", err)
	}
	c := &counts{used: map[family]int64{}, free: map[family]int64{}, margin: map[family]int64{}, waiting: p.waiting, unknown: map[family]bool{}, blank: map[ipam.Block]int64{}}
	for _, u := range usage {
		if u.Name == "" {
			continue
		}
		f := family{u.Name, u.Pool.Addr().Is6()}
		c.used[f] += int64(u.Used)
		c.free[f] += int64(u.Size - u.Used - u.Cooling)
		c.margin[f] = int64(min(max(u.Size/marginPart, 1), maxMargin))
		if u.Used+u.Cooling == 0 {
			c.blank[ipam.Block{Pool: u.Name, Prefix: u.Pool}] = int64(u.Size)
		}
	}
	var others []ipam.Block
	for _, b := range p.candidates {
		if !slices.Contains(p.offered, b) && !slices.Contains(p.empty, b) {
			others = append(others, b)
			c.unknown[familyOf(b)] = true
		}
	}
	if len(others)+len(p.lost) == 0 {
		return c, nil
	}
	leases, err := p.leases.Leases()
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	inBlock := func(b ipam.Block) (n int64) {
		for _, l := range leases {
			if slices.ContainsFunc(l.Addresses, b.Prefix.Contains) {
				n++
			}
		}
		return n
	}
	for _, b := range others {
		c.used[familyOf(b)] += inBlock(b)
	}
	p.lost = slices.DeleteFunc(p.lost, func(b ipam.Block) bool { return inBlock(b) == 0 })
	return c, nil
}

// reclaim wants blocks back that are given back, where addresses are wanted; p.mu is
// held.
func (p *Pools) reclaim(c *counts) {
	p.empty = slices.DeleteFunc(p.empty, func(b ipam.Block) bool {
		f := familyOf(b)
		again := c.wanted(f) > 0
		if again {
			c.unknown[f] = true // until it is known whether this one is enough
		}
		return again
	})
}

// drop gives blocks back that were empty for long; p.mu is held.
func (p *Pools) drop(c *counts) error {
	now := p.now()
	for b := range p.since {
		if _, still := c.blank[b]; !still {
			delete(p.since, b)
		}
	}
	// The last ones first: pods have addresses of the first one that has any.
	for _, b := range slices.Backward(slices.Clone(p.offered)) {
		size, blank := c.blank[b]
		if !blank {
			continue
		}
		if p.since[b].IsZero() {
			p.since[b] = now
		}
		f := familyOf(b)
		enough := c.free[f]-size >= 2*c.margin[f] || c.used[f] == 0
		if c.unknown[f] || c.waiting[f] > 0 || !enough || now.Sub(p.since[b]) < idle {
			continue
		}
		dropped, err := p.leases.Drop(b)
		if err != nil {
			return fmt.Errorf("give block %s back: %w", b.Prefix, err)
		}
		if !dropped {
			continue // a pod came
		}
		p.offered = slices.DeleteFunc(slices.Clone(p.offered), func(o ipam.Block) bool { return o == b })
		p.empty = append(p.empty, b)
		c.free[f] -= size
		if c.used[f] == 0 && !slices.ContainsFunc(p.offered, func(o ipam.Block) bool { return familyOf(o) == f }) {
			c.margin[f] = 0 // nothing is held ready where there are no pods
		}
		delete(p.since, b)
	}
	return nil
}

func familyOf(b ipam.Block) family { return family{b.Pool, b.Prefix.Addr().Is6()} }
