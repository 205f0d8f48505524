// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
)

// oracle is the obvious allocator: maps, loops over every address.
type oracle struct {
	pools, reserved []netip.Prefix
	blocks          []Block
	coolDown        time.Duration
	leases          map[string][]netip.Addr
	holder          map[netip.Addr]string
	until           map[netip.Addr]time.Time
}

// all are the pools and blocks, the pools without a name.
func (o *oracle) all() []Block {
	var all []Block
	for _, p := range o.pools {
		all = append(all, Block{Prefix: p})
	}
	return append(all, o.blocks...)
}

func (o *oracle) leasable(a netip.Addr) bool {
	for _, b := range o.all() {
		p := b.Prefix
		if !p.Contains(a) {
			continue
		}
		hosts := a.BitLen() - p.Bits()
		if hosts > 1 && a == p.Addr() || hosts > 1 && a.Is4() && !p.Contains(a.Next()) {
			return false
		}
		for _, r := range o.reserved {
			if r.Contains(a) {
				return false
			}
		}
		return true
	}
	return false
}

func (o *oracle) free(a netip.Addr, now time.Time) bool {
	_, held := o.holder[a]
	return o.leasable(a) && !held && !o.until[a].After(now)
}

// anyFree tells whether a family has pools of the name, and a free address in them.
func (o *oracle) anyFree(name string, is4 bool, now time.Time) (pools, free bool) {
	for _, b := range o.all() {
		p := b.Prefix
		if b.Pool != name || p.Addr().Is4() != is4 {
			continue
		}
		pools = true
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if o.free(a, now) {
				return true, true
			}
		}
	}
	return pools, false
}

func (o *oracle) expect(owner string, req Request, now time.Time) error {
	requested := req.Addresses
	if l, ok := o.leases[owner]; ok {
		for _, r := range requested {
			if !slices.Contains(l, r) {
				return ErrOtherLease
			}
		}
		return nil
	}
	for _, r := range requested {
		in := slices.ContainsFunc(o.all(), func(b Block) bool { return b.Prefix.Contains(r) })
		_, held := o.holder[r]
		switch {
		case !in:
			return ErrNotInPool
		case !o.leasable(r):
			return ErrReserved
		case held:
			return ErrInUse
		case o.until[r].After(now):
			return ErrCooling
		}
	}
	for _, is4 := range []bool{true, false} {
		if slices.ContainsFunc(requested, func(a netip.Addr) bool { return a.Is4() == is4 }) {
			continue
		}
		if wanted, free := o.wanted(req, is4, now); wanted && !free {
			return ErrExhausted
		}
	}
	if four, _ := o.wanted(req, true, now); !four && len(requested) == 0 {
		if six, _ := o.wanted(req, false, now); !six {
			return ErrExhausted
		}
	}
	return nil
}

// wanted tells whether a request wants an address of a family, and whether there is
// a free one.
func (o *oracle) wanted(req Request, is4 bool, now time.Time) (wanted, free bool) {
	pools, free := o.anyFree(req.Pool, is4, now)
	if req.Pool == "" {
		return pools, free
	}
	return is4 && req.IPv4 || !is4 && req.IPv6, free
}

func (o *oracle) release(owner string, now time.Time) {
	for _, a := range o.leases[owner] {
		delete(o.holder, a)
		o.until[a] = now.Add(o.coolDown)
	}
	delete(o.leases, owner)
}

func (o *oracle) usage(now time.Time) []PoolUsage {
	var out []PoolUsage
	for _, b := range o.all() {
		p := b.Prefix
		u := PoolUsage{Name: b.Pool, Pool: p}
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if !o.leasable(a) {
				continue
			}
			u.Size++
			if _, held := o.holder[a]; held {
				u.Used++
			} else if !o.free(a, now) {
				u.Cooling++
			}
		}
		out = append(out, u)
	}
	return out
}

