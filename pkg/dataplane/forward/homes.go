// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/cpu"

	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/hash"
)

// homes tells which lane's table has a connection, for the workers of the other
// lanes: a hash table of the tuples of all connections.
//
//	tuple ──hash──> one of two buckets of eight slots: tag 56 bits | lane+1
//
// To find and to remove takes no lock. To add takes one of many, for as long as it takes
// to look at two buckets: of lanes that have a flow's first packets at the same time
// exactly one is to have it, and no other is to look as if it had, even for a moment,
// as packets are handed to it then.
//
// Only a flow's first packet and packets at the wrong lane look here. A tuple is
// known by 56 bits of a keyed hash: should two ever share them, packets of one
// are handed to a lane that knows nothing of them and judges them itself.
type homes struct {
	slots  []atomic.Uint64
	seed   [2]uint64
	shift  uint
	adding [homeLocks]homeLock
}

// homeLock is of the tuples that share some bits of their tags.
type homeLock struct {
	sync.Mutex
	_ cpu.CacheLinePad
}

const (
	homeBucket = 8
	homeLane   = 0xff
	homeLocks  = 64
)

// newHomes has room for both directions of so many connections at a load of a
// half.
func newHomes(conns int) *homes {
	order := uint(max(bits.Len(uint(conns)*4-1), 4))
	return &homes{slots: make([]atomic.Uint64, 1<<order), seed: [2]uint64{rand.Uint64(), rand.Uint64()}, shift: 64 - order + 3}
}

// buckets are the two places of a tuple, and its tag.
func (h *homes) buckets(k *conntrack.Key) (b [2][]atomic.Uint64, tag uint64) {
	x := hash.Mix(hash.Mix(k.Src.Hi^h.seed[0], k.Src.Lo^h.seed[1]), hash.Mix(k.Dst.Hi^h.seed[1], k.Dst.Lo^h.seed[0])^k.L4)
	x = hash.Scramble(x ^ h.seed[0])
	one, two := x>>h.shift, hash.Scramble(x)>>h.shift
	b[0] = h.slots[one*homeBucket:][:homeBucket]
	b[1] = h.slots[two*homeBucket:][:homeBucket]
	return b, hash.Scramble(x^h.seed[1]) &^ homeLane
}

// is tells whether a slot has a tag.
func is(v, tag uint64) bool { return v&^homeLane == tag && v != 0 }

// find returns the lane that has a tuple.
func (h *homes) find(k *conntrack.Key) (lane int, ok bool) {
	b, tag := h.buckets(k)
	for i := range b {
		for j := range b[i] {
			if v := b[i][j].Load(); is(v, tag) {
				return int(v&homeLane) - 1, true
			}
		}
	}
	return 0, false
}

// add notes that a lane has a tuple. It returns false if any lane has it already.
// A tuple that finds no room is not noted: at a load of a half that does not happen.
func (h *homes) add(k *conntrack.Key, lane int) bool {
	b, tag := h.buckets(k)
	l := &h.adding[tag>>56%homeLocks]
	l.Lock()
	defer l.Unlock()
	if _, ok := h.find(k); ok {
		return false
	}
	h.put(b, tag|uint64(lane+1))
	return true
}

// put stores a value in a free slot of the emptier bucket, if there is one.
func (h *homes) put(b [2][]atomic.Uint64, v uint64) {
	var used [2]int
	for i := range b {
		for j := range b[i] {
			if b[i][j].Load() != 0 {
				used[i]++
			}
		}
	}
	if used[1] < used[0] {
		b[0], b[1] = b[1], b[0]
	}
	for i := range b {
		for j := range b[i] {
			if b[i][j].CompareAndSwap(0, v) {
				return
			}
		}
	}
}

// remove forgets that a lane has a tuple.
func (h *homes) remove(k *conntrack.Key, lane int) {
	b, tag := h.buckets(k)
	v := tag | uint64(lane+1)
	for i := range b {
		for j := range b[i] {
			if b[i][j].CompareAndSwap(v, 0) {
				return
			}
		}
	}
}
