// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"sync"
	"sync/atomic"
)

// mailbox takes work that must be done on a worker's goroutine, between two
// vectors: whoever wants to look at a worker's tables asks the worker.
type mailbox struct {
	pending atomic.Bool
	mu      sync.Mutex
	queue   []func()
	closed  bool
}

// put queues f; false after close.
func (m *mailbox) put(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.queue = append(m.queue, f)
	m.pending.Store(true)
	return true
}

// drain runs what is queued.
func (m *mailbox) drain() {
	m.mu.Lock()
	queue := m.queue
	m.queue = nil
	m.pending.Store(false)
	m.mu.Unlock()
	for _, f := range queue {
		f()
	}
}

// close refuses further work and runs what was queued.
func (m *mailbox) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.drain()
}

// Do runs f on the worker's goroutine and waits for it. It returns ctx's error
// if that comes first (f may still run), or errStopped.
func (w *Worker) Do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	if !w.mail.put(func() { f(); close(done) }) {
		return errStopped
	}
	if err := w.dev.Wake(w.lane); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
