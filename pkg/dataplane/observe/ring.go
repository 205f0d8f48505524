// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"sync/atomic"

	"golang.org/x/sys/cpu"
)

// ring is a bounded queue of records from one writer to one reader. Neither
// ever waits. The indices are free-running counts.
type ring struct {
	slots []Record // a power of two
	_     cpu.CacheLinePad
	tail  atomic.Uint64 // records written
	seen  uint64        // writer's last look at head
	_     cpu.CacheLinePad
	head  atomic.Uint64 // records read
	_     cpu.CacheLinePad
}

func newRing(size int) *ring {
	return &ring{slots: make([]Record, size)}
}

// push copies a record into the ring; false if it is full.
func (g *ring) push(r *Record) bool {
	tail := g.tail.Load()
	if tail-g.seen == uint64(len(g.slots)) {
		if g.seen = g.head.Load(); tail-g.seen == uint64(len(g.slots)) {
			return false
		}
	}
	g.slots[tail&uint64(len(g.slots)-1)] = *r
	g.tail.Store(tail + 1)
	return true
}

// drain appends the records that are there to dst and empties the ring.
func (g *ring) drain(dst []Record) []Record {
	head, tail := g.head.Load(), g.tail.Load()
	mask := uint64(len(g.slots) - 1)
	if first, end := head&mask, tail&mask; head != tail && first >= end {
		dst = append(append(dst, g.slots[first:]...), g.slots[:end]...)
	} else {
		dst = append(dst, g.slots[first:end]...)
	}
	g.head.Store(tail)
	return dst
}
