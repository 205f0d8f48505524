// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestScheduling: a worker's thread is a batch thread with every niceness.
func TestScheduling(t *testing.T) {
	for _, c := range []struct {
		set  []int
		nice int32
	}{
		{[]int{0}, 0},
		{[]int{5}, 5},
		{[]int{5, 0}, 5},
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // ends with the goroutine
			for _, nice := range c.set {
				if err := setScheduling(nice); err != nil {
					t.Error(err)
				}
			}
			attr, err := unix.SchedGetAttr(0, 0)
			if err != nil || attr.Policy != unix.SCHED_BATCH || attr.Nice != c.nice {
				t.Errorf("after %v: %+v, %v; want a batch thread of niceness %d", c.set, attr, err, c.nice)
			}
		}()
		<-done
	}
}
