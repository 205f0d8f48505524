// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// DefaultCoolDown is how long an address rests after it was given back.
	DefaultCoolDown = 60 * time.Second
	// DefaultLockTimeout is how long Open waits for a predecessor to let go of
	// the database.
	DefaultLockTimeout = 5 * time.Second
)

// Options say what is leased. The zero value leases nothing but still reads,
// reports and releases what the database holds.
type Options struct {
	// Pools to lease from, those of one family in order of preference. They may
	// not overlap or have host bits set; an IPv6 pool is at most a /64. They may
	// differ from those of the last run: leases outside are kept and reported by
	// [Allocator.Orphans].
	Pools []netip.Prefix
	// Reserved are addresses and ranges inside the pools that are never leased,
	// such as the router's own as /32 and /128. What lies in no pool is ignored.
	Reserved []netip.Prefix
	// CoolDown is how long a released address rests; 0 for DefaultCoolDown,
	// below 0 for none.
	CoolDown time.Duration
	// LockTimeout is how long to wait while another process has the database
	// open; 0 for DefaultLockTimeout.
	LockTimeout time.Duration
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Allocator leases addresses. All methods may be called concurrently; changes
// are made one after the other, each with its own fsync.
type Allocator struct {
	coolDown time.Duration

	mu     sync.Mutex
	db     *bolt.DB // nil once closed
	opt    Options
	blocks []Block
	ticker *ticker
	state
}

// state is what memory holds of the database.
type state struct {
	// stale: a commit failed and the database must be read again.
	stale bool
	// pools are those of Options, then the blocks.
	pools   []*pool
	leases  map[string]Lease
	holders map[netip.Addr]string
	cooling coolingQueue
	// cooled are the records of addresses that have cooled down, to be deleted
	// with the next change: no fsync is spent on them.
	cooled map[netip.Addr]struct{}
}

// Lease is what an owner holds.
type Lease struct {
	Owner string
	// Addresses in the order IPv4, IPv6, and as requested within a family.
	Addresses []netip.Addr
	// Since is the wall clock's time of leasing.
	Since time.Time
}

// Open opens the database at path, or makes it (the directory must exist, mode
// 0600), and checks it whole. Errors: ErrInvalid for options, naming the pool
// or, where two overlap, both; ErrLocked; ErrCorrupt; ErrVersion.
func Open(path string, o Options) (*Allocator, error) {
	if o.CoolDown == 0 {
		o.CoolDown = DefaultCoolDown
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = DefaultLockTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if _, err := newPools(o.Pools, o.Reserved); err != nil {
		return nil, err
	}
	db, err := openDatabase(path, o.LockTimeout)
	if err != nil {
		return nil, fmt.Errorf("lease database: %w", err)
	}
	a := &Allocator{coolDown: max(o.CoolDown, 0), db: db, opt: o, ticker: newTicker(o.Now)}
	if err := a.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("lease database: %w", err), db.Close())
	}
	return a, nil
}

// Close releases the database; later calls return ErrClosed. Nothing is lost by
// not calling it.
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.db == nil {
		return nil
	}
	db := a.db
	a.db = nil
	return db.Close()
}

// load rebuilds memory from the database.
func (a *Allocator) load() error {
	pools, err := newPools(a.opt.Pools, a.opt.Reserved)
	if err != nil {
		return err
	}
	pools, _ = withBlocks(pools, a.blocks, a.opt.Reserved) // SetBlocks told what is wrong
	s := state{
		pools:   pools,
		leases:  make(map[string]Lease),
		holders: make(map[netip.Addr]string),
		cooling: newCoolingQueue(),
		cooled:  make(map[netip.Addr]struct{}),
	}
	elapsed, wall := a.ticker.read()
	err = readDatabase(a.db,
		func(l Lease) error {
			for _, addr := range l.Addresses {
				if other, taken := s.holders[addr]; taken {
					return corrupt(a.db.Path(), fmt.Errorf("%s is leased by both %q and %q", addr, other, l.Owner))
				}
				s.hold(addr, l.Owner)
			}
			s.leases[l.Owner] = l
			return nil
		},
		func(addr netip.Addr, until time.Time) {
			if _, leased := s.holders[addr]; leased {
				s.cooled[addr] = struct{}{}
				return
			}
			// Never longer than one cool-down, even if the clock went back.
			s.cool(addr, elapsed+min(until.Sub(wall), a.coolDown))
		},
		func(prefix netip.Prefix, addr netip.Addr) {
			for _, p := range s.pools {
				if p.prefix == prefix && prefix.Contains(addr) {
					p.cursor = p.offset(addr)
				}
			}
		})
	if err != nil {
		return err
	}
	s.expire(elapsed)
	a.state = s
	return nil
}

// ready makes memory fit for use; a.mu is held.
func (a *Allocator) ready() (elapsed time.Duration, wall time.Time, err error) {
	if a.db == nil {
		return 0, time.Time{}, ErrClosed
	}
	if a.stale {
		if err := a.load(); err != nil {
			return 0, time.Time{}, fmt.Errorf("read lease database again after a failed write: %w", err)
		}
	}
	elapsed, wall = a.ticker.read()
	a.expire(elapsed)
	return elapsed, wall, nil
}

// update commits a change together with the housekeeping that is due.
func (a *Allocator) update(change func(tx *bolt.Tx) error) error {
	err := a.db.Update(func(tx *bolt.Tx) error {
		for addr := range a.cooled {
			if err := tx.Bucket(bucketCooling).Delete([]byte(addr.String())); err != nil {
				return err
			}
		}
		return change(tx)
	})
	if err != nil {
		a.stale = true
		return fmt.Errorf("write lease database: %w", err)
	}
	clear(a.cooled)
	return nil
}

// pool finds the pool that an address lies in, nil if none.
func (s *state) pool(a netip.Addr) *pool {
	for _, p := range s.pools {
		if p.prefix.Contains(a) {
			return p
		}
	}
	return nil
}

// hold notes that an owner has a free address.
func (s *state) hold(a netip.Addr, owner string) {
	s.holders[a] = owner
	if p := s.pool(a); p != nil {
		o := p.offset(a)
		p.taken.add(o)
		if p.leasable(o) {
			p.used++
		}
	}
}

// drop notes that nobody holds an address any more.
func (s *state) drop(a netip.Addr) {
	delete(s.holders, a)
	if p := s.pool(a); p != nil {
		o := p.offset(a)
		p.taken.remove(o)
		if p.leasable(o) {
			p.used--
		}
	}
}

// cool notes that a free address rests.
func (s *state) cool(a netip.Addr, until time.Duration) {
	s.cooling.add(a, until)
	delete(s.cooled, a)
	if p := s.pool(a); p != nil {
		o := p.offset(a)
		p.taken.add(o)
		if p.leasable(o) {
			p.cooling++
		}
	}
}

// expire frees what has cooled down.
func (s *state) expire(now time.Duration) {
	for c := s.cooling.first(); c != nil && c.until <= now; c = s.cooling.first() {
		s.cooling.popFirst()
		s.cooled[c.addr] = struct{}{}
		if p := s.pool(c.addr); p != nil {
			o := p.offset(c.addr)
			p.taken.remove(o)
			if p.leasable(o) {
				p.cooling--
			}
		}
	}
}
