// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"sync/atomic"

	"golang.org/x/sys/cpu"
)

// rateWindow is the time over which the bound on a worker's rate is kept, in
// nanoseconds.
const rateWindow = 10_000_000

// Worker is one worker's end of Events. Its methods belong to one goroutine.
type Worker struct {
	ring   atomic.Pointer[ring] // nil while nobody watches
	burst  uint32               // records per rateWindow
	budget uint32               // records left in this window
	window int64                // when it began, by the records' time
	lost   atomic.Uint64        // records that found no room or no budget
	all    atomic.Bool          // somebody watches more than what is logged
	_      cpu.CacheLinePad
}

// Active tells whether anybody watches. A caller that has to gather a record
// first asks it before.
func (w *Worker) Active() bool { return w.ring.Load() != nil }

// Wants tells whether anybody watches records of this kind: a log of what rules
// ask to be logged must not lose its share of the rate to the rest.
func (w *Worker) Wants(logged bool) bool { return w.Active() && (logged || w.all.Load()) }

// Emit hands a copy of the record to those who watch. It never waits, never
// allocates, and does nothing while nobody watches.
func (w *Worker) Emit(r *Record) {
	if g := w.ring.Load(); g != nil {
		w.emit(g, r)
	}
}

func (w *Worker) emit(g *ring, r *Record) {
	// A clock that was set back gives a huge unsigned difference: a new window.
	if uint64(r.Time-w.window) >= rateWindow {
		w.window, w.budget = r.Time, w.burst
	}
	if w.budget == 0 || !g.push(r) {
		w.lost.Add(1)
		return
	}
	w.budget--
}
