// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/hostnet"
	"netio.dev/netio/pkg/ipam"
)

// podPrefixes are those that the node's pods have their addresses from: its podCIDRs,
// and blocks of the families that it has a router's address of.
func podPrefixes(c *config.Config, blocks []ipam.Block) []netip.Prefix {
	all := slices.Clone(c.PodCIDRs)
	for _, b := range blocks {
		if _, routed := routerOf(c.RouterAddresses, b.Prefix.Addr()); routed {
			all = append(all, b.Prefix)
		}
	}
	return all
}

// offer notes the blocks that the host's network, being as c says, leads to the
// forwarder: pods may have addresses of them when that is published.
func (a *agent) offer(c hostnet.Config) {
	a.mu.Lock()
	blocks := slices.DeleteFunc(slices.Clone(a.facts.Blocks), func(b ipam.Block) bool { return !slices.Contains(c.Pods, b.Prefix) })
	a.mu.Unlock()
	a.problems.Replace("pools", lines("pools", a.pools.Set(blocks))...)
}

// ask has how the node is published at once.
func (a *agent) ask() {
	select {
	case a.asking <- struct{}{}:
	default:
	}
}

// identify completes a request by what the source knows. A pod gets the families of
// its pool that the node can route.
func (a *agent) identify(ctx context.Context, r *attach.Request) error {
	if err := a.Source.Identify(ctx, r); err != nil || r.Pool.Name == "" {
		return err
	}
	for _, f := range []struct {
		wanted *bool
		any    netip.Addr
	}{{&r.Pool.IPv4, netip.IPv4Unspecified()}, {&r.Pool.IPv6, netip.IPv6Unspecified()}} {
		_, routed := routerOf(a.current().RouterAddresses, f.any)
		*f.wanted = *f.wanted && routed
	}
	if !r.Pool.IPv4 && !r.Pool.IPv6 {
		return fmt.Errorf("%w: the pool %s has only addresses of a family that the node has no spec.podCIDRs of; choose a pool with the other family", attach.ErrPool, r.Pool.Name)
	}
	return nil
}
