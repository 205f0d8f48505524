// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// Block is a prefix of a pool that has a name.
type Block struct {
	Pool   string
	Prefix netip.Prefix
}

// SetBlocks makes these the blocks that named pools consist of, those of one family
// in order of preference. Leases stay as they are, also in blocks that are gone.
// Blocks are not kept on disk: who opens the database sets them again. The error,
// ErrInvalid, names those that are malformed or overlap with Options' pools or an
// earlier one, which are left out; all others are taken.
func (a *Allocator) SetBlocks(blocks []Block) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, _, err := a.ready(); err != nil {
		return err
	}
	own := slices.DeleteFunc(slices.Clone(a.pools), func(p *pool) bool { return p.name != "" })
	pools, wrong := withBlocks(own, blocks, a.opt.Reserved)
	for i, p := range pools[len(own):] {
		same := slices.IndexFunc(a.pools, func(q *pool) bool { return q.name == p.name && q.prefix == p.prefix })
		if same >= 0 {
			pools[len(own)+i] = a.pools[same]
			continue
		}
		if err := a.fill(p); err != nil {
			return errors.Join(wrong, err)
		}
	}
	a.pools, a.blocks = pools, slices.Clone(blocks)
	return wrong
}

// Drop takes a block away if nothing in it is leased or cools down, and tells whether
// it did.
func (a *Allocator) Drop(b Block) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, _, err := a.ready(); err != nil {
		return false, err
	}
	i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.name == b.Pool && p.prefix == b.Prefix })
	if i < 0 || b.Pool == "" || len(a.pools[i].taken.pages) > 0 {
		return false, nil
	}
	a.pools = slices.Delete(slices.Clone(a.pools), i, i+1)
	a.blocks = slices.DeleteFunc(slices.Clone(a.blocks), func(c Block) bool { return c == b })
	return true, nil
}

// withBlocks adds blocks to pools, and tells which of them it left out.
func withBlocks(pools []*pool, blocks []Block, reserved []netip.Prefix) ([]*pool, error) {
	pools = slices.Clip(pools)
	var errs []error
	for _, b := range blocks {
		if b.Pool == "" {
			errs = append(errs, fmt.Errorf("%w block %s: its pool has no name", ErrInvalid, b.Prefix))
			continue
		}
		added, err := newPools([]netip.Prefix{b.Prefix}, reserved)
		if err == nil {
			if i := slices.IndexFunc(pools, func(p *pool) bool { return p.prefix.Overlaps(b.Prefix) }); i >= 0 {
				err = fmt.Errorf("%w: it overlaps with %s", ErrInvalid, pools[i].prefix)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("block %s of pool %s: %w", b.Prefix, b.Pool, err))
			continue
		}
		added[0].name = b.Pool
		pools = append(pools, added[0])
	}
	return pools, errors.Join(errs...)
}

// fill notes in a block that is new what is leased and cools down in it, and where
// the search went on last.
func (a *Allocator) fill(p *pool) error {
	for addr := range a.holders {
		if p.prefix.Contains(addr) {
			o := p.offset(addr)
			p.taken.add(o)
			if p.leasable(o) {
				p.used++
			}
		}
	}
	for addr := range a.cooling.byAddr {
		if p.prefix.Contains(addr) {
			o := p.offset(addr)
			p.taken.add(o)
			if p.leasable(o) {
				p.cooling++
			}
		}
	}
	return a.db.View(func(tx *bolt.Tx) error {
		given := tx.Bucket(bucketCursors).Get([]byte(p.prefix.String()))
		if given == nil {
			return nil
		}
		addr, err := netip.ParseAddr(string(given))
		if err != nil {
			return corrupt(a.db.Path(), fmt.Errorf("cursor of %s: %w", p.prefix, err))
		}
		if p.prefix.Contains(addr) {
			p.cursor = p.offset(addr)
		}
		return nil
	})
}
