// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Request says what an owner wants. The zero value asks for one address of each
// family that has pools.
type Request struct {
	// Pool to lease from; "" for those of [Options]. Of a named pool IPv4 and IPv6
	// say which families are wanted; without a block of one, that is ErrExhausted.
	Pool       string
	IPv4, IPv6 bool
	// Addresses to be leased exactly, one or more of a family. A family that has
	// pools and is not named here gives one of its own choice. They may lie in any
	// pool.
	Addresses []netip.Addr
}

// Lease gives the owner its addresses, IPv4 first, and returns when they are on
// disk. An owner that has a lease gets the same again, unless it requests
// addresses that are not in it: ErrOtherLease. All families are leased or none.
//
// Other errors: ErrExhausted, ErrInUse, ErrCooling, ErrNotInPool, ErrReserved,
// ErrInvalid, ErrClosed, those of the disk, and ctx's if it is done before the
// write begins, in which case nothing is leased. After an error of the disk it
// is unknown whether the lease is there: Release it.
func (a *Allocator) Lease(ctx context.Context, owner string, r Request) (Lease, error) {
	if err := checkOwner(owner); err != nil {
		return Lease{}, err
	}
	requested, err := normalize(r.Addresses)
	if err != nil {
		return Lease{}, fmt.Errorf("lease for %s: %w", owner, err)
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	elapsed, wall, err := a.ready()
	if err != nil {
		return Lease{}, err
	}
	if err := ctx.Err(); err != nil {
		return Lease{}, fmt.Errorf("lease for %s: %w", owner, err)
	}
	if l, ok := a.leases[owner]; ok {
		for _, addr := range requested {
			if !slices.Contains(l.Addresses, addr) {
				return Lease{}, fmt.Errorf("lease for %s: %w: it has %s and requests %s; release it first", owner, ErrOtherLease, join(l.Addresses), addr)
			}
		}
		return l.clone(), nil
	}

	addresses, given, err := a.choose(r, requested, elapsed)
	if err != nil {
		return Lease{}, fmt.Errorf("lease for %s: %w", owner, err)
	}
	l := Lease{Owner: owner, Addresses: addresses, Since: wall}
	err = a.update(func(tx *bolt.Tx) error {
		for _, addr := range given {
			key := []byte(a.pool(addr).prefix.String())
			if err := tx.Bucket(bucketCursors).Put(key, []byte(addr.String())); err != nil {
				return err
			}
		}
		return putJSON(tx.Bucket(bucketLeases), owner, leaseRecord{Addresses: addresses, Since: wall})
	})
	if err != nil {
		return Lease{}, fmt.Errorf("lease for %s: %w", owner, err)
	}
	for _, addr := range addresses {
		a.hold(addr, owner)
	}
	for _, addr := range given {
		p := a.pool(addr)
		p.cursor = p.offset(addr)
	}
	a.leases[owner] = l
	return l.clone(), nil
}

// normalize makes requested addresses comparable, IPv4 first.
func normalize(requested []netip.Addr) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, r := range requested {
		addr := r.Unmap()
		if !addr.IsValid() || addr.Zone() != "" {
			return nil, fmt.Errorf("%w requested address %s: expected an IPv4 or IPv6 address without zone", ErrInvalid, r)
		}
		if slices.Contains(out, addr) {
			return nil, fmt.Errorf("%w request: address %s is named twice", ErrInvalid, addr)
		}
		out = append(out, addr)
	}
	slices.SortStableFunc(out, func(x, y netip.Addr) int { return x.BitLen() - y.BitLen() })
	return out, nil
}

// choose finds the addresses of a new lease, and which of them were given by
// next fit. It changes nothing.
func (a *Allocator) choose(r Request, requested []netip.Addr, elapsed time.Duration) (addresses, given []netip.Addr, err error) {
	for _, addr := range requested {
		if err := a.available(addr, elapsed); err != nil {
			return nil, nil, err
		}
	}
	for _, is4 := range []bool{true, false} {
		own := slices.DeleteFunc(slices.Clone(requested), func(addr netip.Addr) bool { return addr.Is4() != is4 })
		if len(own) > 0 {
			addresses = append(addresses, own...)
			continue
		}
		pools := slices.DeleteFunc(slices.Clone(a.pools), func(p *pool) bool { return p.name != r.Pool || p.prefix.Addr().Is4() != is4 })
		switch wanted := is4 && r.IPv4 || !is4 && r.IPv6; {
		case r.Pool == "" && len(pools) == 0, r.Pool != "" && !wanted:
			continue
		case len(pools) == 0:
			return nil, nil, fmt.Errorf("%w: there is no %s block of pool %s here", ErrExhausted, familyName(is4), r.Pool)
		}
		addr, err := a.nextOf(pools, elapsed)
		if err != nil {
			return nil, nil, err
		}
		addresses, given = append(addresses, addr), append(given, addr)
	}
	if len(addresses) == 0 {
		return nil, nil, fmt.Errorf("%w: there are no pools; configure at least one", ErrExhausted)
	}
	return addresses, given, nil
}

