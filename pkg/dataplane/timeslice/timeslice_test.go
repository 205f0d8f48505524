// SPDX-License-Identifier: Apache-2.0

package timeslice

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// TestRenew: with one processor another goroutine runs in Renew or not at all.
func TestRenew(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ran atomic.Bool
	go func() { ran.Store(true) }()
	Renew()
	if !ran.Load() {
		t.Error("the other goroutine has not run")
	}
	if n := testing.AllocsPerRun(100, Renew); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRenew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Renew()
	}
}
