// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// event is a record with its names. One without a verdict tells only of a loss.
type event struct {
	Record
	reason, rule, inPort, outPort string
	lost                          uint64
}

// Subscription is one reader of Events. Next belongs to one goroutine; Close
// may be called from any, more than once.
type Subscription struct {
	events *Events
	match  *Matcher
	queue  chan event
	done   chan struct{}

	// The hub's, under events.mu.
	lost   uint64    // missed since the last event that was queued
	sentAt time.Time // when that was
}

// offer queues an event, or counts it as lost.
func (s *Subscription) offer(ev event, now time.Time) {
	ev.lost = s.lost
	select {
	case s.queue <- ev:
		s.lost, s.sentAt = 0, now
	default:
		s.lost++
	}
}

// notice tells of a loss that no event has come to tell of.
func (s *Subscription) notice(now time.Time) {
	if s.lost == 0 || now.Sub(s.sentAt) < noticeInterval {
		return
	}
	select {
	case s.queue <- event{Record: Record{Time: now.UnixNano()}, lost: s.lost}:
		s.lost, s.sentAt = 0, now
	default: // the reader is behind: what it reads next will tell
	}
}

// Next waits for an event. Records that were lost before anybody could look at
// them count for every subscription, whatever its filter. An event without a
// verdict and tuple tells only of a loss. The error is the context's, or
// ErrClosed.
func (s *Subscription) Next(ctx context.Context) (*dataplanev1.Event, error) {
	select {
	case ev := <-s.queue:
		return ev.proto(), nil
	case <-s.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	s.events.remove(s)
}

func (ev *event) proto() *dataplanev1.Event {
	out := &dataplanev1.Event{
		TimeUnixNano: ev.Time,
		Verdict:      ev.Verdict.String(),
		Reason:       ev.reason,
		Rule:         ev.rule,
		InPort:       ev.inPort,
		OutPort:      ev.outPort,
		Length:       ev.Length,
		Logged:       ev.Logged,
		Lost:         ev.lost,
	}
	if ev.Verdict != 0 {
		out.Tuple = ev.Tuple.proto()
	}
	return out
}
