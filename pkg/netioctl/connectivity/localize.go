// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// maxTraces is how many broken links forwarders are asked about.
const maxTraces = 24

// trace asks the forwarders about broken links.
func (t *test) trace(ctx context.Context) {
	asked := 0
	var wg sync.WaitGroup
	turns := make(chan struct{}, 4)
	for i := range t.results {
		r := &t.results[i]
		to, err := netip.ParseAddrPort(r.question.Target)
		if r.By == probe.Echo {
			var addr netip.Addr
			addr, err = netip.ParseAddr(r.question.Target)
			to = netip.AddrPortFrom(addr, 0)
		}
		if r.State != Failed || err != nil || r.from == nil || r.Kind == NetworkPolicy || r.Kind == NetIOPolicyDeny || ctx.Err() != nil {
			continue
		}
		if asked++; asked > maxTraces {
			continue
		}
		from, pod := t.sender(r.from, to.Addr())
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			text, drops, err := t.observer.Trace(ctx, r.from.node, pod, from, to, r.By)
			if err != nil {
				text = fmt.Sprintf("cannot be had: %v", err)
			}
			r.Trace, r.Dropped = text, drops
		})
	}
	wg.Wait()
	if asked > maxTraces {
		t.notes = append(t.notes, fmt.Sprintf("of %d broken links the forwarders were asked about the first %d", asked, maxTraces))
	}
}

// sender is who sends: a pod's name, or a node's address.
func (t *test) sender(p *party, to netip.Addr) (netip.Addr, string) {
	family := 6
	if to.Is4() {
		family = 4
	}
	if p.role != roleHost {
		from, _ := p.address(family)
		return from, t.namespace + "/" + p.name
	}
	i := slices.IndexFunc(t.layout.members, func(m member) bool { return m.name == p.node })
	from, _ := ofFamily(t.layout.members[i].addresses, family)
	return from, ""
}
