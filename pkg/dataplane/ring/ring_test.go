// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
)

func pair(order, start uint32) (*Writer, *Reader, []uint32) {
	ents := make([]uint32, 1<<order)
	// A ring whose count is at start has the toggles of the pass before in it.
	for i := range ents {
		p := start + uint32(i)
		ents[p&uint32(len(ents)-1)] = abi.Toggle(p, order) ^ abi.EntToggle
	}
	head, tail := start, start
	w := NewWriter(ents, order, &head, &tail, start)
	r := NewReader(ents, order, &head, start)
	return &w, &r, ents
}

// TestWrap passes entries in random batches through a small ring, over the wrap
// of the ring and of the 32-bit position.
func TestWrap(t *testing.T) {
	for _, start := range []uint32{0, 1, 1<<32 - 100} {
		w, r, ents := pair(3, start)
		rnd := rand.New(rand.NewPCG(1, uint64(start)))
		var sent, got uint32
		buf := make([]uint32, 16)
		for got < 1000 {
			batch := buf[:rnd.IntN(12)]
			for i := range batch {
				batch[i] = abi.Entry(abi.OutTX, (sent+uint32(i))&abi.EntParamMask)
			}
			room := w.Free()
			n := w.Publish(batch)
			if n != min(len(batch), room) {
				t.Fatalf("published %d of %d with room for %d", n, len(batch), room)
			}
			sent += uint32(n)
			k := r.Take(buf[:rnd.IntN(12)])
			for _, e := range buf[:k] {
				if abi.Action(e) != abi.OutTX || abi.Param(e) != got {
					t.Fatalf("entry %#x, want parameter %d", e, got)
				}
				got++
			}
			if sent-got > uint32(len(ents)) {
				t.Fatalf("%d entries in a ring of %d", sent-got, len(ents))
			}
			if rnd.IntN(2) == 0 {
				r.Release()
			}
		}
	}
}

// TestConcurrent holds the barriers against the race detector: what a writer
// stored before Publish is seen by who takes the entry.
func TestConcurrent(t *testing.T) {
	w, r, _ := pair(6, 0)
	const total = 200000
	data := make([]uint32, 1<<16)
	go func() {
		var seq uint32
		batch := make([]uint32, 0, 20)
		for seq < total {
			batch = batch[:0]
			for range min(1+seq%17, total-seq, uint32(w.Free())) {
				data[seq&0xffff] = seq
				batch = append(batch, abi.Entry(abi.OutTX, seq&0xffff))
				seq++
			}
			if w.Publish(batch) != len(batch) {
				panic("no room")
			}
			if len(batch) == 0 {
				runtime.Gosched()
			}
		}
	}()
	var got uint32
	buf := make([]uint32, 32)
	for got < total {
		n := r.Take(buf)
		for _, e := range buf[:n] {
			if v := data[abi.Param(e)]; v != got {
				t.Fatalf("read %d, want %d", v, got)
			}
			got++
		}
		r.Release()
		if n == 0 {
			runtime.Gosched()
		}
	}
}

func TestPutBack(t *testing.T) {
	w, r, _ := pair(3, 1<<32-3)
	w.Publish([]uint32{1, 2, 3, 4, 5})
	buf := make([]uint32, 8)
	if n := r.Take(buf); n != 5 {
		t.Fatalf("took %d entries, want 5", n)
	}
	r.PutBack(3)
	r.Release()
	if free := w.Free(); free != 5 {
		t.Errorf("%d slots are free, want 5", free)
	}
	if n := r.Take(buf); n != 3 || abi.Param(buf[0]) != 3 {
		t.Errorf("took %d entries from %d on, want 3 from 3 on", n, abi.Param(buf[0]))
	}
}

func TestWriterDistrustsHead(t *testing.T) {
	w, _, _ := pair(3, 100)
	*w.head = 500
	if n := w.Publish(make([]uint32, 4)); n != 0 {
		t.Errorf("published %d entries on a ring with a head from nowhere", n)
	}
}

// FuzzReader reads a ring of any content from any position: Take stops at a
// stale toggle and never returns more than the ring has been passed.
func FuzzReader(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0x80, 2, 0, 0, 0x80}, uint32(0))
	f.Fuzz(func(t *testing.T, raw []byte, pos uint32) {
		ents := make([]uint32, 8)
		for i, b := range raw {
			ents[i/4%8] |= uint32(b) << (i % 4 * 8)
		}
		var head uint32
		r := NewReader(ents, 3, &head, pos)
		if n := r.Take(make([]uint32, 100)); n > 8 {
			t.Fatalf("took %d entries from a ring of 8", n)
		}
	})
}

func BenchmarkPublishTake(b *testing.B) {
	w, r, _ := pair(12, 0)
	batch := make([]uint32, 256)
	b.ReportAllocs()
	for b.Loop() {
		w.Publish(batch)
		r.Take(batch)
		r.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/entry")
}
