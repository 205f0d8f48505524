// SPDX-License-Identifier: Apache-2.0

// Package prefetch asks the processor for cache lines before they are needed. A load
// would do that, too, but holds up what comes after it once the processor has as many
// instructions in sight as it can; a prefetch instruction holds up nothing.
package prefetch

import "unsafe"

// Lines has the cache lines at base+offset on their way to the first-level cache, for
// each offset. It reads nothing: an address where there is no memory is left alone.
func Lines(base unsafe.Pointer, offsets []uint64) {
	if len(offsets) > 0 {
		lines(base, unsafe.SliceData(offsets), len(offsets))
	}
}
