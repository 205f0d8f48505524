// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// captureInterval is how long a session that has caught up leaves the rings
// alone. 32 MiB in it are 130 Gbit/s.
const captureInterval = 2 * time.Millisecond

// Session is one capture. Next belongs to one goroutine; Close may be called
// from any, more than once.
type Session struct {
	captures *Captures
	port     uint32
	snap     uint32
	rings    []*byteRing // by worker
	done     chan struct{}
	err      error // why it ended; read after done

	// Next's.
	told  []uint64 // losses that the stream knows of, by worker
	timer *time.Timer
}

// Next waits for a packet. Packets of several workers come in the order of their
// times as far as they are there. A packet without data and length tells
// only of a loss. The error is the context's, ErrPortGone or ErrClosed.
func (s *Session) Next(ctx context.Context) (*dataplanev1.CapturedPacket, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if p := s.oldest(); p != nil {
			return p, nil
		}
		if p := s.notice(); p != nil {
			return p, nil
		}
		if s.timer == nil {
			s.timer = time.NewTimer(captureInterval)
		} else {
			s.timer.Reset(captureInterval)
		}
		select {
		case <-s.timer.C:
		case <-s.done:
			s.timer.Stop()
			return nil, s.err
		case <-ctx.Done():
			s.timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// oldest takes the oldest packet out of the rings.
func (s *Session) oldest() *dataplanev1.CapturedPacket {
	var first captured
	from := -1
	for i, g := range s.rings {
		if c, ok := g.peek(); ok && (from < 0 || c.time < first.time) {
			first, from = c, i
		}
	}
	if from < 0 {
		return nil
	}
	lost := first.lost - s.told[from]
	s.told[from] = first.lost
	return &dataplanev1.CapturedPacket{
		TimeUnixNano: first.time,
		ToPort:       first.toPort,
		Length:       first.length,
		Data:         s.rings[from].pop(first),
		Lost:         lost,
	}
}

// notice tells of packets that were lost after the last one in the rings.
func (s *Session) notice() *dataplanev1.CapturedPacket {
	lost := uint64(0)
	for i, g := range s.rings {
		n := g.lost.Load()
		if c, ok := g.peek(); ok {
			n = c.lost // a packet has come: it tells of the rest
		}
		lost += n - s.told[i]
		s.told[i] = n
	}
	if lost == 0 {
		return nil
	}
	return &dataplanev1.CapturedPacket{TimeUnixNano: time.Now().UnixNano(), Lost: lost}
}

// Close ends the session.
func (s *Session) Close() {
	s.captures.mu.Lock()
	defer s.captures.mu.Unlock()
	s.captures.remove(s, ErrClosed)
}
