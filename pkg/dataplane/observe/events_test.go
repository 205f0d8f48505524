// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func newTestEvents(change func(*EventsConfig)) *Events {
	cfg := EventsConfig{Workers: 2, Names: fakeNames{}, Reasons: fakeReasons}
	if change != nil {
		change(&cfg)
	}
	return NewEvents(cfg)
}

func mustSubscribe(t *testing.T, e *Events, f *dataplanev1.Filter) *Subscription {
	t.Helper()
	s, err := e.Subscribe(f)
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func mustNext(t *testing.T, s *Subscription) *dataplanev1.Event {
	t.Helper()
	ev, err := s.Next(t.Context())
	if err != nil {
		t.Fatalf("next event: %v", err)
	}
	return ev
}

func noNext(t *testing.T, s *Subscription) {
	t.Helper()
	select {
	case ev := <-s.queue:
		t.Fatalf("unexpected event %v", ev.proto())
	default:
	}
}

var sampleRecord = Record{
	Time: 1000, Generation: 4, Rule: 7, InPort: 1, OutPort: 2, Length: 84,
	Tuple: tuple("10.0.0.1", "10.0.0.2", 6, 40000, 80), Verdict: Deny, Reason: 1,
}

func TestEventIsComplete(t *testing.T) {
	e := newTestEvents(nil)
	s := mustSubscribe(t, e, nil)
	e.Worker(0).Emit(&sampleRecord)
	v6 := Record{Time: 2000, Tuple: tuple("fd00::1", "fd00::2", 58, 7, 128<<8), Verdict: Allow}
	e.Worker(1).Emit(&v6)
	odd := Record{Time: 3000, Verdict: Drop, Reason: 99, InPort: 77}
	e.Worker(0).Emit(&odd)

	want := []*dataplanev1.Event{
		{
			TimeUnixNano: 1000, Verdict: "deny", Reason: "policy", Rule: "rule-4-7-1-2", InPort: "p1", OutPort: "p2", Length: 84,
			Tuple: &dataplanev1.Tuple{Src: "10.0.0.1", Dst: "10.0.0.2", Protocol: 6, SrcPort: 40000, DstPort: 80},
		},
		{
			TimeUnixNano: 2000, Verdict: "allow",
			Tuple: &dataplanev1.Tuple{Src: "fd00::1", Dst: "fd00::2", Protocol: 58, SrcPort: 7, DstPort: 128 << 8},
		},
		{
			TimeUnixNano: 3000, Verdict: "drop", Reason: "reason 99",
			Tuple: &dataplanev1.Tuple{Src: "::", Dst: "::"},
		},
	}
	for i, w := range want {
		if diff := cmp.Diff(w, mustNext(t, s), protocmp.Transform()); diff != "" {
			t.Errorf("event %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestEventsOfSeveralWorkersComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEvents(nil)
		s := mustSubscribe(t, e, nil)
		for i := range 10 {
			r := sampleRecord
			r.Time = int64(i)
			e.Worker(i % 2).Emit(&r)
		}
		for i := range 10 {
			if ev := mustNext(t, s); ev.GetTimeUnixNano() != int64(i) {
				t.Fatalf("event %d has time %d", i, ev.GetTimeUnixNano())
			}
		}
		s.Close()
	})
}

func TestSubscriptionsGetWhatTheyAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEvents(nil)
		all := mustSubscribe(t, e, nil)
		none := mustSubscribe(t, e, &dataplanev1.Filter{Verdict: "audit"})
		denied := mustSubscribe(t, e, &dataplanev1.Filter{Verdict: "deny"})
		e.Worker(0).Emit(&sampleRecord)
		if ev := mustNext(t, all); ev.GetVerdict() != "deny" {
			t.Errorf("got %v", ev)
		}
		mustNext(t, denied)
		time.Sleep(2 * drainInterval)
		synctest.Wait()
		noNext(t, none)
		for _, s := range []*Subscription{all, none, denied} {
			s.Close()
		}
	})
}

// TestLogged: who watches only what is logged gets that, and workers are told
// that nobody wants the rest.
func TestLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEvents(nil)
		w := e.Worker(0)
		wants := func(logged, rest bool) {
			t.Helper()
			if w.Wants(true) != logged || w.Wants(false) != rest {
				t.Errorf("wants what is logged %v and the rest %v; want %v, %v", w.Wants(true), w.Wants(false), logged, rest)
			}
		}
		wants(false, false)
		s := mustSubscribe(t, e, &dataplanev1.Filter{Logged: true})
		wants(true, false)
		all := mustSubscribe(t, e, nil)
		wants(true, true)
		rec := sampleRecord
		w.Emit(&rec)
		rec.Logged = true
		w.Emit(&rec)
		if ev := mustNext(t, s); !ev.GetLogged() {
			t.Errorf("got %v", ev)
		}
		if ev := mustNext(t, all); ev.GetLogged() {
			t.Errorf("got %v first", ev)
		}
		all.Close()
		wants(true, false)
		s.Close()
		wants(false, false)
	})
}

func TestNothingOfAnEarlierWatchIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEvents(nil)
		w := e.Worker(0)
		w.Emit(&sampleRecord)
		if w.Active() {
			t.Error("active with no subscription")
		}
		first := mustSubscribe(t, e, nil)
		if !w.Active() {
			t.Error("not active with a subscription")
		}
		w.Emit(&sampleRecord)
		first.Close()
		first.Close()
		if w.Active() {
			t.Error("active after the last subscription was closed")
		}
		second := mustSubscribe(t, e, nil)
		r := sampleRecord
		r.Time = 5
		w.Emit(&r)
		if ev := mustNext(t, second); ev.GetTimeUnixNano() != 5 {
			t.Errorf("got %v", ev)
		}
		time.Sleep(2 * drainInterval)
		synctest.Wait()
		noNext(t, second)
		second.Close()
	})
}

func TestFullRingLosesAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEvents(func(c *EventsConfig) { c.Ring = 5 })
		s := mustSubscribe(t, e, nil)
		for range 11 { // a ring of 5 is one of 8
			e.Worker(0).Emit(&sampleRecord)
		}
		for i := range 8 {
			if ev := mustNext(t, s); ev.GetLost() != 0 {
				t.Errorf("event %d says that %d were lost before it", i, ev.GetLost())
			}
		}
		time.Sleep(2 * drainInterval)
		e.Worker(0).Emit(&sampleRecord)
		if ev := mustNext(t, s); ev.GetLost() != 3 {
			t.Errorf("the event after the gap says %d, want 3", ev.GetLost())
		}
		s.Close()
	})
}

func TestRateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEvents(func(c *EventsConfig) { c.Rate = 1000 })
		s := mustSubscribe(t, e, nil)
		emit := func(at int64, n int) {
			for range n {
				r := sampleRecord
				r.Time = at
				e.Worker(0).Emit(&r)
			}
		}
		emit(5*rateWindow, 15)  // 10 pass
		emit(6*rateWindow, 4)   // 4 pass: a new window
		emit(2*rateWindow, 12)  // 10 pass: the clock was set back
		emit(3*rateWindow-1, 1) // none: the same window
		time.Sleep(2 * drainInterval)
		synctest.Wait()
		if n := len(s.queue); n != 24 {
			t.Errorf("%d records passed, want 24", n)
		}
		if n := e.Worker(0).lost.Load(); n != 8 {
			t.Errorf("%d records lost, want 8", n)
		}
		s.Close()
	})
}

func TestSlowReaderLosesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEvents(func(c *EventsConfig) { c.Queue = 4 })
		slow, fast := mustSubscribe(t, e, nil), mustSubscribe(t, e, nil)
		for range 10 {
			e.Worker(0).Emit(&sampleRecord)
			if ev := mustNext(t, fast); ev.GetLost() != 0 {
				t.Errorf("the fast reader lost %d", ev.GetLost())
			}
		}
		for range 4 {
			if ev := mustNext(t, slow); ev.GetLost() != 0 {
				t.Errorf("an event from before the gap says %d", ev.GetLost())
			}
		}
		e.Worker(0).Emit(&sampleRecord)
		if ev := mustNext(t, slow); ev.GetLost() != 6 {
			t.Errorf("the event after the gap says %d, want 6", ev.GetLost())
		}
		slow.Close()
		fast.Close()
	})
}

// A loss is told even if no event comes that the filter lets through.
func TestLossIsToldWithoutAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEvents(func(c *EventsConfig) { c.Ring = 8 })
		s := mustSubscribe(t, e, &dataplanev1.Filter{Verdict: "audit"})
		for range 11 {
			e.Worker(0).Emit(&sampleRecord)
		}
		ev := mustNext(t, s)
		if ev.GetLost() != 3 || ev.GetVerdict() != "" || ev.GetTuple() != nil {
			t.Errorf("got %v, want a notice of 3", ev)
		}
		time.Sleep(3 * noticeInterval)
		synctest.Wait()
		noNext(t, s)
		s.Close()
	})
}

func TestSubscribeRefuses(t *testing.T) {
	e := newTestEvents(func(c *EventsConfig) { c.Subscriptions = 1 })
	if _, err := e.Subscribe(&dataplanev1.Filter{Verdict: "maybe"}); !errors.Is(err, ErrFilter) {
		t.Errorf("a bad filter: %v", err)
	}
	s := mustSubscribe(t, e, nil)
	if _, err := e.Subscribe(nil); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	e.Close()
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("next after close: %v", err)
	}
	if _, err := e.Subscribe(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("subscribe after close: %v", err)
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	s := mustSubscribe(t, newTestEvents(nil), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Workers emit at full speed while subscriptions come and go; each stays in
// order, and what it got and lost adds up to no more than was emitted.
func TestEventsConcurrent(t *testing.T) {
	e := newTestEvents(func(c *EventsConfig) { c.Ring, c.Queue, c.Rate = 64, 32, 1<<30 })
	var stop atomic.Bool
	var workers, readers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			r := sampleRecord
			for !stop.Load() {
				r.Time++
				e.Worker(w).Emit(&r)
				runtime.Gosched()
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for range 5 {
				s, err := e.Subscribe(nil)
				if err != nil {
					t.Error(err)
					return
				}
				for range 50 {
					if _, err := s.Next(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
				s.Close()
			}
		})
	}
	readers.Wait()
	stop.Store(true)
	workers.Wait()
	if e.Worker(0).Active() || e.Worker(1).Active() {
		t.Error("workers emit though nobody watches")
	}
}