// available tells whether exactly this address can be leased.
func (a *Allocator) available(addr netip.Addr, elapsed time.Duration) error {
	p := a.pool(addr)
	if p == nil {
		return fmt.Errorf("%w: %s; pools are %s", ErrNotInPool, addr, joinPools(a.pools))
	}
	if !p.leasable(p.offset(addr)) {
		return fmt.Errorf("%w: %s of pool %s is a network, broadcast, router or otherwise reserved address", ErrReserved, addr, p.prefix)
	}
	if holder, leased := a.holders[addr]; leased {
		return fmt.Errorf("%w: %s is leased by %s", ErrInUse, addr, holder)
	}
	if c := a.cooling.byAddr[addr]; c != nil {
		return &coolingError{ErrCooling, addr.String() + " was released recently", c.until - elapsed}
	}
	return nil
}

// nextOf gives an address of the first pool that has one.
func (a *Allocator) nextOf(pools []*pool, elapsed time.Duration) (netip.Addr, error) {
	for _, p := range pools {
		if o, ok := p.next(); ok {
			return p.addr(o), nil
		}
	}
	var used, cooling uint64
	for _, p := range pools {
		used += p.used
		cooling += p.cooling
	}
	what := fmt.Sprintf("%s pool %s has %d in use and %d cooling down", family(pools[0].prefix.Addr()), joinPools(pools), used, cooling)
	if until, ok := a.cooling.firstIn(pools); ok {
		return netip.Addr{}, &coolingError{ErrExhausted, what, until - elapsed}
	}
	return netip.Addr{}, fmt.Errorf("%w: %s; add a pool or remove pods", ErrExhausted, what)
}

// Release takes the owner's lease back; its addresses begin to cool down. It
// returns when that is on disk, with what was released. An owner without a
// lease is no error: the zero Lease.
func (a *Allocator) Release(owner string) (Lease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	elapsed, wall, err := a.ready()
	if err != nil {
		return Lease{}, err
	}
	l, ok := a.leases[owner]
	if !ok {
		return Lease{}, nil
	}
	if err := a.release([]Lease{l}, elapsed, wall); err != nil {
		return Lease{}, fmt.Errorf("release lease of %s: %w", owner, err)
	}
	return l, nil
}

// GC releases, in one transaction, the leases whose owners begin with prefix
// and are not listed as live. Prefix "" means all owners, [NetworkPrefix] those
// of one network. It returns what was released, ordered by owner. On error
// nothing was, as far as is known; see [Allocator.Lease].
func (a *Allocator) GC(prefix string, live []string) ([]Lease, error) {
	keep := make(map[string]struct{}, len(live))
	for _, o := range live {
		keep[o] = struct{}{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	elapsed, wall, err := a.ready()
	if err != nil {
		return nil, err
	}
	var dead []Lease
	for owner, l := range a.leases {
		if _, ok := keep[owner]; !ok && strings.HasPrefix(owner, prefix) {
			dead = append(dead, l)
		}
	}
	if len(dead) == 0 {
		return nil, nil
	}
	sortLeases(dead)
	if err := a.release(dead, elapsed, wall); err != nil {
		return nil, fmt.Errorf("release %d stale leases: %w", len(dead), err)
	}
	return dead, nil
}

func (a *Allocator) release(leases []Lease, elapsed time.Duration, wall time.Time) error {
	until := wall.Add(a.coolDown)
	err := a.update(func(tx *bolt.Tx) error {
		var errs []error
		for _, l := range leases {
			errs = append(errs, tx.Bucket(bucketLeases).Delete([]byte(l.Owner)))
			if a.coolDown == 0 {
				continue
			}
			for _, addr := range l.Addresses {
				errs = append(errs, putJSON(tx.Bucket(bucketCooling), addr.String(), coolingRecord{Until: until}))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	for _, l := range leases {
		delete(a.leases, l.Owner)
		for _, addr := range l.Addresses {
			a.drop(addr)
			if a.coolDown > 0 {
				a.cool(addr, elapsed+a.coolDown)
			}
		}
	}
	return nil
}

func (l Lease) clone() Lease {
	l.Addresses = slices.Clone(l.Addresses)
	return l
}

func sortLeases(ls []Lease) {
	slices.SortFunc(ls, func(x, y Lease) int { return strings.Compare(x.Owner, y.Owner) })
}

func join(addresses []netip.Addr) string {
	var s []string
	for _, a := range addresses {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}

func joinPools(pools []*pool) string {
	if len(pools) == 0 {
		return "none"
	}
	var s []string
	for _, p := range pools {
		s = append(s, p.prefix.String())
	}
	return strings.Join(s, ", ")
}
