// SPDX-License-Identifier: Apache-2.0

// Package pools keeps what a node has of pools of addresses, and finds what it lacks
// and what it can give back.
//
//	blocks of the node ──Set──> candidates ──Use──> numbers, blocks, wanted, empty
//	                                                     │ is written, and then
//	pods that wait ──Wait                    ipam <──Written ── what the node has in that
//
// Pods have addresses of a block only when that is written for the operator to see,
// in what still says that the block is this node's. So a block that the node gave
// back, and wants again, is leased from by one of two alone, whoever is faster.
package pools

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"netio.dev/netio/pkg/ipam"
)

// A block is asked for before the last address is gone: when less are free than a
// part of a block, and than what pods come with at once. It is given back when it was
// empty for a while, and twice as many are free without it.
const (
	marginPart = 4
	maxMargin  = 16
	idle       = 5 * time.Minute
)

// Pools are what a node has of them. The methods may be called concurrently, but Use
// and Written only by one goroutine, one after the other.
type Pools struct {
	leases *ipam.Allocator
	wake   func()
	now    func() time.Time

	mu sync.Mutex
	// candidates are the node's blocks, of which offered are leased from, and empty
	// are no more.
	candidates, offered, empty []ipam.Block
	// wrong is why some of offered are not.
	wrong error
	// lost are blocks that were leased from, are said to be the node's no more, and
	// have pods still.
	lost    []ipam.Block
	since   map[ipam.Block]time.Time // when a block without pods was first seen so
	waiting map[family]int64
	changed chan struct{} // closed, and replaced, when other blocks are leased from
}

// family is one of a pool's.
type family struct {
	pool string
	six  bool
}

// Use is what a node's pods have of a pool.
type Use struct {
	Pool string
	// Blocks that the numbers are of, and those that the node should have back; Empty
	// are those that it gives back.
	Blocks, Empty []netip.Prefix
	IPv4, IPv6    Numbers
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
	return &Pools{leases: leases, wake: wake, now: time.Now, since: map[ipam.Block]time.Time{}, waiting: map[family]int64{}, changed: make(chan struct{})}
}

// Set makes these the node's blocks. They are leased from when that is Written. The
// error is Written's.
func (p *Pools) Set(blocks []ipam.Block) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(blocks, p.candidates) {
		return nil
	}
	p.candidates = slices.Clone(blocks)
	gone := func(b ipam.Block) bool { return !slices.Contains(blocks, b) }
	p.empty = slices.DeleteFunc(p.empty, gone)
	p.lost = slices.DeleteFunc(p.lost, func(b ipam.Block) bool {
		return slices.ContainsFunc(blocks, func(c ipam.Block) bool { return c.Prefix.Overlaps(b.Prefix) })
	})
	p.wake()
	return p.offer(slices.DeleteFunc(slices.Clone(p.offered), gone))
}

// offer leases from these blocks; p.mu is held. The error names those that cannot be.
func (p *Pools) offer(blocks []ipam.Block) error {
	if slices.Equal(blocks, p.offered) {
		return p.wrong
	}
	err := p.leases.SetBlocks(blocks)
	if err != nil && !errors.Is(err, ipam.ErrInvalid) {
		return err
	}
	for _, b := range p.offered {
		if !slices.Contains(blocks, b) {
			p.lost = append(p.lost, b)
		}
	}
	p.offered, p.wrong = blocks, err
	close(p.changed)
	p.changed = make(chan struct{})
	slog.Info("pods have addresses of other blocks", "blocks", len(blocks))
	return err
}

// Written says that what Use told is written, for the operator to see, in what says
// that the node has these blocks. The error names blocks that cannot be leased from.
func (p *Pools) Written(use []Use, has []ipam.Block) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var told []ipam.Block
	for _, u := range use {
		for _, b := range u.Blocks {
			told = append(told, ipam.Block{Pool: u.Pool, Prefix: b})
		}
	}
	return p.offer(slices.DeleteFunc(slices.Clone(p.candidates), func(b ipam.Block) bool {
		return !slices.Contains(told, b) || !slices.Contains(has, b)
	}))
}

// Wait has the operator know that a pod lacks addresses of a pool, until done is
// called.
func (p *Pools) Wait(pool string, four, six bool) (done func()) {
	count := func(n int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, is := range []bool{false, true} {
			if is && six || !is && four {
				f := family{pool, is}
				if p.waiting[f] += n; p.waiting[f] == 0 {
					delete(p.waiting, f)
				}
			}
		}
	}
	count(1)
	p.wake()
	return func() { count(-1) }
}

// Changed is closed when pods have addresses of other blocks.
func (p *Pools) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}
