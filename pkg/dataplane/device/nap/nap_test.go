// SPDX-License-Identifier: Apache-2.0

package nap

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWait(t *testing.T) {
	for _, c := range []struct {
		name  string
		dur   time.Duration
		n     int // of the first call
		errno unix.Errno
		want  []time.Duration
	}{
		{"not at all", 0, 0, 0, []time.Duration{0}},
		{"a nap", Time, 0, 0, []time.Duration{Time}},
		{"longer", 5 * Time, 0, 0, []time.Duration{Time, 4 * Time}},
		{"without limit", -1, 0, 0, []time.Duration{Time, -1}},
		{"something happens", -1, 2, 0, []time.Duration{Time}},
		{"interrupted", 5 * Time, 0, unix.EINTR, []time.Duration{Time}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var calls []time.Duration
			n, errno := Wait(c.dur, func(call Syscall, dur time.Duration) (int, unix.Errno) {
				calls = append(calls, dur)
				if _, _, errno := call(unix.SYS_GETPID, 0, 0, 0, 0, 0, 0); errno != 0 {
					t.Error(errno)
				}
				if len(calls) > 1 {
					return 0, 0
				}
				return c.n, c.errno
			})
			if n != c.n || errno != c.errno || !slices.Equal(calls, c.want) {
				t.Errorf("%d, %v after calls of %v; want %d, %v after %v", n, errno, calls, c.n, c.errno, c.want)
			}
		})
	}
}
