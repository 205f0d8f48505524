// SPDX-License-Identifier: Apache-2.0

// Package timeslice keeps a goroutine that always runs from being interrupted.
//
// Go's monitor thread sends a signal to who has run for 10 ms on end: system calls
// of both threads and a moment in which nothing is forwarded, although nobody waits
// for the processor.
package timeslice

import (
	"time"
	_ "unsafe" // for go:linkname
)

// Every is how often to call Renew: the monitor looks every 10 ms at most.
const Every = 2 * time.Millisecond

// Renew lets other goroutines that this processor has run, and begins another slice.
// Where there are none it takes less than a microsecond, and no system call.
// runtime.Gosched would wake another thread, which looks for work. The goroutine must
// not be locked to its thread: the scheduler would have another thread wake that one.
func Renew() { yield() }

// yield is of the functions that the runtime promises to keep for others, see
// https://go.dev/issue/67401.
//
//go:linkname yield runtime.goyield
func yield()
