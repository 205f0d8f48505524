// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"sync"

	"netio.dev/netio/pkg/agent/attachment"
)

// keyedMutex is a mutex for each attachment.
type keyedMutex struct {
	mu   sync.Mutex
	held map[attachment.ID]chan struct{}
}

// lock waits for the attachment's mutex, or until ctx is done, and returns what
// gives it up.
func (k *keyedMutex) lock(ctx context.Context, id attachment.ID) (unlock func(), err error) {
	for {
		k.mu.Lock()
		if k.held == nil {
			k.held = map[attachment.ID]chan struct{}{}
		}
		other, taken := k.held[id]
		if !taken {
			mine := make(chan struct{})
			k.held[id] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, id)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
