// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

const (
	defaultCaptureRing = 32 << 20 // bytes per session, all workers
	minCaptureRing     = 256 << 10
	defaultSessions    = 16
)

// CapturesConfig says how Captures works. Zero values stand for the defaults.
type CapturesConfig struct {
	Workers int // how many Tap there are; at least 1

	// Port returns the number of the port with a name. Required.
	Port func(name string) (id uint32, ok bool)

	// Need is called when the number of bytes that are wanted of a port's packets
	// changes, as Tap.Need returns it: before the first packet is wanted, and
	// with 0 after the last one. An error refuses the capture. The forwarder asks the
	// device for whole packets there. It must not call into Captures. nil: no call.
	Need func(port uint32, bytes uint32) error

	Ring     int // bytes between a worker and a session, rounded up to a power of two; 32 MiB shared out among the workers
	Sessions int // at once; 16
}

// Captures brings packets from the workers to capture sessions. Its methods may
// be called from any goroutine.
type Captures struct {
	cfg  CapturesConfig
	taps []Tap

	mu       sync.Mutex
	sessions []*Session
	closed   bool
}

// NewCaptures returns the plumbing for cfg.Workers workers. It holds no buffers
// until a capture is opened.
func NewCaptures(cfg CapturesConfig) *Captures {
	cfg.Workers = max(cfg.Workers, 1)
	cfg.Ring = roundUp(max(cmp.Or(cfg.Ring, defaultCaptureRing/cfg.Workers), minCaptureRing))
	cfg.Sessions = cmp.Or(cfg.Sessions, defaultSessions)
	if cfg.Need == nil {
		cfg.Need = func(uint32, uint32) error { return nil }
	}
	return &Captures{cfg: cfg, taps: make([]Tap, cfg.Workers)}
}

// Tap returns the end that belongs to worker i, 0 to Workers-1.
func (c *Captures) Tap(i int) *Tap { return &c.taps[i] }

// Open captures a port's packets in both directions from now on, snapLength
// bytes of each; 0: whole. The caller closes the session. The error wraps
// ErrNoPort, ErrBusy or ErrClosed, or is Need's.
func (c *Captures) Open(port string, snapLength uint32) (*Session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	id, ok := c.cfg.Port(port)
	if !ok {
		return nil, fmt.Errorf("capture port %q: %w", port, ErrNoPort)
	}
	if len(c.sessions) == c.cfg.Sessions {
		return nil, ErrBusy
	}
	s := &Session{
		captures: c,
		port:     id,
		snap:     snapOf(snapLength),
		rings:    make([]*byteRing, len(c.taps)),
		told:     make([]uint64, len(c.taps)),
		done:     make(chan struct{}),
	}
	before := c.need(id)
	if s.snap > before {
		if err := c.cfg.Need(id, s.snap); err != nil {
			return nil, fmt.Errorf("capture port %q: %w", port, err)
		}
	}
	for i := range s.rings {
		s.rings[i] = newByteRing(c.cfg.Ring)
	}
	c.sessions = append(c.sessions, s)
	c.publish()
	return s, nil
}

// PortGone ends the captures of a port that has been removed, with ErrPortGone.
// The number may be used anew after it.
func (c *Captures) PortGone(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range slices.Clone(c.sessions) {
		if s.port == id {
			c.remove(s, ErrPortGone)
		}
	}
}

// Close ends all captures and refuses new ones.
func (c *Captures) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, s := range slices.Clone(c.sessions) {
		c.remove(s, ErrClosed)
	}
}

// remove ends a session. c.mu is held.
func (c *Captures) remove(s *Session, why error) {
	i := slices.Index(c.sessions, s)
	if i < 0 {
		return
	}
	c.sessions = slices.Delete(c.sessions, i, i+1)
	c.publish()
	s.err = why
	close(s.done)
	if after := c.need(s.port); after < s.snap && why != ErrPortGone {
		// Nothing can be done about a device that does not go back to parking;
		// packets that come whole are merely slower.
		_ = c.cfg.Need(s.port, after)
	}
}

// need returns the most that a session wants of a port's packets. c.mu is held.
func (c *Captures) need(port uint32) uint32 {
	n := uint32(0)
	for _, s := range c.sessions {
		if s.port == port {
			n = max(n, s.snap)
		}
	}
	return n
}

// publish tells the workers what is captured. c.mu is held.
func (c *Captures) publish() {
	for i := range c.taps {
		if len(c.sessions) == 0 {
			c.taps[i].set.Store(nil)
			continue
		}
		set := &tapSet{}
		for _, s := range c.sessions {
			set.ports |= 1 << (s.port % 64)
			set.entries = append(set.entries, tapEntry{port: s.port, snap: s.snap, ring: s.rings[i]})
		}
		c.taps[i].set.Store(set)
	}
}
