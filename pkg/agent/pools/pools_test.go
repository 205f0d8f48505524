// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"netio.dev/netio/pkg/ipam"
)

func block(pool, prefix string) ipam.Block {
	return ipam.Block{Pool: pool, Prefix: netip.MustParsePrefix(prefix)}
}

type bed struct {
	*testing.T
	leases *ipam.Allocator
	pools  *Pools
	wakes  int
	time   time.Time
}

func newBed(t *testing.T) *bed {
	leases, err := ipam.Open(filepath.Join(t.TempDir(), "leases.db"), ipam.Options{Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, CoolDown: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leases.Close() })
	b := &bed{T: t, leases: leases, time: time.Unix(1, 0)}
	b.pools = New(leases, func() { b.wakes++ })
	b.pools.now = func() time.Time { return b.time }
	return b
}

// set gives the node blocks, and writes that it has seen them.
func (b *bed) set(blocks ...ipam.Block) {
	b.Helper()
	if err := b.pools.Set(blocks); err != nil {
		b.Fatal(err)
	}
	b.write(blocks...)
}

// write writes how it is, in what has these blocks.
func (b *bed) write(has ...ipam.Block) {
	b.Helper()
	list, _, err := b.pools.Use()
	if err == nil {
		err = b.pools.Written(list, has)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) lease(owner string, r ipam.Request) {
	b.Helper()
	if _, err := b.leases.Lease(context.Background(), owner, r); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) expect(what string, want ...Use) {
	b.Helper()
	got, _, err := b.pools.Use()
	if err != nil {
		b.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		b.Errorf("%s: %s", what, diff)
	}
}

func use(pool string, four, six Numbers, blocks ...string) Use {
	u := Use{Pool: pool, IPv4: four, IPv6: six}
	for _, p := range blocks {
		u.Blocks = append(u.Blocks, netip.MustParsePrefix(p))
	}
	return u
}

// TestUse: what is wanted is what pods wait for, and a margin where there are blocks.
func TestUse(t *testing.T) {
	b := newBed(t)
	b.expect("nothing")
	changed := b.pools.Changed()
	one, two := b.pools.Wait("web", true, true), b.pools.Wait("web", true, false)
	b.expect("two pods wait", use("web", Numbers{Wanted: 2}, Numbers{Wanted: 1}))
	if b.wakes != 2 {
		t.Errorf("woken %d times", b.wakes)
	}
	blocks := []ipam.Block{block("web", "10.1.0.0/28"), block("web", "fd01::/126")}
	if err := b.pools.Set(blocks); err != nil {
		t.Fatal(err)
	}
	b.expect("blocks that it has just seen", use("web", Numbers{}, Numbers{}, "10.1.0.0/28", "fd01::/126"))
	if _, pending, err := b.pools.Use(); !pending || err != nil {
		t.Errorf("pending: %v, %v", pending, err)
	}
	select {
	case <-changed:
		t.Error("pods have addresses of what nobody was told")
	default:
	}
	b.write(blocks...)
	select {
	case <-changed:
	default:
		t.Error("who waits does not hear of the blocks")
	}
	b.expect("there are enough of IPv4", use("web", Numbers{Free: 14}, Numbers{Free: 3}, "10.1.0.0/28", "fd01::/126"))
	one()
	two()
	web := ipam.Request{Pool: "web", IPv4: true}
	for _, owner := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		b.lease(owner, web)
	}
	b.expect("as many as the margin", use("web", Numbers{Used: 11, Free: 3}, Numbers{Free: 3}, "10.1.0.0/28", "fd01::/126"))
	b.lease("l", web)
	b.expect("one less", use("web", Numbers{Used: 12, Free: 2, Wanted: 1}, Numbers{Free: 3}, "10.1.0.0/28", "fd01::/126"))
	b.lease("node", ipam.Request{})
	b.expect("the node's own addresses do not count", use("web", Numbers{Used: 12, Free: 2, Wanted: 1}, Numbers{Free: 3}, "10.1.0.0/28", "fd01::/126"))
}

// TestLost: blocks that are taken from a node while pods have addresses of them are
// still told of.
func TestLost(t *testing.T) {
	b := newBed(t)
	b.set(block("web", "10.1.0.0/28"), block("web", "10.1.0.16/28"))
	b.lease("a", ipam.Request{Pool: "web", IPv4: true})
	b.set()
	b.expect("one has a pod", use("web", Numbers{}, Numbers{}, "10.1.0.0/28"))
	if _, err := b.leases.Lease(context.Background(), "b", ipam.Request{Pool: "web", IPv4: true}); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("a lease of it: %v", err)
	}
	b.set(block("web", "10.1.0.0/28"))
	b.expect("it is back", use("web", Numbers{Used: 1, Free: 13}, Numbers{}, "10.1.0.0/28"))
	b.set()
	if _, err := b.leases.Release("a"); err != nil {
		t.Fatal(err)
	}
	b.expect("the pod is gone")
}

