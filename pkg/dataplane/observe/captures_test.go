// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func newTestCaptures(change func(*CapturesConfig)) *Captures {
	cfg := CapturesConfig{
		Workers: 2, Ring: 1 << 20,
		Port: func(name string) (uint32, bool) {
			if len(name) != 2 || name[0] != 'p' {
				return 0, false
			}
			return uint32(name[1] - '0'), true
		},
	}
	if change != nil {
		change(&cfg)
	}
	return NewCaptures(cfg)
}

func mustOpen(t *testing.T, c *Captures, port string, snap uint32) *Session {
	t.Helper()
	s, err := c.Open(port, snap)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func mustPacket(t *testing.T, s *Session) *dataplanev1.CapturedPacket {
	t.Helper()
	p, err := s.Next(t.Context())
	if err != nil {
		t.Fatalf("next packet: %v", err)
	}
	return p
}

func TestCaptureJoinsThePartsAndSnaps(t *testing.T) {
	c := newTestCaptures(nil)
	whole, short := mustOpen(t, c, "p1", 0), mustOpen(t, c, "p1", 5)
	other := mustOpen(t, c, "p2", 0)
	c.Tap(1).Deliver(1, true, 77, 9000, []byte("abc"), nil, []byte("defg"))
	c.Tap(0).Deliver(3, true, 78, 10, []byte("not asked for"))
	c.Tap(0).Deliver(65, true, 78, 10, []byte("port 65 has the same bit as 1"))

	want := &dataplanev1.CapturedPacket{TimeUnixNano: 77, ToPort: true, Length: 9000, Data: []byte("abcdefg")}
	if diff := cmp.Diff(want, mustPacket(t, whole), protocmp.Transform()); diff != "" {
		t.Errorf("whole (-want +got):\n%s", diff)
	}
	want.Data = []byte("abcde")
	if diff := cmp.Diff(want, mustPacket(t, short), protocmp.Transform()); diff != "" {
		t.Errorf("short (-want +got):\n%s", diff)
	}
	for _, s := range []*Session{whole, short, other} {
		if p := s.oldest(); p != nil {
			t.Errorf("unexpected packet %v", p)
		}
	}
}

func TestTapKnowsWhatIsWanted(t *testing.T) {
	type call struct{ port, bytes uint32 }
	var calls []call
	c := newTestCaptures(func(cfg *CapturesConfig) {
		cfg.Need = func(port, bytes uint32) error {
			calls = append(calls, call{port, bytes})
			return nil
		}
	})
	tap := c.Tap(0)
	want := func(port, bytes uint32) {
		t.Helper()
		if got := tap.Need(port); got != bytes {
			t.Errorf("Need(%d) = %d, want %d", port, got, bytes)
		}
		if got := tap.Want(port); got != (bytes != 0) {
			t.Errorf("Want(%d) = %v", port, got)
		}
	}
	want(1, 0)
	a := mustOpen(t, c, "p1", 96)
	want(1, 96)
	want(2, 0)
	want(65, 0)
	b := mustOpen(t, c, "p1", 0)
	want(1, math.MaxUint32)
	d := mustOpen(t, c, "p1", 64)
	want(1, math.MaxUint32)
	b.Close()
	want(1, 96)
	a.Close()
	want(1, 64)
	d.Close()
	d.Close()
	want(1, 0)
	wantCalls := []call{{1, 96}, {1, math.MaxUint32}, {1, 96}, {1, 64}, {1, 0}}
	if !slices.Equal(calls, wantCalls) {
		t.Errorf("Need was called with %v, want %v", calls, wantCalls)
	}
}

func TestOpenRefuses(t *testing.T) {
	broken := errors.New("the device is gone")
	var fail error
	c := newTestCaptures(func(cfg *CapturesConfig) {
		cfg.Sessions = 1
		cfg.Need = func(uint32, uint32) error { return fail }
	})
	if _, err := c.Open("nobody", 0); !errors.Is(err, ErrNoPort) {
		t.Errorf("unknown port: %v", err)
	}
	fail = broken
	if _, err := c.Open("p1", 0); !errors.Is(err, broken) {
		t.Errorf("device refuses: %v", err)
	}
	if c.Tap(0).Want(1) {
		t.Error("a refused capture has left something")
	}
	fail = nil
	s := mustOpen(t, c, "p1", 0)
	if _, err := c.Open("p2", 0); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	c.Close()
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("next after close: %v", err)
	}
	if _, err := c.Open("p1", 0); !errors.Is(err, ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
}

func TestPortGoneEndsItsCaptures(t *testing.T) {
	c := newTestCaptures(nil)
	gone, stays := mustOpen(t, c, "p1", 0), mustOpen(t, c, "p2", 0)
	c.Tap(0).Deliver(1, false, 1, 4, []byte("last"))
	c.PortGone(1)
	c.Tap(0).Deliver(1, false, 2, 4, []byte("next"))
	if p := mustPacket(t, gone); string(p.GetData()) != "last" {
		t.Errorf("got %q", p.GetData())
	}
	if _, err := gone.Next(t.Context()); !errors.Is(err, ErrPortGone) {
		t.Errorf("got %v", err)
	}
	c.Tap(0).Deliver(2, false, 3, 4, []byte("here"))
	if p := mustPacket(t, stays); string(p.GetData()) != "here" {
		t.Errorf("got %q", p.GetData())
	}
}

func TestCaptureOfSeveralWorkersComesInOrder(t *testing.T) {
	c := newTestCaptures(nil)
	s := mustOpen(t, c, "p1", 0)
	for i := range 10 {
		c.Tap(i%2).Deliver(1, false, int64(i), 1, []byte{byte(i)})
	}
	for i := range 10 {
		if p := mustPacket(t, s); p.GetTimeUnixNano() != int64(i) {
			t.Fatalf("packet %d has time %d", i, p.GetTimeUnixNano())
		}
	}
}

func TestSlowCaptureLosesAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCaptures(func(cfg *CapturesConfig) { cfg.Ring = 1 }) // the least: 256 KiB
		s := mustOpen(t, c, "p1", 0)
		packet := make([]byte, 64<<10-packetHeader)
		for range 6 {
			c.Tap(0).Deliver(1, false, 1, uint32(len(packet)), packet)
		}
		for i := range 4 {
			if p := mustPacket(t, s); p.GetLost() != 0 || len(p.GetData()) != len(packet) {
				t.Errorf("packet %d: %d bytes, %d lost before it", i, len(p.GetData()), p.GetLost())
			}
		}
		if p := mustPacket(t, s); p.GetLost() != 2 || p.GetLength() != 0 {
			t.Errorf("got %v, want a notice of 2", p)
		}
		c.Tap(0).Deliver(1, false, 2, 1, []byte("x"))
		if p := mustPacket(t, s); p.GetLost() != 0 {
			t.Errorf("2 packets were lost, %d are told of again", p.GetLost())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if p, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", p, err)
		}
	})
}

