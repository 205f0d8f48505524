// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"slices"
	"sync"
	"testing"
)

// FuzzRing compares the ring with a slice that is bounded in the same way.
// Each byte of the input is an operation: 0xff drains, others push.
func FuzzRing(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0xff, 4, 5, 6, 7, 8, 9, 0xff, 0xff})
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff})
	f.Fuzz(func(t *testing.T, ops []byte) {
		g := newRing(8)
		var want []Record
		for i, op := range append(ops, 0xff) {
			if op != 0xff {
				r := Record{Time: int64(i), Length: uint32(op)}
				if ok := g.push(&r); ok != (len(want) < 8) {
					t.Fatalf("operation %d: push with %d in the ring returned %v", i, len(want), ok)
				} else if ok {
					want = append(want, r)
				}
				continue
			}
			if got := g.drain(nil); !slices.Equal(got, want) {
				t.Fatalf("operation %d: drained %v, want %v", i, got, want)
			}
			want = want[:0]
		}
	})
}

// Every record that was pushed is drained once, in order, while writer and
// reader run at the same time.
func TestRingConcurrent(t *testing.T) {
	const n = 200_000
	g := newRing(64)
	var wg sync.WaitGroup
	pushed := make(chan int, 1)
	stop := make(chan struct{})
	wg.Go(func() {
		ok := 0
		for i := range n {
			r := Record{Time: int64(i), Length: uint32(i)}
			if g.push(&r) {
				ok++
			}
		}
		pushed <- ok
		close(stop)
	})
	got, last := 0, int64(-1)
	check := func(batch []Record) {
		for i := range batch {
			if batch[i].Time <= last || batch[i].Length != uint32(batch[i].Time) {
				t.Fatalf("after record %d came %+v", last, batch[i])
			}
			last = batch[i].Time
			got++
		}
	}
	var batch []Record
	for done := false; !done; {
		select {
		case <-stop:
			done = true
		default:
		}
		batch = g.drain(batch[:0])
		check(batch)
	}
	wg.Wait()
	if want := <-pushed; got != want {
		t.Errorf("drained %d records, %d were pushed", got, want)
	}
}
