// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

const (
	defaultRate          = 100_000 // records per second and worker
	defaultRing          = 4096    // records per worker, 320 KiB
	defaultQueue         = 4096    // events per subscription
	defaultSubscriptions = 64

	// drainInterval is how often the hub looks at the rings. The default rate
	// fills a quarter of a default ring in it.
	drainInterval = 10 * time.Millisecond
	// noticeInterval is how long a loss waits for an event to travel with
	// before it is told on its own.
	noticeInterval = time.Second
)

// Names tells the names behind a record's numbers. The hub calls it for records
// that are a few milliseconds old, so a port or rule that has just been removed
// should still have its name. It may be called from many goroutines at once, must
// not block, and must not call into Events.
type Names interface {
	// Port returns a port's name, "" if the number has none.
	Port(id uint32) string
	// Rule returns the name by which people know the rule that decided a record,
	// whose Rule is not 0; "" if it is not known any more. It must not keep the
	// record.
	Rule(r *Record) string
}

// EventsConfig says how Events works. Zero values stand for the defaults.
type EventsConfig struct {
	Workers int      // how many Worker there are; at least 1
	Names   Names    // required
	Reasons []string // names of Record.Reason by number; the first one is unused

	Rate          int // records per second and worker; 100,000
	Ring          int // records between a worker and the hub, rounded up to a power of two; 4096
	Queue         int // events that a subscription may be behind; 4096
	Subscriptions int // at once; 64
}

// Events brings records from the workers to subscriptions. Its methods may be
// called from any goroutine.
type Events struct {
	cfg     EventsConfig
	workers []Worker

	mu     sync.Mutex
	subs   []*Subscription
	closed bool
	stop   chan struct{} // ends the hub; nil while there is none
	rings  []*ring       // of the workers, while there is a hub
	told   []uint64      // worker losses that subscriptions know of
	batch  []Record      // the hub's, reused
}

// NewEvents returns the plumbing for cfg.Workers workers. Nothing runs until
// somebody subscribes.
func NewEvents(cfg EventsConfig) *Events {
	cfg.Workers = max(cfg.Workers, 1)
	cfg.Rate = cmp.Or(cfg.Rate, defaultRate)
	cfg.Ring = roundUp(cmp.Or(cfg.Ring, defaultRing))
	cfg.Queue = cmp.Or(cfg.Queue, defaultQueue)
	cfg.Subscriptions = cmp.Or(cfg.Subscriptions, defaultSubscriptions)
	e := &Events{
		cfg:     cfg,
		workers: make([]Worker, cfg.Workers),
		rings:   make([]*ring, cfg.Workers),
		told:    make([]uint64, cfg.Workers),
	}
	for i := range e.workers {
		e.workers[i].burst = uint32(min(max(1, cfg.Rate/int(time.Second/rateWindow)), math.MaxUint32))
		e.workers[i].budget = e.workers[i].burst
	}
	return e
}

// Worker returns the end that belongs to worker i, 0 to Workers-1.
func (e *Events) Worker(i int) *Worker { return &e.workers[i] }

// Subscribe returns the events that match the filter from now on; nil matches
// all. The caller closes the subscription. The error wraps ErrFilter, ErrBusy or
// ErrClosed.
func (e *Events) Subscribe(filter *dataplanev1.Filter) (*Subscription, error) {
	m, err := CompileFilter(filter, e.cfg.Names, e.cfg.Reasons)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	if len(e.subs) == e.cfg.Subscriptions {
		return nil, ErrBusy
	}
	s := &Subscription{
		events: e,
		match:  m,
		queue:  make(chan event, e.cfg.Queue),
		done:   make(chan struct{}),
		sentAt: time.Now(),
	}
	if len(e.subs) == 0 {
		e.start()
	}
	e.subs = append(e.subs, s)
	e.tellWants()
	return s, nil
}

// Close ends all subscriptions and refuses new ones.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, s := range slices.Clone(e.subs) {
		e.remove(s)
	}
}

// tellWants tells the workers what is watched. e.mu is held.
func (e *Events) tellWants() {
	all := slices.ContainsFunc(e.subs, func(s *Subscription) bool { return !s.match.logged })
	for i := range e.workers {
		e.workers[i].all.Store(all)
	}
}

// start makes the workers emit. The rings are new ones, so that nothing of an
// earlier watch is in them. e.mu is held.
func (e *Events) start() {
	e.stop = make(chan struct{})
	for i := range e.workers {
		e.rings[i] = newRing(e.cfg.Ring)
		e.told[i] = e.workers[i].lost.Load()
		e.workers[i].ring.Store(e.rings[i])
	}
	go e.run(e.stop)
}

// remove ends a subscription, and the hub with the last one. e.mu is held.
func (e *Events) remove(s *Subscription) {
	i := slices.Index(e.subs, s)
	if i < 0 {
		return
	}
	e.subs = slices.Delete(e.subs, i, i+1)
	close(s.done)
	e.tellWants()
	if len(e.subs) > 0 {
		return
	}
	close(e.stop)
	e.stop, e.batch = nil, nil
	for i := range e.workers {
		e.workers[i].ring.Store(nil)
		e.rings[i] = nil
	}
}

// run is the hub. A hub that has been stopped may find the lock taken by its
// successor's start, hence the second look at stop.
func (e *Events) run(stop chan struct{}) {
	tick := time.NewTicker(drainInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			e.mu.Lock()
			if e.stop == stop {
				e.drain(now)
			}
			e.mu.Unlock()
		}
	}
}

// drain takes what is in the rings to the subscriptions. e.mu is held.
func (e *Events) drain(now time.Time) {
	e.batch = e.batch[:0]
	lost := uint64(0)
	for i, g := range e.rings {
		e.batch = g.drain(e.batch)
		n := e.workers[i].lost.Load()
		lost += n - e.told[i]
		e.told[i] = n
	}
	if len(e.rings) > 1 {
		slices.SortStableFunc(e.batch, func(a, b Record) int { return cmp.Compare(a.Time, b.Time) })
	}
	for i := range e.batch {
		e.deliver(&e.batch[i], now)
	}
	for _, s := range e.subs {
		s.lost += lost
		s.notice(now)
	}
}

// deliver offers a record to each subscription; names are looked up once, and
// only if one of them wants it.
func (e *Events) deliver(r *Record, now time.Time) {
	var ev event
	for _, s := range e.subs {
		if !s.match.Match(r) {
			continue
		}
		if ev.Verdict == 0 {
			ev = e.name(r)
		}
		s.offer(ev, now)
	}
}

func (e *Events) name(r *Record) event {
	ev := event{Record: *r}
	if r.Reason != 0 {
		if int(r.Reason) < len(e.cfg.Reasons) {
			ev.reason = e.cfg.Reasons[r.Reason]
		} else {
			ev.reason = "reason " + strconv.Itoa(int(r.Reason))
		}
	}
	if r.Rule != 0 {
		ev.rule = e.cfg.Names.Rule(r)
	}
	if r.InPort != 0 {
		ev.inPort = e.cfg.Names.Port(r.InPort)
	}
	if r.OutPort != 0 {
		ev.outPort = e.cfg.Names.Port(r.OutPort)
	}
	return ev
}

func roundUp(n int) int {
	p := 1
	for p < n {
		p <<= 1
	}
	return p
}
