// SPDX-License-Identifier: Apache-2.0

package churn

import "sync"

// weather tells what was done while nothing was amiss, and so had to succeed.
type weather struct {
	mu     sync.Mutex
	storms int // begun so far
	storm  bool
}

// moment in the weather: the number of storms so far, or -1 within one.
type moment int

// begin is called before a process is killed.
func (w *weather) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.storms++
	w.storm = true
}

// end is called once all works again.
func (w *weather) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.storm = false
}

func (w *weather) now() moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.storm {
		return -1
	}
	return moment(w.storms)
}

// fairSince tells whether nothing has been amiss since then.
func (w *weather) fairSince(m moment) bool { return m >= 0 && w.now() == m }
