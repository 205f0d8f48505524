// SPDX-License-Identifier: Apache-2.0

package ipam

import "net/netip"

// PoolUsage tells how full a pool is.
type PoolUsage struct {
	// Name of the pool that Pool is a block of, "" for one of [Options].
	Name string
	Pool netip.Prefix
	// Size is the number of addresses that can be leased, reserved ones not
	// counted; Size-Used-Cooling are free now.
	Size, Used, Cooling uint64
}

// Usage reports each pool, in the order of [Options], and then each block in that of
// [Allocator.SetBlocks].
func (a *Allocator) Usage() ([]PoolUsage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, _, err := a.ready(); err != nil {
		return nil, err
	}
	var out []PoolUsage
	for _, p := range a.pools {
		out = append(out, PoolUsage{Name: p.name, Pool: p.prefix, Size: p.size, Used: p.used, Cooling: p.cooling})
	}
	return out, nil
}

// Leases returns all leases, ordered by owner.
func (a *Allocator) Leases() ([]Lease, error) {
	return a.leasesThat(func(Lease) bool { return true })
}

// Lookup returns the owner's lease, if it has one.
func (a *Allocator) Lookup(owner string) (l Lease, ok bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, _, err := a.ready(); err != nil {
		return Lease{}, false, err
	}
	l, ok = a.leases[owner]
	return l.clone(), ok, nil
}

// Orphans returns the leases, ordered by owner, that have an address which would
// not be leased today: it lies in no pool, or is reserved now. They stay valid
// until they are released.
func (a *Allocator) Orphans() ([]Lease, error) {
	return a.leasesThat(func(l Lease) bool {
		for _, addr := range l.Addresses {
			if p := a.pool(addr); p == nil || !p.leasable(p.offset(addr)) {
				return true
			}
		}
		return false
	})
}

func (a *Allocator) leasesThat(want func(Lease) bool) ([]Lease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, _, err := a.ready(); err != nil {
		return nil, err
	}
	var out []Lease
	for _, l := range a.leases {
		if want(l) {
			out = append(out, l.clone())
		}
	}
	sortLeases(out)
	return out, nil
}
