// SPDX-License-Identifier: Apache-2.0

// Package ring implements the toggle rings of a NetIO lane (paper, section 8;
// barriers A to G of netio.h). The reader never writes to the ring:
//
//	       pos&mask
//	Writer ──────> [T|M|action|param] ... ──────> Reader
//	  ^  first entry of a batch stored last,        │ stops at the first
//	  │  with release                               │ stale toggle
//	  └────────────── head (entries consumed) <─────┘
//
// A Writer and a Reader each belong to one goroutine at a time.
package ring

import (
	"sync/atomic"

	"netio.dev/netio/pkg/dataplane/abi"
)

// Reader takes entries from a ring.
type Reader struct {
	ents  []uint32
	head  *uint32 // published: entries consumed
	pos   uint32
	order uint32
}

// NewReader reads ents, a power of two of slots, from position pos on, and
// publishes what it has consumed in head.
func NewReader(ents []uint32, order uint32, head *uint32, pos uint32) Reader {
	return Reader{ents: ents, head: head, pos: pos, order: order}
}

// Pos is the position that is read next.
func (r *Reader) Pos() uint32 { return r.pos }

// Ready tells whether an entry waits.
func (r *Reader) Ready() bool {
	e := atomic.LoadUint32(&r.ents[r.pos&uint32(len(r.ents)-1)])
	return e&abi.EntToggle == abi.Toggle(r.pos, r.order)
}

// Take copies waiting entries to dst and returns their number. Their slots
// stay taken until Release.
func (r *Reader) Take(dst []uint32) int {
	n := 0
	for n < len(dst) {
		// As far as the end of the ring the toggle is one.
		run := r.ents[r.pos&uint32(len(r.ents)-1):]
		if len(run) > len(dst)-n {
			run = run[:len(dst)-n]
		}
		k := takeRun(dst[n:], run, abi.Toggle(r.pos, r.order))
		n += k
		r.pos += uint32(k)
		if k < len(run) {
			break
		}
	}
	return n
}

// takeRun copies the first entries of run, those that have the toggle, to dst, which is not shorter.
func takeRun(dst, run []uint32, toggle uint32) int {
	dst = dst[:len(run)]
	for i := range run {
		e := atomic.LoadUint32(&run[i])
		if e&abi.EntToggle != toggle {
			return i
		}
		dst[i] = e
	}
	return len(run)
}

// PutBack returns the last n entries taken, which are taken again by the next
// Take. They must not have been released.
func (r *Reader) PutBack(n int) { r.pos -= uint32(n) }

// Release publishes that everything taken so far is done with.
func (r *Reader) Release() { atomic.StoreUint32(r.head, r.pos) }

// Writer puts entries on a ring.
type Writer struct {
	ents  []uint32
	head  *uint32 // the reader's
	tail  *uint32 // published hint: entries written
	pos   uint32
	free  uint32 // slots known to be free
	order uint32
}

// NewWriter writes to ents, a power of two of slots, from position pos on. It
// learns from head what the reader has consumed and publishes pos in tail.
func NewWriter(ents []uint32, order uint32, head, tail *uint32, pos uint32) Writer {
	return Writer{ents: ents, head: head, tail: tail, pos: pos, order: order}
}

// Pos is the position that is written next.
func (w *Writer) Pos() uint32 { return w.pos }

// Free is the number of entries that Publish would take now.
func (w *Writer) Free() int {
	used := w.pos - atomic.LoadUint32(w.head)
	size := uint32(len(w.ents))
	// A head that no reader of this ring can have published counts as full.
	if used > size {
		used = size
	}
	w.free = size - used
	return int(w.free)
}

// Publish writes entries (toggles are set here) and returns how many found
// room. They appear to the reader all at once.
func (w *Writer) Publish(src []uint32) int {
	n := uint32(len(src))
	if n > w.free {
		if f := uint32(w.Free()); n > f {
			n = f
		}
	}
	if n == 0 {
		return 0
	}
	at := w.pos & uint32(len(w.ents)-1)
	run := w.ents[at:min(at+n, uint32(len(w.ents)))]
	toggle := abi.Toggle(w.pos, w.order)
	rest := src[:n]
	if len(run) < len(rest) {
		putRun(w.ents, rest[len(run):], toggle^abi.EntToggle)
		rest = rest[:len(run)]
	}
	putRun(run[1:], rest[1:], toggle)
	atomic.StoreUint32(&run[0], rest[0]&^abi.EntToggle|toggle)
	w.pos += n
	w.free -= n
	storePlain(w.tail, w.pos)
	return int(n)
}

// putRun writes entries with a toggle to the first slots, of which there are not fewer.
func putRun(slots, src []uint32, toggle uint32) {
	slots = slots[:len(src)]
	for i, e := range src {
		storePlain(&slots[i], e&^abi.EntToggle|toggle)
	}
}
