// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/observe"
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/ring"
	"netio.dev/netio/pkg/dataplane/timeslice"
)

// noPort is no port's number.
const noPort = ^uint32(0)

var errStopped = errors.New("the forwarder has stopped")

const (
	vectorSize = 256 // entries taken from the InQ at a time
	stockLow   = 16  // granted nbufs below which more are asked for
	stockFill  = 32
	// wantPause is how long a device that has denied nbufs is left in peace: each
	// answer is an entry, and would keep the worker awake.
	wantPause = 10 * time.Millisecond

	// DefaultPoll is how long a busy worker polls. Waking up costs some 30 us, so a
	// worker whose vectors have lately come less than half of it apart polls for
	// that time before it sleeps. With longer pauses sleeping costs little time and
	// saves the processor; a quarter is for the answer to what has just been
	// forwarded. With one processor nothing comes while it polls.
	DefaultPoll = 200 * time.Microsecond
	// sweepEvery paces the search for expired connections, on a busy and on
	// a sleeping worker; a table is searched through in sweepTurns of them.
	sweepEvery = 250 * time.Millisecond
	sweepTurns = 40
)

// Worker forwards the packets of one lane. Run owns it; other goroutines reach
// it through Do.
type Worker struct {
	lane int
	dev  device.Device
	area *abi.Area
	self bool // the device has no context of its own (SELF_SERVICE)

	in     ring.Reader
	out    ring.Writer
	plane  *abi.PLane
	dlane  *abi.DLane
	kicked uint32 // the device's sleep that the last kick answered

	next   *atomic.Pointer[config.Tables]
	tables *config.Tables
	gen    uint32

	// carrier is the port that tunnels' packets come from, and tunnels the first of
	// their numbers.
	carrier, tunnels uint32
	ipID             uint16

	conns    *conntrack.Table
	timeouts conntrack.Timeouts
	frags    fragments
	fragHdr  [60]byte
	stock    []uint32 // granted, empty nbufs
	asked    int
	wantAt   time.Duration // when to ask for nbufs again
	clock    func() time.Duration
	poll     time.Duration // how long before it sleeps, if it is busy

	ents  [vectorSize]uint32
	carry int // entries of an unfinished chain at the front of ents
	// overlong: the chain whose entries come was too long and is being refused.
	overlong bool
	pipe     pipeline
	queue    []uint32 // for the OutQ

	now     time.Duration // CLOCK_MONOTONIC, once per vector
	ms      uint32        // the same for the connection table
	swept   time.Duration
	renewed time.Duration // Go's time slice
	last    time.Duration // when the last packet came
	gap     time.Duration // between vectors, on average
	mail    mailbox
	ports   []*PortCounters
	Stats   Stats  // belongs to Run's goroutine
	touched uint32 // sum of what preload read, so that it reads it
	lost    bool   // another process owns the instance now
	onPort  func(port uint32)

	// What the slow path works with, one packet at a time.
	info        packet.Info
	vxlan       packet.VXLAN
	inner       packet.Inner
	flow, again flow
	own         pkt // that the router makes itself

	affinity *affinities // of all workers

	// With several lanes; else nil.
	peers  *peers
	told   uint64 // bit per lane that something was handed over to in this turn
	handed bool   // the packets under work were handed over
	asleep atomic.Bool

	events *observe.Worker
	tap    *observe.Tap
	tapped bool // something is captured
	parts  [chainMax][]byte
	epoch  int64 // what to add to now for Unix time

	// Of a worker that only tries a packet, see dryrun.go; nil for all others.
	dry *dryRun
}