// TestWrongBlock: it is said as long as it is so.
func TestWrongBlock(t *testing.T) {
	b := newBed(t)
	wrong := []ipam.Block{block("web", "10.0.0.0/28")}
	if err := b.pools.Set(wrong); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		list, _, err := b.pools.Use()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.pools.Written(list, wrong); !errors.Is(err, ipam.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	}
	if _, pending, err := b.pools.Use(); pending || err != nil {
		t.Errorf("it is waited for: %v", err)
	}
	b.set()
}

// TestGiveBack: blocks that are empty for a while are given back, if enough is left
// for pods to come, and had back if they are wanted before the operator took them.
func TestGiveBack(t *testing.T) {
	b := newBed(t)
	one, two, three := block("web", "10.1.0.0/28"), block("web", "10.1.0.16/28"), block("web", "10.1.0.32/28")
	b.set(one, two, three)
	web := ipam.Request{Pool: "web", IPv4: true}
	b.lease("a", web)
	b.expect("they have just come", use("web", Numbers{Used: 1, Free: 41}, Numbers{}, "10.1.0.0/28", "10.1.0.16/28", "10.1.0.32/28"))
	b.time = b.time.Add(idle)
	back := use("web", Numbers{Used: 1, Free: 13}, Numbers{}, "10.1.0.0/28")
	back.Empty = []netip.Prefix{two.Prefix, three.Prefix}
	b.expect("two are enough", back)
	b.write(one, two, three)
	b.expect("nothing is leased from them", back)

	// The operator takes one, and is slow with the other.
	b.set(one, two)
	back.Empty = back.Empty[:1]
	b.expect("one is taken", back)
	for _, owner := range []string{"b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		b.lease(owner, web)
	}
	b.expect("enough are left", func() Use { u := back; u.IPv4 = Numbers{Used: 11, Free: 3}; return u }())
	b.lease("l", web)
	b.expect("it is wanted", use("web", Numbers{Used: 12, Free: 2}, Numbers{}, "10.1.0.0/28", "10.1.0.16/28"))
	b.write(one) // the operator was faster
	b.expect("but taken", use("web", Numbers{Used: 12, Free: 2}, Numbers{}, "10.1.0.0/28", "10.1.0.16/28"))
	b.set(one)
	b.expect("another one is wanted", use("web", Numbers{Used: 12, Free: 2, Wanted: 1}, Numbers{}, "10.1.0.0/28"))
	b.set(one, two)
	b.expect("it is back", use("web", Numbers{Used: 12, Free: 16}, Numbers{}, "10.1.0.0/28", "10.1.0.16/28"))

	// All pods are gone.
	for _, owner := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
		if _, err := b.leases.Release(owner); err != nil {
			t.Fatal(err)
		}
	}
	b.expect("not at once", use("web", Numbers{Free: 28}, Numbers{}, "10.1.0.0/28", "10.1.0.16/28"))
	b.time = b.time.Add(idle)
	none := use("web", Numbers{}, Numbers{})
	none.Empty = []netip.Prefix{one.Prefix, two.Prefix}
	b.expect("nothing is held ready", none)
	done := b.pools.Wait("web", true, false)
	b.write(one, two)
	b.expect("a pod comes", func() Use {
		u := use("web", Numbers{Free: 14}, Numbers{}, "10.1.0.16/28")
		u.Empty = []netip.Prefix{one.Prefix}
		return u
	}())
	done()
}

// TestRestart: what the last agent's pods have counts, and nothing is wanted before
// the blocks are leased from.
func TestRestart(t *testing.T) {
	b := newBed(t)
	b.set(block("web", "10.1.0.0/28"))
	b.lease("a", ipam.Request{Pool: "web", IPv4: true})
	if err := b.leases.SetBlocks(nil); err != nil {
		t.Fatal(err)
	}
	b.pools = New(b.leases, func() {})
	if err := b.pools.Set([]ipam.Block{block("web", "10.1.0.0/28")}); err != nil {
		t.Fatal(err)
	}
	b.expect("at the start", use("web", Numbers{Used: 1}, Numbers{}, "10.1.0.0/28"))
	b.write(block("web", "10.1.0.0/28"))
	b.expect("then", use("web", Numbers{Used: 1, Free: 13}, Numbers{}, "10.1.0.0/28"))
}
