// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"container/heap"
	"net/netip"
	"time"
)

// ticker measures the time since Open. It never goes back: a clock that does
// stands still for that step. With time.Now it follows the monotonic clock.
type ticker struct {
	now     func() time.Time
	last    time.Time
	elapsed time.Duration
}

func newTicker(now func() time.Time) *ticker {
	return &ticker{now: now, last: now()}
}

// read returns the time since Open and the wall clock, for what is written down.
func (t *ticker) read() (elapsed time.Duration, wall time.Time) {
	now := t.now()
	if d := now.Sub(t.last); d > 0 {
		t.elapsed += d
	}
	t.last = now
	return t.elapsed, now.Round(0).UTC()
}

// coolingAddr is an address that was given back.
type coolingAddr struct {
	addr  netip.Addr
	until time.Duration // on the ticker
	index int           // in the heap
}

// coolingQueue orders what cools down by when it is free.
type coolingQueue struct {
	heap   coolingHeap
	byAddr map[netip.Addr]*coolingAddr
}

func newCoolingQueue() coolingQueue {
	return coolingQueue{byAddr: make(map[netip.Addr]*coolingAddr)}
}

func (q *coolingQueue) add(a netip.Addr, until time.Duration) {
	if c := q.byAddr[a]; c != nil {
		c.until = until
		heap.Fix(&q.heap, c.index)
		return
	}
	c := &coolingAddr{addr: a, until: until}
	q.byAddr[a] = c
	heap.Push(&q.heap, c)
}

// first is the address that is free next, nil if none cools.
func (q *coolingQueue) first() *coolingAddr {
	if len(q.heap) == 0 {
		return nil
	}
	return q.heap[0]
}

func (q *coolingQueue) popFirst() {
	c := heap.Pop(&q.heap).(*coolingAddr)
	delete(q.byAddr, c.addr)
}

// firstIn is when the first address of one of the pools is free. It looks at
// all that cools: it is for messages.
func (q *coolingQueue) firstIn(pools []*pool) (until time.Duration, ok bool) {
	for _, c := range q.heap {
		if ok && c.until >= until {
			continue
		}
		for _, p := range pools {
			if p.prefix.Contains(c.addr) && p.leasable(p.offset(c.addr)) {
				until, ok = c.until, true
				break
			}
		}
	}
	return until, ok
}

type coolingHeap []*coolingAddr

func (h coolingHeap) Len() int           { return len(h) }
func (h coolingHeap) Less(i, j int) bool { return h[i].until < h[j].until }

func (h coolingHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *coolingHeap) Push(x any) {
	c := x.(*coolingAddr)
	c.index = len(*h)
	*h = append(*h, c)
}

func (h *coolingHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return c
}
