// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	workers = 4
	// held is how many pods a worker keeps at a time.
	held = 4
	// moreThreads is how many threads a process may have more than at first,
	// however many pods came and went.
	moreThreads = 32
)

// bed is the test while it runs.
type bed struct {
	*testing.T
	*host
	ctx     context.Context
	cancel  context.CancelFunc
	weather weather
	// steps is held for reading while a pod is added or removed, and for
	// writing by who needs the pods to stand still.
	steps sync.RWMutex

	mu    sync.Mutex
	live  map[string]*pod
	last  int // number of the pod that was added last
	adds  []time.Duration
	tally map[string]int // of what happened, for the log

}

// TestChurn adds and removes pods while processes are killed, and then finds
// everything as it was before.
func TestChurn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and TUN interfaces need root")
	}
	b := &bed{T: t, host: newHost(t), live: map[string]*pod{}, tally: map[string]int{}}
	b.ctx, b.cancel = context.WithCancel(t.Context())
	defer b.cancel()
	before := b.baseline()
	threads, err := b.threads()
	must(t, err)

	began := time.Now()
	b.churn()
	took := time.Since(began)
	if t.Failed() {
		return
	}
	must(t, b.runtime.gc(b.ctx, nil))
	b.settle(before)

	after, err := b.threads()
	must(t, err)
	for name, n := range after {
		if n > threads[name]+moreThreads {
			t.Errorf("%s has %d threads, and had %d before", name, n, threads[name])
		}
	}
	slices.Sort(b.adds)
	t.Logf("%d pods in %.1f s: %.1f pods/s; ADD p50 %v, p99 %v", b.last, took.Seconds(), float64(b.last)/took.Seconds(),
		quantile(b.adds, 50), quantile(b.adds, 99))
	for _, what := range slices.Sorted(maps.Keys(b.tally)) {
		t.Logf("%5d %s", b.tally[what], what)
	}
	t.Logf("things counted: %d; threads before %v, after %v", len(before), threads, after)
}

func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*percent-1)/100].Round(100 * time.Microsecond)
}

// baseline counts until two counts agree: daemons that have just started are
// still busy.
func (b *bed) baseline() inventory {
	b.Helper()
	before, err := b.take(b.ctx)
	must(b.T, err)
	must(b.T, await(b.ctx, func() error {
		again, err := b.take(b.ctx)
		if err != nil {
			return err
		}
		changes := before.changes(again)
		before = again
		if len(changes) > 0 {
			return errors.New(strings.Join(changes, "\n"))
		}
		return nil
	}))
	return before
}

// settle waits until everything is as before. That takes a while: addresses
// cool down, connections are closed.
func (b *bed) settle(before inventory) {
	b.Helper()
	err := await(b.ctx, func() error {
		after, err := b.take(b.ctx)
		if err != nil {
			return err
		}
		if changes := before.changes(after); len(changes) > 0 {
			return errors.New(strings.Join(changes, "\n"))
		}
		return nil
	})
	if err != nil {
		b.Errorf("not as before the churn, %v", err)
	}
}

// churn returns when all pods have come and gone, and what was killed is back.
func (b *bed) churn() {
	var group sync.WaitGroup
	for n := range workers {
		group.Go(func() {
			w := &worker{bed: b, random: rand.New(rand.NewPCG(*seed, uint64(n)))}
			w.run()
		})
	}
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	b.events(done)
	<-done
}

// fail ends the test early.
func (b *bed) fail(err error) {
	if b.ctx.Err() == nil {
		b.Error(err)
	}
	b.cancel()
}

func (b *bed) note(what string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tally[fmt.Sprintf(what, args...)]++
}

// next is the number of the next pod, 0 if there have been enough.
func (b *bed) next() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last >= *podCount || b.ctx.Err() != nil {
		return 0
	}
	b.last++
	return b.last
}

// count is how many pods there have been.
func (b *bed) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *bed) join(p *pod, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live[p.id] = p
	b.adds = append(b.adds, took)
}

func (b *bed) leave(p *pod) {
	p.leaving.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.live, p.id)
}

// pods that are attached now, by name.
func (b *bed) pods() []*pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Values(b.live), func(x, y *pod) int { return strings.Compare(x.id, y.id) })
}
