// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"sync"
	"time"
)

// Times of a Keeper.
const (
	// period is how often everything is compared though nothing was told.
	period = 30 * time.Second
	// again is when a pass follows one that failed.
	again = time.Second
	// pause lets a burst of changes become one pass, and bounds how often passes
	// follow each other where other programs change the network all the time.
	pause = 100 * time.Millisecond
)

// Keeper keeps the host's network as it is wanted: after every change of the
// wish, of the host's links, addresses, routes and nftables, and now and then.
type Keeper struct {
	host *Host
	done func(Config, error)

	mu   sync.Mutex
	want *Config
	poke chan struct{}
}

// NewKeeper makes a Keeper that calls done after each pass, with what was wanted and
// the result.
func NewKeeper(h *Host, done func(Config, error)) *Keeper {
	return &Keeper{host: h, done: done, poke: make(chan struct{}, 1)}
}

// Want changes what is wanted. Until it is called nothing is done.
func (k *Keeper) Want(c Config) {
	k.mu.Lock()
	k.want = &c
	k.mu.Unlock()
	k.Poke()
}

// Poke asks for a pass soon.
func (k *Keeper) Poke() {
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, and leaves the network as it is.
func (k *Keeper) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { k.host.watch(ctx, k.Poke) })
	defer watcher.Wait()
	defer cancel()
	wait := period
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.poke:
		case <-time.After(wait):
		}
		k.mu.Lock()
		want := k.want
		k.mu.Unlock()
		if want != nil {
			err := k.host.Reconcile(*want)
			if wait = period; err != nil {
				wait = again
			}
			k.done(*want, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
