// SPDX-License-Identifier: Apache-2.0

// Package nap makes short waits in system calls cheap.
package nap

import (
	"time"

	"golang.org/x/sys/unix"
)

// Time is how long a wait may keep a processor from Go's scheduler, which would give
// it away and look for another one afterwards: that costs more than a packet. What
// the scheduler wants meanwhile it says by a signal, which ends the call.
const Time = time.Millisecond

// Syscall is unix.RawSyscall6 or unix.Syscall6. Memory that it is given is not
// on a goroutine's stack.
type Syscall func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, errno unix.Errno)

// Wait waits for at most dur, or without limit if dur < 0: for Time in a call that Go's
// scheduler does not know of, for the rest in one that it does. wait makes the call
// for at most the time that it is given, and returns how many things have happened.
func Wait(dur time.Duration, wait func(Syscall, time.Duration) (int, unix.Errno)) (int, unix.Errno) {
	if dur >= 0 && dur <= Time {
		return wait(unix.RawSyscall6, dur)
	}
	n, errno := wait(unix.RawSyscall6, Time)
	if n > 0 || errno != 0 {
		return n, errno
	}
	if dur > 0 {
		dur -= Time
	}
	return wait(unix.Syscall6, dur)
}
