// SPDX-License-Identifier: Apache-2.0

// Package monotonic reads CLOCK_MONOTONIC (see clock_gettime(2)): unlike the
// monotonic part of time.Time it means the same to every process of a machine
// until that is booted.
package monotonic

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time on the clock. It makes no system call: time.Since reads the
// same clock in the vDSO, relative to a base that is measured once.
func Now() time.Duration { return time.Since(base) + offset }

var (
	base   = time.Now()
	offset = read() - time.Since(base)
)

func read() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with a valid clock
	return time.Duration(ts.Nano())
}
