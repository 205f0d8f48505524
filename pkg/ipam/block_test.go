// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func block(pool, prefix string) Block { return Block{pool, netip.MustParsePrefix(prefix)} }

// TestBlocks: a pool grows while it is in use, and what was leased stays when blocks
// go and come.
func TestBlocks(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "db")
	o := Options{Pools: prefixes("10.0.0.0/29"), CoolDown: time.Minute, Now: c.now}
	a := open(t, path, o)
	of := func(owner string, six bool) (netip.Addr, error) {
		l, err := a.Lease(context.Background(), owner, Request{Pool: "web", IPv4: true, IPv6: six})
		if err != nil {
			return netip.Addr{}, err
		}
		return l.Addresses[0], nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(owner, want string) {
		t.Helper()
		if got, err := of(owner, false); err != nil || got.String() != want {
			t.Errorf("%s has %v, %v; expected %s", owner, got, err, want)
		}
	}
	if _, err := of("p", false); !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "no IPv4 block of pool web") {
		t.Errorf("without a block: %v", err)
	}
	must(a.SetBlocks([]Block{block("web", "10.1.0.0/30")}))
	expect("p", "10.1.0.1")
	expect("q", "10.1.0.2")
	if _, err := of("r", false); !errors.Is(err, ErrExhausted) {
		t.Errorf("more than a block has: %v", err)
	}
	if _, err := of("r", true); !errors.Is(err, ErrExhausted) {
		t.Errorf("without a block of IPv6: %v", err)
	}
	must(a.SetBlocks([]Block{block("web", "10.1.0.0/30"), block("web", "10.1.0.8/30")}))
	expect("r", "10.1.0.9")
	if got := lease(t, a, "s"); len(got) != 1 || got[0].String() != "10.0.0.1" {
		t.Errorf("without a pool's name: %v", got)
	}
	if _, err := a.Release("q"); err != nil {
		t.Fatal(err)
	}

	// The first block is gone, also after a restart, and comes back.
	must(a.SetBlocks([]Block{block("web", "10.1.0.8/30")}))
	if orphans, err := a.Orphans(); err != nil || len(orphans) != 1 || orphans[0].Owner != "p" {
		t.Errorf("orphans %v, %v", orphans, err)
	}
	must(a.Close())
	a = open(t, path, o)
	expect("p", "10.1.0.1")
	must(a.SetBlocks([]Block{block("web", "10.1.0.0/30"), block("other", "10.1.0.8/30")}))
	want := []PoolUsage{
		{Pool: o.Pools[0], Size: 6, Used: 1}, {Name: "web", Pool: netip.MustParsePrefix("10.1.0.0/30"), Size: 2, Used: 1, Cooling: 1},
		{Name: "other", Pool: netip.MustParsePrefix("10.1.0.8/30"), Size: 2, Used: 1},
	}
	if got := usage(t, a); !slices.Equal(got, want) {
		t.Errorf("usage %+v, expected %+v", got, want)
	}
	if _, err := of("q", false); !errors.Is(err, ErrExhausted) {
		t.Errorf("an address that cools down: %v", err)
	}
	c.step(time.Minute)
	expect("q", "10.1.0.2")
}

// TestWrongBlocks: they are named and left out, and the others are taken.
func TestWrongBlocks(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/24")})
	err := a.SetBlocks([]Block{
		block("in", "10.0.0.128/28"), block("host", "10.1.0.1/28"), block("", "10.4.0.0/28"), block("good", "10.2.0.0/28"), block("twice", "10.2.0.8/30"), block("better", "10.3.0.0/28"),
	})
	if !errors.Is(err, ErrInvalid) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"10.0.0.128/28 of pool in", "did you mean 10.1.0.0/28", "10.4.0.0/28: its pool has no name", "10.2.0.8/30 of pool twice: invalid: it overlaps with 10.2.0.0/28"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected %q in it", err, want)
		}
	}
	if got := usage(t, a); len(got) != 3 || got[1].Name != "good" || got[2].Name != "better" {
		t.Errorf("usage %+v", got)
	}
}