// Random operations, restarts with other pools, blocks that come and go, and a clock
// that goes on: the allocator agrees with the oracle at each step.
func TestAgainstOracle(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	layouts := []Options{
		{Pools: prefixes("10.0.0.0/28", "fd00::/124"), Reserved: prefixes("10.0.0.1/32", "fd00::1/128")},
		{Pools: prefixes("10.0.0.0/29", "10.0.0.8/31", "fd00::/125"), Reserved: prefixes("10.0.0.4/31")},
		{Pools: prefixes("10.0.0.0/27")},
		{Pools: prefixes("fd00::8/127", "fd00::10/124", "10.0.0.9/32")},
	}
	blocks := []Block{
		{"a", netip.MustParsePrefix("10.0.0.32/29")}, {"a", netip.MustParsePrefix("10.0.0.40/30")}, {"a", netip.MustParsePrefix("fd00::20/126")},
		{"b", netip.MustParsePrefix("fd00::40/125")}, {"c", netip.MustParsePrefix("10.0.0.48/31")},
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			c := newClock()
			path := filepath.Join(t.TempDir(), "db")
			const coolDown = 10 * time.Second
			o := &oracle{
				coolDown: coolDown,
				leases:   make(map[string][]netip.Addr),
				holder:   make(map[netip.Addr]string),
				until:    make(map[netip.Addr]time.Time),
			}
			var a *Allocator
			reopen := func() {
				if a != nil {
					a.Close()
				}
				l := layouts[r.IntN(len(layouts))]
				l.CoolDown, l.Now = coolDown, c.now
				o.pools, o.reserved = l.Pools, l.Reserved
				a = open(t, path, l)
				a.db.NoSync = true // nobody cuts the power here
				o.blocks = nil
			}
			setBlocks := func() {
				o.blocks = nil
				for _, i := range r.Perm(len(blocks)) {
					if r.IntN(3) > 0 {
						o.blocks = append(o.blocks, blocks[i])
					}
				}
				if err := a.SetBlocks(o.blocks); err != nil {
					t.Fatal(err)
				}
			}
			reopen()
			for step := range 400 {
				owner := fmt.Sprintf("net%d/c%d/eth0", r.IntN(2), r.IntN(20))
				what := owner
				switch n := r.IntN(100); {
				case n < 50:
					req := Request{Pool: []string{"", "", "a", "b", "c"}[r.IntN(5)], IPv4: r.IntN(3) > 0, IPv6: r.IntN(3) > 0}
					for _, a := range addrs(fmt.Sprintf("10.0.0.%d", r.IntN(50)), fmt.Sprintf("fd00::%x", r.IntN(70))) {
						if r.IntN(5) == 0 {
							req.Addresses = append(req.Addresses, a)
						}
					}
					what = fmt.Sprintf("lease %s %v", owner, req)
					o.checkLease(t, a, owner, req, c.now())
				case n < 75:
					what = "release " + owner
					if l, err := a.Release(owner); err != nil || !slices.Equal(l.Addresses, o.leases[owner]) {
						t.Fatalf("step %d: %s: %v, %v, oracle has %v", step, what, l, err, o.leases[owner])
					}
					o.release(owner, c.now())
				case n < 80:
					what = "gc"
					o.checkGC(t, a, r, c.now())
				case n < 90:
					c.step(time.Duration(r.IntN(7000)) * time.Millisecond)
				case n < 93:
					what = "blocks"
					setBlocks()
				case n < 95:
					what = "drop"
					o.checkDrop(t, a, blocks[r.IntN(len(blocks))], c.now())
				default:
					what = "reopen"
					reopen()
					if r.IntN(2) == 0 {
						setBlocks()
					}
				}
				o.checkState(t, a, fmt.Sprintf("step %d: %s", step, what), c.now())
			}
		})
	}
}

