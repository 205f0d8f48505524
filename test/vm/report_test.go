// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"testing"
)

func TestReports(t *testing.T) {
	for _, test := range []struct {
		name, log string
		want      []string // first lines
	}{
		{"nothing", "[    1.0] netio: loading out-of-tree module taints kernel.\n[ 2.0] mtrr: your CPUs had inconsistent settings", nil},
		{"KASAN", "a\n[ 1.0] BUG: KASAN: slab-out-of-bounds in f+0x1/0x2 [netio]\nCall Trace:", []string{"BUG: KASAN: slab-out-of-bounds"}},
		{"lockdep", "WARNING: possible circular locking dependency detected", []string{"possible circular"}},
		{"sleep", "BUG: sleeping function called from invalid context at mm/slab.h:1", []string{"BUG: sleeping"}},
		{"oops", "Oops: 0002 [#1] PREEMPT SMP", []string{"Oops"}},
		{"leak", "unreferenced object 0xffff888003f2e000 (size 64):\n  comm \"init\"", []string{"unreferenced object"}},
		{"leaks counted", "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", []string{"kmemleak: 3"}},
		{"no leaks counted", "kmemleak: 0 new suspected memory leaks", nil},
		{"stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", []string{"rcu_preempt"}},
		{"reference", "unregister_netdevice: waiting for knet0 to become free. Usage count = 2", []string{"waiting for knet0"}},
		{"two", "WARNING: CPU: 0 PID: 1 at a\nx\nBUG: unable to handle page fault", []string{"WARNING: CPU", "BUG: unable"}},
		{"race of the kernel's", "BUG: KCSAN: data-race in tick_sched / timer\nread to 0x1\n=====\nnetio-test: run", nil},
		{"race of ours", "BUG: KCSAN: data-race in f [netio] / g [netio]\nread to 0x1", []string{"BUG: KCSAN"}},
		{"race of ours below", "BUG: KCSAN: data-race in memcpy / memcpy\nread to 0x1\n f+0x1 [netio_virtio]", []string{"BUG: KCSAN"}},
		{"known in UML", "WARNING: suspicious RCU usage\nlib/maple_tree.c:860 suspicious rcu_dereference_check() usage!\n force_flush_all+0xef", nil},
		{"after one known in UML", "WARNING: suspicious RCU usage\n force_flush_all+0xef\nWARNING: CPU: 0 at netio", []string{"WARNING: CPU: 0"}},
		{"not known in UML", "WARNING: suspicious RCU usage\n netio_xmit+0xef [netio]", []string{"suspicious RCU"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Reports(strings.Split(test.log, "\n"))
			if len(got) != len(test.want) {
				t.Fatalf("got %d reports: %v", len(got), got)
			}
			for i, want := range test.want {
				if !strings.Contains(got[i].Lines[0], want) {
					t.Errorf("report %d begins with %q, want %q", i, got[i].Lines[0], want)
				}
			}
		})
	}
}
