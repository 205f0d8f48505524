// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	addresspools "netio.dev/netio/pkg/agent/pools"
	"netio.dev/netio/pkg/ipam"
)

// TestPool: a pod of a pool waits for a block, and has its addresses of it.
func TestPool(t *testing.T) {
	b := start(t)
	asked := make(chan struct{}, 10)
	blocks := addresspools.New(b.agent.leases, func() { asked <- struct{}{} })
	b.agent.UseBlocks(blocks)
	r := b.pod("web")
	r.Pool = Pool{Name: "web", IPv4: true}
	give := func(b ipam.Block) {
		err := blocks.Set([]ipam.Block{b})
		if err == nil {
			err = blocks.Written([]addresspools.Use{{Pool: b.Pool, Blocks: []netip.Prefix{b.Prefix}}}, []ipam.Block{b})
		}
		if err != nil {
			t.Error(err)
		}
	}
	go func() {
		<-asked
		give(ipam.Block{Pool: "other", Prefix: netip.MustParsePrefix("10.8.0.0/30")})
		give(ipam.Block{Pool: "web", Prefix: netip.MustParsePrefix("10.9.0.0/30")})
	}()
	a := b.add(r)
	if a.Pool != "web" || len(a.Addresses) != 1 || a.Addresses[0].String() != "10.9.0.1" {
		t.Errorf("attachment %+v", a)
	}
	if use, _, err := blocks.Use(); err != nil || len(use) != 1 || use[0].IPv4.Used != 1 || use[0].IPv4.Wanted != 0 {
		t.Errorf("nobody waits any more: %+v, %v", use, err)
	}
	if got := b.add(b.pod("plain")); got.Pool != "" || len(got.Addresses) != 2 {
		t.Errorf("without a pool: %+v", got)
	}
}

// TestPoolRefused: who waits in vain is told why.
func TestPoolRefused(t *testing.T) {
	b := start(t)
	b.agent.UseBlocks(addresspools.New(b.agent.leases, func() {}))
	r := b.pod("web")
	r.Pool = Pool{Name: "web", IPv4: true, Refused: func() string { return "it overlaps with another one" }}
	_, err := b.agent.Add(context.Background(), r)
	if !errors.Is(err, ipam.ErrExhausted) || !strings.Contains(err.Error(), "it overlaps with another one") {
		t.Errorf("error %v", err)
	}
	if leases, err := b.agent.leases.Leases(); err != nil || len(leases) != 0 {
		t.Errorf("leases %v, %v", leases, err)
	}
}

// TestNoPool: that a pod's pool is not there is not the host's fault.
func TestNoPool(t *testing.T) {
	b := start(t)
	b.agent.Use(b.agent.keeper, func(context.Context, *Request) error { return fmt.Errorf("%w: there is none", ErrPool) }, func() {})
	_, err := b.agent.Add(context.Background(), b.pod("web"))
	if !errors.Is(err, ErrPool) || errors.Is(err, ErrNotReady) {
		t.Errorf("error %v", err)
	}
}
