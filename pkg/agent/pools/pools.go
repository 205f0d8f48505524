// SPDX-License-Identifier: Apache-2.0

// Package pools keeps what a node has of pools of addresses, and finds what it lacks.
//
//	blocks of the node ──Set──> ipam ──Use──> numbers, and what is wanted
//	                             ^                    │
//	pods that wait ──Wait────────┘      operator <────┘
package pools

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"netio.dev/netio/pkg/ipam"
)

// A block is asked for before the last address is gone: when less are free than a
// part of a block, and than what pods come with at once.
const (
	marginPart = 4
	maxMargin  = 16
)

// Pools are what a node has of them. The methods may be called concurrently.
type Pools struct {
	leases *ipam.Allocator
	wake   func()

	mu     sync.Mutex
	blocks []ipam.Block
	wrong  error // of them
	// lost are blocks that were the node's, are said to be so no more, and have
	// pods still.
	lost    []ipam.Block
	waiting map[wanting]int64
	changed chan struct{} // closed, and replaced, when blocks are others
}

// wanting is a family of a pool.
type wanting struct {
	pool string
	six  bool
}

// Use is what a node's pods have of a pool.
type Use struct {
	Pool string
	// Blocks that the numbers are of, and those that the node should have back.
	Blocks     []netip.Prefix
	IPv4, IPv6 Numbers
}

// Numbers are of addresses.
type Numbers struct {
	Used, Free int64
	// Wanted is how many more the node should have.
	Wanted int64
}

// New makes Pools without blocks. wake is called when Use tells something that the
// operator waits for.
func New(leases *ipam.Allocator, wake func()) *Pools {
	return &Pools{leases: leases, wake: wake, waiting: map[wanting]int64{}, changed: make(chan struct{})}
}

// Set makes these the node's blocks. The error names those that cannot be.
func (p *Pools) Set(blocks []ipam.Block) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(blocks, p.blocks) {
		return p.wrong
	}
	p.wrong = p.leases.SetBlocks(blocks)
	had := append(p.lost, p.blocks...)
	p.lost = slices.DeleteFunc(slices.Clone(had), func(b ipam.Block) bool {
		return slices.ContainsFunc(blocks, func(c ipam.Block) bool { return c.Prefix.Overlaps(b.Prefix) })
	})
	p.blocks = slices.Clone(blocks)
	close(p.changed)
	p.changed = make(chan struct{})
	slog.Info("blocks of pools changed", "blocks", len(blocks))
	p.wake()
	return p.wrong
}

// Wait has the operator know that a pod lacks addresses of a pool, until done is
// called.
func (p *Pools) Wait(pool string, four, six bool) (done func()) {
	count := func(n int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, is := range []bool{false, true} {
			if is && six || !is && four {
				w := wanting{pool, is}
				if p.waiting[w] += n; p.waiting[w] == 0 {
					delete(p.waiting, w)
				}
			}
		}
	}
	count(1)
	p.wake()
	return func() { count(-1) }
}

// Changed is closed when the node has other blocks.
func (p *Pools) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Use tells of each pool of which the node has blocks or pods wait, by name.
func (p *Pools) Use() ([]Use, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	usage, err := p.leases.Usage()
	if err != nil {
		return nil, fmt.Errorf("count addresses: %w", err)
	}
	if err := p.forget(); err != nil {
		return nil, err
	}
	all := map[string]*Use{}
	of := func(pool string) *Use {
		if all[pool] == nil {
			all[pool] = &Use{Pool: pool}
		}
		return all[pool]
	}
	margins := map[wanting]int64{}
	for _, u := range usage {
		if u.Name == "" {
			continue
		}
		use, six := of(u.Name), u.Pool.Addr().Is6()
		use.Blocks = append(use.Blocks, u.Pool)
		n := use.numbers(six)
		n.Used += int64(u.Used)
		n.Free += int64(u.Size - u.Used - u.Cooling)
		margins[wanting{u.Name, six}] = int64(min(max(u.Size/marginPart, 1), maxMargin))
	}
	for w, n := range p.waiting {
		of(w.pool)
		margins[w] += n
	}
	for _, b := range p.lost {
		of(b.Pool).Blocks = append(of(b.Pool).Blocks, b.Prefix)
	}
	var list []Use
	for pool, use := range all {
		for _, six := range []bool{false, true} {
			n := use.numbers(six)
			n.Wanted = max(0, margins[wanting{pool, six}]-n.Free)
		}
		list = append(list, *use)
	}
	slices.SortFunc(list, func(a, b Use) int { return strings.Compare(a.Pool, b.Pool) })
	return list, nil
}

// forget drops what was lost and has no pods any more; p.mu is held.
func (p *Pools) forget() error {
	if len(p.lost) == 0 {
		return nil
	}
	leases, err := p.leases.Leases()
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	p.lost = slices.DeleteFunc(p.lost, func(b ipam.Block) bool {
		return !slices.ContainsFunc(leases, func(l ipam.Lease) bool { return slices.ContainsFunc(l.Addresses, b.Prefix.Contains) })
	})
	return nil
}

func (u *Use) numbers(six bool) *Numbers {
	if six {
		return &u.IPv6
	}
	return &u.IPv4
}
