// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// overlay is what a table knows of the one that it lies over.
//
//	Lookup ──> own index ── not there ──> the other's: copied up, under the same Ref
//	Insert, Delete ──> own slab and index only
//
// Slab and index have the places of the other table, and memory for those that are
// touched.
type overlay struct {
	below   *Table
	covered map[uint32]bool // slab entries that are not the other's any more
	gone    uint32          // the one of them that was forgotten
	sampler uint32
}

// Overlay makes a table that begins with what t has and keeps every change to
// itself, to try a packet on. It belongs to t's goroutine, holds while t does not
// change, and must be closed. At most one connection that t has may be
// forgotten in it before the next one is made.
func (t *Table) Overlay() (*Table, error) {
	slab, index := len(t.slab)*int(unsafe.Sizeof(Conn{})), len(t.index.bytes())
	mem, err := unix.Mmap(-1, 0, storeHdrSize+slab+index, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes over the connection table: %w", storeHdrSize+slab+index, err)
	}
	st := &store{mem: mem, hdr: (*storeHdr)(unsafe.Pointer(&mem[0]))}
	st.hdr.capacity = uint64(len(t.slab))
	o := &Table{
		slab: st.conns(), index: t.index.over(mem[storeHdrSize+slab:]), secret: t.secret, store: st, high: t.high, limit: t.limit,
		over: &overlay{below: t, covered: map[uint32]bool{}, gone: nilConn, sampler: t.sampler},
	}
	if n := len(t.free); n > 0 {
		o.free = append(o.free, t.free[n-1])
	}
	return o, nil
}

// below is the direction of the table below that has the key, unless it is covered.
func (t *Table) below(k *Key, hash uint64) Ref {
	r := t.over.below.Find(k, hash)
	if r != NoRef && t.over.covered[r.Index()] {
		return NoRef
	}
	return r
}

// adopt copies a connection of the table below that has the key.
func (t *Table) adopt(k *Key, hash uint64) Ref {
	r := t.below(k, hash)
	if r == NoRef {
		return NoRef
	}
	i := r.Index()
	c := &t.slab[i]
	*c = t.over.below.slab[i]
	t.over.covered[i] = true
	t.live++
	orig, reply := c.Dirs[Original].Key(), c.Dirs[Reply].Key()
	t.index.add(t.Hash(&orig), Ref(i<<1))
	if orig != reply {
		t.index.add(t.Hash(&reply), Ref(i<<1|1))
	}
	return r
}

// cover hides a connection of the table below that is being forgotten.
func (t *Table) cover(i uint32) {
	if i >= t.over.below.high || t.over.below.slab[i].valid == 0 {
		return
	}
	t.over.gone = i
	if !t.over.covered[i] { // never looked up: there is nothing to take from the index
		t.over.covered[i] = true
		t.free = append(t.free, i)
	}
}

// makeRoomBelow is makeRoom as the table below would do it.
func (t *Table) makeRoomBelow(owner, now uint32) error {
	v, err := t.over.below.victim(owner, now, t.over.gone, &t.over.sampler)
	if v != nilConn {
		t.Delete(Ref(v << 1))
	}
	return err
}
