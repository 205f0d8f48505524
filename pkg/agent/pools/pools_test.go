// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"

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
}

func newBed(t *testing.T) *bed {
	leases, err := ipam.Open(filepath.Join(t.TempDir(), "leases.db"), ipam.Options{Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, CoolDown: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leases.Close() })
	b := &bed{T: t, leases: leases}
	b.pools = New(leases, func() { b.wakes++ })
	return b
}

func (b *bed) set(blocks ...ipam.Block) {
	b.Helper()
	if err := b.pools.Set(blocks); err != nil {
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
	got, err := b.pools.Use()
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
	b.set(block("web", "10.1.0.0/28"), block("web", "fd01::/126"))
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
	for range 2 {
		if err := b.pools.Set([]ipam.Block{block("web", "10.0.0.0/28")}); !errors.Is(err, ipam.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	}
	b.set()
}
