// SPDX-License-Identifier: Apache-2.0

//go:build race

package ring

import "sync/atomic"

// storePlain is atomic under the race detector, which does not know that a
// reader which loads a slot too early sees the stale toggle and stops.
func storePlain(p *uint32, v uint32) { atomic.StoreUint32(p, v) }
