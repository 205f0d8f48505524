// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// setScheduling makes all threads of the process batch threads of a niceness, or of the one
// that they have if it is 0 (sched(7)). Batch threads do not take the processor from who
// wakes them: a process that sends several packets has sent all of them when a worker runs.
// Threads begin as those that make them, so all will be, and a worker's goroutine may
// run on any. The others are few and seldom run; one that held up
// a worker, as the garbage collector's may, must not wait for other processes either.
func setScheduling(nice int) error {
	done := map[int]bool{}
	for found := true; found; {
		found = false
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, e := range entries {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || done[tid] {
				continue
			}
			// One that is not set yet may have made another meanwhile.
			found, done[tid] = true, true
			if err := scheduleThread(tid, nice); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("thread %d: %w", tid, err)
			}
		}
	}
	return nil
}

func scheduleThread(tid, nice int) error {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return err
	}
	attr.Policy = unix.SCHED_BATCH
	if nice != 0 {
		attr.Nice = int32(nice)
	}
	return unix.SchedSetAttr(tid, attr, 0)
}

// prioritize does that as far as it may: what it may not it tells.
func prioritize(nice int) error {
	err := setScheduling(nice)
	if err != nil && nice != 0 {
		err = errors.Join(err, setScheduling(0))
	}
	return err
}
