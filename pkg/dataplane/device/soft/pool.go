// SPDX-License-Identifier: Apache-2.0

package soft

import "sync"

// pool is a lane's stack of free indices (nbufs or parked slots). Last in,
// first out keeps those in use few and in the cache. With several lanes the
// stacks exchange chunks through a shared one, since what one lane hands out
// may come back on another.
type pool struct {
	idx    []uint32
	shared *sharedPool // nil with one lane
}

type sharedPool struct {
	mu  sync.Mutex
	idx []uint32
}

const poolChunk = 64

// newPools deals free indices out to n lanes.
func newPools(n int, free []uint32) []pool {
	pools := make([]pool, n)
	if n == 1 {
		pools[0].idx = free
		return pools
	}
	shared := &sharedPool{idx: free}
	for i := range pools {
		pools[i] = pool{shared: shared, idx: make([]uint32, 0, 2*poolChunk)}
	}
	return pools
}

// get takes an index; false when there is none.
func (p *pool) get() (uint32, bool) {
	n := len(p.idx)
	if n == 0 {
		if p.shared == nil || !p.refill() {
			return 0, false
		}
		n = len(p.idx)
	}
	i := p.idx[n-1]
	p.idx = p.idx[:n-1]
	return i, true
}

func (p *pool) put(i uint32) {
	if p.shared != nil && len(p.idx) == cap(p.idx) {
		p.spill()
	}
	p.idx = append(p.idx, i)
}

func (p *pool) refill() bool {
	s := p.shared
	s.mu.Lock()
	k := min(poolChunk, len(s.idx))
	p.idx = append(p.idx, s.idx[len(s.idx)-k:]...)
	s.idx = s.idx[:len(s.idx)-k]
	s.mu.Unlock()
	return k > 0
}

// spill gives the older half back.
func (p *pool) spill() {
	s := p.shared
	s.mu.Lock()
	s.idx = append(s.idx, p.idx[:poolChunk]...)
	s.mu.Unlock()
	n := copy(p.idx, p.idx[poolChunk:])
	p.idx = p.idx[:n]
}
