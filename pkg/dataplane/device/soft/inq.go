// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"slices"
	"sync"
	"sync/atomic"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/ring"
)

// inq is the producer's side of a lane's InQ. With several lanes each of them
// produces, under mu; with one lane nothing is locked.
type inq struct {
	mu        sync.Mutex
	w         ring.Writer
	lastWoken uint32
}

// publish puts entries on the InQ as one batch, all or none. The room is only
// lacking if the process has put back nbufs whose entries it has not read.
func (l *lane) publish(ents []uint32) bool {
	if l.d.multi {
		l.in.mu.Lock()
		defer l.in.mu.Unlock()
	}
	if l.in.w.Free() < len(ents) {
		return false
	}
	l.in.w.Publish(ents)
	atomic.StoreUint32(&l.ls.inqTail, l.in.w.Pos())
	return true
}

// awaken wakes the process if it has gone to sleep on this lane since it was
// last woken (L and M of netio.h; the store of inqTail was a full barrier).
func (l *lane) awaken() {
	seq := atomic.LoadUint32(&l.pl.SleepSeq)
	if last := atomic.LoadUint32(&l.in.lastWoken); seq == last ||
		!atomic.CompareAndSwapUint32(&l.in.lastWoken, last, seq) {
		return
	}
	atomic.AddUint64(&l.dl.Wakeups, 1)
	l.wake()
}

// events are what a lane has to tell beside packets. Each kind is coalesced, so
// that they take bounded memory and none is lost however long the process is
// away: they are published while the InQ has room that no nbuf can need.
type events struct {
	pending atomic.Bool
	mu      sync.Mutex
	drops   uint64
	denied  uint64
	ports   []portEvent
	scratch []uint32
}

type portEvent struct {
	id   uint32
	what uint32 // abi.InPort or abi.InQoS
}

// post asks for an event about port id. The same event is not queued twice:
// its reader looks at the port's present state.
func (l *lane) post(what, id uint32) {
	e := &l.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev := (portEvent{id, what}); !slices.Contains(e.ports, ev) {
		e.ports = append(e.ports, ev)
		e.pending.Store(true)
		l.awaken()
	}
}

// dropped counts packets for the DROPS event.
func (l *lane) dropped(n uint64) {
	e := &l.events
	e.mu.Lock()
	e.drops += n
	e.mu.Unlock()
	e.pending.Store(true)
}

// denied counts nbufs that WANT asked for and did not get.
func (l *lane) denied(n uint32) {
	e := &l.events
	e.mu.Lock()
	e.denied += uint64(n)
	e.mu.Unlock()
	e.pending.Store(true)
}

// publishEvents moves pending events to the InQ as far as there is room.
func (l *lane) publishEvents() {
	e := &l.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if l.d.multi {
		l.in.mu.Lock()
		defer l.in.mu.Unlock()
	}
	room := l.in.w.Free() - len(l.d.st.nbufs)
	if room <= 0 {
		return
	}
	e.scratch = e.scratch[:0]
	for _, c := range []struct {
		n    *uint64
		what uint32
	}{{&e.drops, abi.InDrops}, {&e.denied, abi.InDenied}} {
		if *c.n > 0 && len(e.scratch) < room {
			n := min(*c.n, abi.EntParamMask)
			e.scratch = append(e.scratch, abi.Entry(c.what, uint32(n)))
			*c.n -= n
		}
	}
	k := min(len(e.ports), room-len(e.scratch))
	for _, p := range e.ports[:k] {
		e.scratch = append(e.scratch, abi.Entry(p.what, p.id))
	}
	e.ports = e.ports[:copy(e.ports, e.ports[k:])]
	l.in.w.Publish(e.scratch)
	atomic.StoreUint32(&l.ls.inqTail, l.in.w.Pos())
	e.pending.Store(e.drops+e.denied > 0 || len(e.ports) > 0)
}
