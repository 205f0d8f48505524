// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is CLOCK_MONOTONIC in nanoseconds. time.Since reads that clock
// without a system call, relative to a base that is measured once.
func monotonic() uint64 { return uint64(time.Since(clockBase) + clockOffset) }

var clockBase = time.Now()

var clockOffset = func() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano()) - time.Since(clockBase)
}()
