// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is CLOCK_MONOTONIC: unlike Go's own it means the same to the next
// process, which inherits the connection table.
func monotonic() time.Duration {
	var ts unix.Timespec
	// It cannot fail with a valid clock and pointer.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// wall is the time of the present vector for people, in Unix nanoseconds.
func (w *Worker) wall() int64 { return int64(w.now) + w.epoch }

// epochOffset is what to add to CLOCK_MONOTONIC to get Unix time.
func epochOffset() int64 { return time.Now().UnixNano() - int64(monotonic()) }