// Run forwards until ctx is done.
func (w *Worker) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = w.dev.Wake(w.lane) })
	defer stop()
	defer w.mail.close()
	for ctx.Err() == nil {
		n, err := w.turn()
		if err != nil {
			return fmt.Errorf("lane %d: %w", w.lane, err)
		}
		if w.now-w.renewed >= timeslice.Every {
			w.renewed = w.now
			timeslice.Renew() // now that nothing waits
		}
		if n > 0 || w.mail.pending.Load() {
			continue
		}
		w.Stats.Polls++
		w.tick()
		if w.now-w.last < w.spin() {
			continue
		}
		if !w.maySleep() {
			continue
		}
		w.Stats.Sleeps++
		err = w.dev.Wait(w.lane, sweepEvery)
		w.asleep.Store(false)
		if err != nil {
			return fmt.Errorf("lane %d: wait for packets: %w", w.lane, err)
		}
	}
	return nil
}

// spin is how long to poll after the last packet.
func (w *Worker) spin() time.Duration {
	if w.gap < w.poll/2 {
		return w.poll
	}
	return w.poll / 4
}

// arrived notes the time of a vector and the pause before it, as a moving
// average over eight of them. A long pause counts as ten short ones.
func (w *Worker) arrived() {
	w.gap += (min(w.now-w.last, 5*w.poll) - w.gap) / 8
	w.last = w.now
}

// tick reads the clock and does what is due.
func (w *Worker) tick() {
	w.now = w.clock()
	w.ms = uint32(w.now / time.Millisecond)
	if w.now-w.swept >= sweepEvery {
		w.swept = w.now
		w.conns.Sweep(w.ms, w.conns.Cap()/sweepTurns+1)
		w.plane.Heartbeat++
	}
}

// turn is one round of the loop: what waits on the InQ goes through the stages
// and to the OutQ. It returns the number of entries taken.
func (w *Worker) turn() (int, error) {
	if t := w.next.Load(); t != w.tables {
		w.adopt(t)
	}
	if w.mail.pending.Load() {
		w.mail.drain()
	}
	if w.lost {
		return 0, device.ErrNotOwner
	}
	handed := w.takeHanded()
	n := w.in.Take(w.ents[w.carry:])
	if n > 0 {
		w.tapped = w.tap.Active()
		w.tick()
		w.arrived()
		w.Stats.Vectors++
		w.plane.Heartbeat++
		w.vector(w.carry + n)
		w.in.Release()
	}
	if len(w.stock) < stockLow && w.asked == 0 && w.now >= w.wantAt {
		w.asked = stockFill
		w.queue = append(w.queue, abi.Entry(abi.OutWant, stockFill))
	}
	if err := w.tellPeers(); err != nil {
		return 0, fmt.Errorf("wake another lane: %w", err)
	}
	return n + handed, w.flush()
}

// flush publishes the queue and makes the device serve it. What finds no room
// stays for the next turn.
func (w *Worker) flush() error {
	sent := 0
	if len(w.queue) > 0 {
		sent = w.out.Publish(w.queue)
		w.queue = w.queue[:copy(w.queue, w.queue[sent:])]
	}
	if !w.self {
		if sent == 0 && len(w.queue) == 0 {
			return nil
		}
		// The barrier (L) of netio.h: entries first, then the look at sleep_seq.
		atomic.AddUint32(&w.plane.Heartbeat, 1)
		seq := atomic.LoadUint32(&w.dlane.SleepSeq)
		if seq == w.kicked {
			return nil
		}
		w.kicked = seq
	}
	w.Stats.Kicks++
	if err := w.dev.Kick(w.lane); err != nil {
		return fmt.Errorf("kick: %w", err)
	}
	return nil
}

// adopt takes new tables over. Flow entries of the old ones are judged anew as
// their packets come.
func (w *Worker) adopt(t *config.Tables) {
	w.tables, w.gen = t, t.Generation
	w.carrier = noPort
	if t.VXLAN != nil && t.VXLAN.Carrier != 0 {
		w.carrier = t.VXLAN.Carrier
	}
	// The limit is a port's in all: each lane's table has its share.
	lanes := int(w.area.Header().Lanes)
	w.conns.SetLimit((t.Settings.MaxConnectionsPerPort + lanes - 1) / lanes)
	w.timeouts = t.Settings.Timeouts
}
