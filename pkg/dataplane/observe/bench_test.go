// SPDX-License-Identifier: Apache-2.0

package observe

import "testing"

func BenchmarkEmit(b *testing.B) {
	b.Run("nobody", func(b *testing.B) {
		w := newTestEvents(nil).Worker(0)
		r := sampleRecord
		for b.Loop() {
			w.Emit(&r)
		}
	})
	b.Run("watched", func(b *testing.B) {
		w := newTestEvents(func(c *EventsConfig) { c.Rate = 1 << 30 }).Worker(0)
		g := newRing(defaultRing)
		w.ring.Store(g)
		r := sampleRecord
		for b.Loop() {
			r.Time += rateWindow / 1000
			if w.Emit(&r); g.tail.Load()%defaultRing == 0 {
				g.head.Store(g.tail.Load())
			}
		}
	})
	b.Run("over rate", func(b *testing.B) {
		w := newTestEvents(nil).Worker(0)
		w.ring.Store(newRing(defaultRing))
		r := sampleRecord
		for b.Loop() {
			w.Emit(&r)
		}
	})
}

func BenchmarkWant(b *testing.B) {
	b.Run("nobody", func(b *testing.B) {
		tap := newTestCaptures(nil).Tap(0)
		for b.Loop() {
			tap.Want(2)
		}
	})
	b.Run("other port", func(b *testing.B) {
		c := newTestCaptures(nil)
		s, _ := c.Open("p1", 0)
		defer s.Close()
		tap := c.Tap(0)
		for b.Loop() {
			tap.Want(2)
		}
	})
}

func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct {
		name        string
		parts, size int
	}{{"64", 1, 64}, {"1500", 1, 1500}, {"64KiB", 34, 1856}} {
		b.Run(c.name, func(b *testing.B) {
			captures := newTestCaptures(nil)
			s, _ := captures.Open("p1", 0)
			defer s.Close()
			tap, g := captures.Tap(0), s.rings[0]
			var chain [34][]byte
			for i := range c.parts {
				chain[i] = make([]byte, c.size)
			}
			b.SetBytes(int64(c.parts * c.size))
			for b.Loop() {
				tap.Deliver(1, true, 1, uint32(c.parts*c.size), chain[:c.parts]...)
				g.head.Store(g.tail.Load())
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	m, _ := CompileFilter(nil, fixedNames{}, fakeReasons)
	r := sampleRecord
	for b.Loop() {
		m.Match(&r)
	}
}
