// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"time"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/netnsid"
	"netio.dev/netio/pkg/ipam"
)

// blockPatience is how long an Add waits for a block of its pool: longer than the
// operator takes, and than another one needs to take its place.
const blockPatience = 5 * time.Second

// Pool is where a pod has its addresses from. The zero value is the node's own
// prefixes.
type Pool struct {
	Name string
	// IPv4 and IPv6 are the families that the pod gets.
	IPv4, IPv6 bool
	// Refused tells why the node does not get a block, "" if nothing is known to be
	// wrong.
	Refused func() string
}

// Blocks are what a Manager needs of a pools.Pools.
type Blocks interface {
	Wait(pool string, four, six bool) (done func())
	Changed() <-chan struct{}
}

// addFromPool adds an attachment; while its pool has no address here it waits for a
// block.
func (m *Manager) addFromPool(ctx context.Context, r Request, nsID netnsid.ID) (*attachment.Attachment, error) {
	if r.Pool.Name == "" || m.blocks == nil {
		return m.add(ctx, r, nsID)
	}
	timer := time.NewTimer(blockPatience)
	defer timer.Stop()
	var done func()
	for {
		changed := m.blocks.Changed()
		a, err := m.add(ctx, r, nsID)
		if err == nil || !errors.Is(err, ipam.ErrExhausted) {
			if done != nil {
				done()
			}
			return a, err
		}
		if done == nil {
			done = m.blocks.Wait(r.Pool.Name, r.Pool.IPv4, r.Pool.IPv6)
		}
		select {
		case <-changed:
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		done()
		why := "no block came within " + blockPatience.String() + "; is netio-operator running?"
		if r.Pool.Refused != nil {
			if refused := r.Pool.Refused(); refused != "" {
				why = refused
			}
		}
		return nil, fmt.Errorf("pool %s: %w; %s", r.Pool.Name, err, why)
	}
}
