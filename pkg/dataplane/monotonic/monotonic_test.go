// SPDX-License-Identifier: Apache-2.0

package monotonic

import "testing"

// TestNow holds the clock between two readings of the system call.
func TestNow(t *testing.T) {
	for range 1000 {
		before := read()
		now := Now()
		// The base is exact to the time that its two readings took.
		if after := read(); now < before-1e6 || now > after+1e6 {
			t.Fatalf("%v, not between %v and %v", now, before, after)
		}
	}
}

func BenchmarkNow(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Now()
	}
}
