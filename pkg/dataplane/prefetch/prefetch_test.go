// SPDX-License-Identifier: Apache-2.0

package prefetch

import (
	"slices"
	"testing"
	"unsafe"
)

// TestLines: nothing is changed, neither what is asked for nor the list, and no address
// is wrong.
func TestLines(t *testing.T) {
	mem := make([]uint64, 1<<10)
	for i := range mem {
		mem[i] = uint64(i)
	}
	want := slices.Clone(mem)
	for _, offsets := range [][]uint64{nil, {0}, {8, 64, 4096}, {1 << 20, 1 << 40, 1<<64 - 1, 1 << 63}} {
		list := slices.Clone(offsets)
		Lines(unsafe.Pointer(&mem[0]), list)
		Lines(nil, list)
		if !slices.Equal(list, offsets) || !slices.Equal(mem, want) {
			t.Errorf("%x: something was changed", offsets)
		}
	}
}

func BenchmarkLines(b *testing.B) {
	mem := make([]uint64, 1<<10)
	offsets := make([]uint64, 16)
	for i := range offsets {
		offsets[i] = uint64(i * 64)
	}
	for b.Loop() {
		Lines(unsafe.Pointer(&mem[0]), offsets)
	}
}
