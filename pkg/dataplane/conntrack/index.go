// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// index finds refs by a hash of their keys: open addressing with linear probing. A
// slot is half a word, so that sixteen of them share a cache line: ref+1 in its lower
// bits, 0 if it is empty, and above them as much of the hash as there is room for.
type index struct {
	slots []uint32
	shift uint   // of a hash, to its first slot
	refs  uint32 // mask of ref+1
}

// newIndex has room for both directions of so many connections, at a load of a third to
// two thirds, in memory that anonymous gave.
func newIndex(conns int) (index, error) {
	order := uint(bits.Len(uint(conns)*3 - 1))
	mem, err := anonymous(4 << order)
	if err != nil {
		return index{}, fmt.Errorf("allocate connection index: %w", err)
	}
	return index{slots: unsafe.Slice((*uint32)(unsafe.Pointer(&mem[0])), 1<<order), shift: 64 - order, refs: 1<<bits.Len(uint(conns)*2) - 1}, nil
}

// bytes are its memory.
func (x *index) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&x.slots[0])), len(x.slots)*4)
}

// over is an index of the same size in other memory, which is zero.
func (x *index) over(mem []byte) index {
	return index{slots: unsafe.Slice((*uint32)(unsafe.Pointer(&mem[0])), len(x.slots)), shift: x.shift, refs: x.refs}
}

// from returns, from place i on, the first ref whose key may have the hash, and where
// to look on; NoRef if there is none.
func (x *index) from(i, hash uint64) (Ref, uint64) {
	want := uint32(hash) &^ x.refs
	for ; ; i++ {
		s := x.slots[i&uint64(len(x.slots)-1)]
		if s&^x.refs == want || s == 0 {
			return Ref(s&x.refs) - 1, i + 1
		}
	}
}

func (x *index) add(hash uint64, r Ref) {
	mask := uint64(len(x.slots) - 1)
	i := hash >> x.shift
	for x.slots[i&mask] != 0 {
		i++
	}
	x.slots[i&mask] = uint32(hash)&^x.refs | uint32(r+1)
}

// remove closes the gap by moving back what follows (Knuth, 6.4 algorithm R), so that
// no tombstones gather. hashOf is the hash of a ref's key.
func (x *index) remove(hash uint64, r Ref, hashOf func(Ref) uint64) {
	mask := uint64(len(x.slots) - 1)
	i := hash >> x.shift & mask
	for x.slots[i]&x.refs != uint32(r+1) {
		if x.slots[i] == 0 {
			return
		}
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; x.slots[j] != 0; j = (j + 1) & mask {
		home := hashOf(Ref(x.slots[j]&x.refs)-1) >> x.shift & mask
		if (j-home)&mask >= (j-i)&mask {
			x.slots[i] = x.slots[j]
			i = j
		}
	}
	x.slots[i] = 0
}
