// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/kube"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/pools"
	"netio.dev/netio/pkg/ipam"
)

// Blocks implements node.Source.
func (s *Source) Blocks() []ipam.Block {
	view, _, _ := s.latest()
	return view.Blocks[s.name]
}

// choosePool says in a request where its pod has its addresses from.
func (s *Source) choosePool(ctx context.Context, w *kube.Watcher, p *desired.Pod, r *attach.Request) error {
	pool, err := w.PoolOf(ctx, p)
	if errors.Is(err, kube.ErrUnknownPool) {
		return fmt.Errorf("%w: %w", attach.ErrPool, err)
	}
	if err != nil || pool == nil {
		return err
	}
	r.Pool = attach.Pool{Name: pool.Name, IPv4: pool.IPv4 > 0, IPv6: pool.IPv6 > 0, Refused: func() string {
		view, _, _ := s.latest()
		if now := view.Pools[pool.Name]; now != nil {
			return now.Refused
		}
		return "the NetIOIPPool is gone"
	}}
	return nil
}

// poolsOf is what a report says of pools.
func poolsOf(r node.Report) []v1alpha1.NodePoolStatus {
	var all []v1alpha1.NodePoolStatus
	use := func(n pools.Numbers) v1alpha1.NodePoolUse {
		return v1alpha1.NodePoolUse{Used: n.Used, Free: n.Free, Wanted: n.Wanted}
	}
	for _, p := range r.Pools {
		s := v1alpha1.NodePoolStatus{Name: p.Pool, IPv4: use(p.IPv4), IPv6: use(p.IPv6)}
		for _, b := range p.Blocks {
			s.Blocks = append(s.Blocks, b.String())
		}
		for _, b := range p.Empty {
			s.Empty = append(s.Empty, b.String())
		}
		all = append(all, s)
	}
	return all
}

func prefixesOf(blocks []ipam.Block) []netip.Prefix {
	var all []netip.Prefix
	for _, b := range blocks {
		all = append(all, b.Prefix)
	}
	return all
}
