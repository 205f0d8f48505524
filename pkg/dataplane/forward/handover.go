// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"math/bits"
	"sync/atomic"

	"golang.org/x/sys/cpu"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// The device chooses a packet's lane by a hash that both directions of a flow
// have in common. Under NAT they have not: the answer of a service's backend, or to
// a masqueraded address, comes to any lane. So do fragments, which have no ports.
// A worker that does not know a packet's flow asks homes whose it is, and hands
// the packet over:
//
//	lane 0: InQ ─> worker 0 ── not mine ──> ring 0→1 ─┐
//	lane 1: InQ ─> worker 1 <─────────────────────────┴── like packets of its own
//
// The nbufs go back to the device by whatever lane sends them.
type peers struct {
	homes   *homes
	workers []*Worker
	rings   [][]handRing // [to][from]
}

// handRing takes entries from one worker to another. There is room for every
// nbuf, so it is never full.
type handRing struct {
	ents []uint32
	put  uint32 // the writer's: entries written
	_    cpu.CacheLinePad
	tail atomic.Uint32 // entries published
	_    cpu.CacheLinePad
	head atomic.Uint32 // entries taken
	_    cpu.CacheLinePad
}

func newPeers(lanes int, nbufs uint32, conns int) *peers {
	p := &peers{homes: newHomes(conns), rings: make([][]handRing, lanes)}
	for to := range p.rings {
		p.rings[to] = make([]handRing, lanes)
		for from := range p.rings[to] {
			if to != from {
				p.rings[to][from].ents = make([]uint32, 1<<bits.Len32(nbufs-1))
			}
		}
	}
	return p
}

// reasonHanded says that a packet was not dropped but handed over.
const reasonHanded = ReasonCount

// homeOf is the other lane that has a tuple. A packet that was handed over is
// not handed on.
func (w *Worker) homeOf(k *conntrack.Key) (lane int, ok bool) {
	if w.peers == nil || w.handed {
		return 0, false
	}
	lane, ok = w.peers.homes.find(k)
	return lane, ok && lane != w.lane && lane < len(w.peers.workers)
}

// handOver gives a packet to the worker of another lane, and what comes of a
// fragmented one after it.
func (w *Worker) handOver(p *pkt, info *packet.Info, lane int) Reason {
	if w.dry != nil {
		w.dry.lane = lane
		return reasonHanded
	}
	if info.IsFragment && info.FragOff == 0 &&
		!w.frags.add(info, p.nb.IPort, conntrack.NoRef, w.ms, w.tables.Settings.FragmentTimeout, lane) {
		return ReasonFragmentFull
	}
	r := &w.peers.rings[lane][w.lane]
	mask := uint32(len(r.ents) - 1)
	for _, e := range w.ents[p.first : p.first+p.n] {
		r.ents[r.put&mask] = e
		r.put++
	}
	w.told |= 1 << lane
	// It is counted where it is forwarded.
	w.Stats.RxPackets--
	w.Stats.RxBytes -= uint64(p.nb.Total)
	return reasonHanded
}

// tellPeers publishes what was handed over in this turn.
func (w *Worker) tellPeers() error {
	for ; w.told != 0; w.told &= w.told - 1 {
		to := bits.TrailingZeros64(w.told)
		r := &w.peers.rings[to][w.lane]
		r.tail.Store(r.put)
		// Tail first, then the look at asleep; the sleeper does it the other way
		// round, so one of the two sees the other.
		if w.peers.workers[to].asleep.Load() {
			if err := w.dev.Wake(to); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeHanded forwards what others have handed over and returns how many entries
// it were.
func (w *Worker) takeHanded() int {
	if w.peers == nil {
		return 0
	}
	// What there is of a chain of the InQ makes way. To wait for its end would be
	// to wait for as long as there are more entries than a vector takes.
	var part [chainMax]uint32
	carry := copy(part[:], w.ents[:w.carry])
	n := 0
	for from := range w.peers.rings[w.lane] {
		r := &w.peers.rings[w.lane][from]
		head, tail := r.head.Load(), r.tail.Load()
		if head == tail {
			continue
		}
		mask := uint32(len(r.ents) - 1)
		for head != tail && n+chainMax <= vectorSize {
			for more := true; more; head++ {
				e := r.ents[head&mask]
				w.ents[n] = e
				n++
				more = e&abi.EntMore != 0
			}
		}
		r.head.Store(head)
	}
	if n > 0 {
		overlong := w.overlong // of the InQ
		w.overlong, w.handed, w.tapped = false, true, w.tap.Active()
		w.tick()
		w.arrived()
		w.vector(n)
		w.overlong, w.handed = overlong, false
		w.carry = copy(w.ents[:], part[:carry])
	}
	return n
}

// maySleep announces that the worker sleeps; false if there is something for it.
func (w *Worker) maySleep() bool {
	if w.peers == nil {
		return true
	}
	w.asleep.Store(true)
	for from := range w.peers.rings[w.lane] {
		if r := &w.peers.rings[w.lane][from]; r.tail.Load() != r.head.Load() {
			w.asleep.Store(false)
			return false
		}
	}
	return true
}

// errElsewhere: another lane is making, or has made, the same connection.
var errElsewhere = errors.New("connection of another lane")

// claimTries is how often a connection is tried to be made while other lanes
// make theirs.
const claimTries = 4

// claim notes for the other lanes that a new connection is this one's. It is
// conntrack.ErrClash if the answers would look like those of a connection
// elsewhere.
func (w *Worker) claim(orig, reply *conntrack.Key) error {
	if w.peers == nil {
		return nil
	}
	if w.dry != nil {
		return w.mayClaim(orig, reply)
	}
	if !w.peers.homes.add(orig, w.lane) {
		return errElsewhere
	}
	if *orig != *reply && !w.peers.homes.add(reply, w.lane) {
		w.peers.homes.remove(orig, w.lane)
		return conntrack.ErrClash
	}
	return nil
}

// disclaim is the opposite.
func (p *peers) disclaim(orig, reply *conntrack.Key, lane int) {
	p.homes.remove(orig, lane)
	p.homes.remove(reply, lane)
}

// unused tells whether nobody has a tuple.
func (w *Worker) unused(k *conntrack.Key) bool {
	return !w.conns.Has(k) && !w.elsewhere(k)
}

// elsewhere tells whether another lane has a tuple that this one's table has not.
func (w *Worker) elsewhere(k *conntrack.Key) bool {
	if w.peers == nil {
		return false
	}
	lane, taken := w.peers.homes.find(k)
	if w.dry != nil && lane == w.lane {
		return false // one that it has forgotten, as far as it is concerned
	}
	return taken
}

// mayClaim is claim's answer, for a packet that is only tried.
func (w *Worker) mayClaim(orig, reply *conntrack.Key) error {
	switch {
	case w.elsewhere(orig):
		return errElsewhere
	case *orig != *reply && w.elsewhere(reply):
		return conntrack.ErrClash
	}
	return nil
}