func (o *oracle) checkLease(t *testing.T, a *Allocator, owner string, req Request, now time.Time) {
	t.Helper()
	want := o.expect(owner, req, now)
	had := o.leases[owner]
	l, err := a.Lease(context.Background(), owner, req)
	if !errors.Is(err, want) {
		t.Fatalf("lease %s %v: error %v, want %v", owner, req, err, want)
	}
	if err != nil {
		return
	}
	if had != nil {
		if !slices.Equal(l.Addresses, had) {
			t.Fatalf("lease %s again: %v, had %v", owner, l.Addresses, had)
		}
		return
	}
	families := 0
	for _, is4 := range []bool{true, false} {
		named := slices.ContainsFunc(req.Addresses, func(a netip.Addr) bool { return a.Is4() == is4 })
		if wanted, _ := o.wanted(req, is4, now); wanted || named {
			families++
		}
	}
	if len(l.Addresses) != families {
		t.Fatalf("lease %s: %v for %d families", owner, l.Addresses, families)
	}
	for _, r := range req.Addresses {
		if !slices.Contains(l.Addresses, r) {
			t.Fatalf("lease %s: %v lacks %s", owner, l.Addresses, r)
		}
	}
	for _, addr := range l.Addresses {
		if !o.free(addr, now) {
			t.Fatalf("lease %s: %s is not free", owner, addr)
		}
		in := func(b Block) bool { return b.Pool == req.Pool && b.Prefix.Contains(addr) }
		if !slices.Contains(req.Addresses, addr) && !slices.ContainsFunc(o.all(), in) {
			t.Fatalf("lease %s of pool %q: %s is of another", owner, req.Pool, addr)
		}
		o.holder[addr] = owner
	}
	o.leases[owner] = l.Addresses
}

func (o *oracle) checkGC(t *testing.T, a *Allocator, r *rand.Rand, now time.Time) {
	t.Helper()
	var live, dead []string
	for owner := range o.leases {
		network, _, _, _ := ParseOwner(owner)
		if r.IntN(3) > 0 {
			live = append(live, owner)
		} else if network == "net0" {
			dead = append(dead, owner)
		}
	}
	slices.Sort(dead)
	removed, err := a.GC(NetworkPrefix("net0"), live)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range removed {
		got = append(got, l.Owner)
	}
	if !slices.Equal(got, dead) {
		t.Fatalf("gc removed %v, want %v", got, dead)
	}
	for _, owner := range dead {
		o.release(owner, now)
	}
}

func (o *oracle) checkDrop(t *testing.T, a *Allocator, b Block, now time.Time) {
	t.Helper()
	want := slices.Contains(o.blocks, b)
	for addr := b.Prefix.Addr(); b.Prefix.Contains(addr); addr = addr.Next() {
		_, held := o.holder[addr]
		want = want && !held && !o.until[addr].After(now)
	}
	got, err := a.Drop(b)
	if err != nil || got != want {
		t.Fatalf("drop %v: %v, %v; want %v", b, got, err, want)
	}
	if got {
		o.blocks = slices.DeleteFunc(slices.Clone(o.blocks), func(c Block) bool { return c == b })
	}
}

func (o *oracle) checkState(t *testing.T, a *Allocator, what string, now time.Time) {
	t.Helper()
	if got, want := usage(t, a), o.usage(now); !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: usage %+v\nwant %+v", what, got, want)
	}
	leases, err := a.Leases()
	if err != nil || len(leases) != len(o.leases) {
		t.Fatalf("%s: %d leases, %v, want %d", what, len(leases), err, len(o.leases))
	}
	orphans, err := a.Orphans()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases {
		if !slices.Equal(l.Addresses, o.leases[l.Owner]) {
			t.Fatalf("%s: %s has %v, want %v", what, l.Owner, l.Addresses, o.leases[l.Owner])
		}
		orphan := slices.ContainsFunc(l.Addresses, func(a netip.Addr) bool { return !o.leasable(a) })
		listed := slices.ContainsFunc(orphans, func(x Lease) bool { return x.Owner == l.Owner })
		if orphan != listed {
			t.Fatalf("%s: %s %v: orphan %v, listed %v", what, l.Owner, l.Addresses, orphan, listed)
		}
	}
}
