// SPDX-License-Identifier: Apache-2.0

package forwarder

import "time"

// Waits between attempts to join a forwarder that answers with errors.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// retryTimer tells when to try again.
type retryTimer struct {
	wait time.Duration // 0: nothing failed
	due  time.Time
}

func (r *retryTimer) failed() {
	r.wait = min(max(2*r.wait, firstRetry), lastRetry)
	r.due = time.Now().Add(r.wait)
}

func (r *retryTimer) succeeded() { *r = retryTimer{} }

// after fires when it is time to try again or at the deadline, whichever is
// first; never if there is neither.
func (r *retryTimer) after(deadline time.Time) <-chan time.Time {
	due := r.due
	if due.IsZero() || !deadline.IsZero() && deadline.Before(due) {
		due = deadline
	}
	if due.IsZero() {
		return nil
	}
	return time.After(time.Until(due))
}
