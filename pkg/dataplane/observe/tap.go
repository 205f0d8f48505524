// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/cpu"
)

// Tap is one worker's end of Captures. Its methods belong to one goroutine.
type Tap struct {
	set atomic.Pointer[tapSet] // nil while nothing is captured
	_   cpu.CacheLinePad
}

// tapSet is what is captured, as one worker needs it. It is never changed,
// only replaced.
type tapSet struct {
	ports   uint64 // bit port%64 of every port that is captured
	entries []tapEntry
}

type tapEntry struct {
	port uint32
	snap uint32 // bytes of a packet that are wanted
	ring *byteRing
}

// Active tells whether anything is captured. A worker asks once per vector.
func (t *Tap) Active() bool { return t.set.Load() != nil }

// Want tells whether the packets of a port are captured. It costs one load
// while nothing is.
func (t *Tap) Want(port uint32) bool {
	s := t.set.Load()
	return s != nil && s.need(port) != 0
}

// Need returns how many bytes of a port's packets are wanted: 0 for a port that
// is not captured, math.MaxUint32 for whole packets. A worker fetches parked
// payload only if the bytes at hand are fewer.
func (t *Tap) Need(port uint32) uint32 {
	s := t.set.Load()
	if s == nil {
		return 0
	}
	return s.need(port)
}

// Deliver gives a packet of a port to those who capture it. toPort tells its
// direction, timeUnixNano its time, total its length on the wire; parts are its
// bytes, from the IP header on, and may be fewer. They are copied. It never
// waits, never allocates, and does nothing for a port that is not captured.
func (t *Tap) Deliver(port uint32, toPort bool, timeUnixNano int64, total uint32, parts ...[]byte) {
	s := t.set.Load()
	if s == nil || s.ports&(1<<(port%64)) == 0 {
		return
	}
	for i := range s.entries {
		if e := &s.entries[i]; e.port == port {
			e.ring.push(toPort, timeUnixNano, total, e.snap, parts)
		}
	}
}

func (s *tapSet) need(port uint32) uint32 {
	if s.ports&(1<<(port%64)) == 0 {
		return 0
	}
	n := uint32(0)
	for i := range s.entries {
		if e := &s.entries[i]; e.port == port {
			n = max(n, e.snap)
		}
	}
	return n
}

// snapOf turns the request's length, where 0 stands for all, into a bound.
func snapOf(length uint32) uint32 {
	if length == 0 {
		return math.MaxUint32
	}
	return length
}
