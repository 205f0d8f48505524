// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestScheduling: all threads of a worker are batch threads of the niceness asked for,
// those that it started with and those that came later.
func TestScheduling(t *testing.T) {
	for _, c := range []struct {
		flag string
		want int32
	}{{"-10", -10}, {"0", 0}, {"5", 5}} {
		t.Run(c.flag, func(t *testing.T) {
			b := &bed{t: t, runDir: t.TempDir(), log: &logBuffer{}}
			if os.Getuid() != 0 {
				t.Skip("needs root: TUN, and a niceness below 0")
			}
			sup := b.supervisor("--device", "soft", "--nice", c.flag)
			defer end(sup)
			pid := int(b.status().GetPid())
			tasks := fmt.Sprintf("/proc/%d/task", pid)
			threads, err := os.ReadDir(tasks)
			if err != nil || len(threads) < 3 {
				t.Fatalf("threads %v, %v", threads, err)
			}
			for _, e := range threads {
				tid, err := strconv.Atoi(e.Name())
				if err != nil {
					t.Fatal(err)
				}
				attr, err := unix.SchedGetAttr(tid, 0)
				if err != nil || attr.Policy != unix.SCHED_BATCH || attr.Nice != c.want {
					t.Errorf("thread %d: %+v, %v; want a batch thread of niceness %d", tid, attr, err, c.want)
				}
			}
		})
	}
}