// FuzzByteRing compares the ring with a queue of packets. Each input byte is
// an operation: 0 takes a packet, others put one of that many times 7 bytes, in pieces.
func FuzzByteRing(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 0, 0, 0}, uint16(0), uint8(3))
	f.Add([]byte{255, 255, 0, 255, 0, 255, 0, 0, 9, 0, 255, 0, 0}, uint16(1000), uint8(1))
	f.Add(bytes.Repeat([]byte{40, 41, 0}, 100), uint16(0), uint8(200))
	f.Fuzz(func(t *testing.T, ops []byte, snap uint16, piece uint8) {
		type packet struct {
			data   []byte
			length uint32
			lost   uint64
			at     int64
		}
		const size = 4096
		g := newByteRing(size)
		var queue []packet
		used, lost := 0, uint64(0)
		space := func(n int) int { return packetHeader + (n+packetHeader-1)/packetHeader*packetHeader }
		for i, op := range ops {
			if op != 0 {
				data := make([]byte, int(op)*7)
				for j := range data {
					data[j] = byte(i + j)
				}
				g.push(i%2 == 0, int64(i), uint32(len(data)), snapOf(uint32(snap)), slices.Collect(slices.Chunk(data, int(piece)+1)))
				kept := data
				if snap != 0 && int(snap) < len(kept) {
					kept = kept[:snap]
				}
				if used+space(len(kept)) > size {
					lost++
					continue
				}
				used += space(len(kept))
				queue = append(queue, packet{kept, uint32(len(data)), lost, int64(i)})
				continue
			}
			got, ok := g.peek()
			if ok != (len(queue) > 0) {
				t.Fatalf("operation %d: peek says %v with %d packets in the ring", i, ok, len(queue))
			}
			if !ok {
				continue
			}
			want := queue[0]
			queue = queue[1:]
			used -= space(len(want.data))
			if data := g.pop(got); !bytes.Equal(data, want.data) || got.length != want.length ||
				got.lost != want.lost || got.time != want.at || got.toPort != (want.at%2 == 0) {
				t.Fatalf("operation %d: got %+v %x, want %+v", i, got, data, want)
			}
		}
		if g.lost.Load() != lost {
			t.Errorf("%d lost, want %d", g.lost.Load(), lost)
		}
	})
}

// Workers deliver at full speed while captures come and go. Every packet that
// arrives is whole and of the right port.
func TestCaptureConcurrent(t *testing.T) {
	c := newTestCaptures(nil)
	var stop atomic.Bool
	var workers, readers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			var parts [3][]byte
			for i := 0; !stop.Load(); i++ {
				port := uint32(1 + i%3)
				b := bytes.Repeat([]byte{byte(port)}, 1+i%700)
				parts = [3][]byte{b, b, b}
				if c.Tap(w).Want(port) {
					c.Tap(w).Deliver(port, i%2 == 0, int64(i), uint32(3*len(b)), parts[:]...)
				}
			}
		})
	}
	for r := range 4 {
		readers.Go(func() {
			for i := range 5 {
				port := 1 + (r+i)%3
				s, err := c.Open(fmt.Sprintf("p%d", port), 0)
				if err != nil {
					t.Error(err)
					return
				}
				for range 50 {
					p, err := s.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					if len(p.GetData()) != int(p.GetLength()) || len(bytes.Trim(p.GetData(), string(rune(port)))) != 0 {
						t.Errorf("a broken packet: %v", p)
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
	if c.Tap(0).Want(1) {
		t.Error("something is wanted though nobody captures")
	}
}
