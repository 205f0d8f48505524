// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/monotonic"
	"netio.dev/netio/pkg/dataplane/observe"
	"netio.dev/netio/pkg/dataplane/ring"
)

// Options of a forwarder.
type Options struct {
	// Device that is forwarded on. The forwarder does not close it.
	Device device.Device
	// StateDir keeps the connection tables (should be a tmpfs); "": memory only.
	StateDir string
	// MaxConnections is the capacity in all; 0 for 262144. It is fixed for the
	// process: a snapshot with another number takes effect at the next start.
	MaxConnections int
	// Poll is how long a busy worker polls before it sleeps; 0: not at all. An idle
	// one polls for a quarter of it.
	Poll   time.Duration
	Logger *slog.Logger
}

const defaultConnections = 262144

// Forwarder is a virtual router: a worker per lane of its device. All methods
// may be called from any goroutine.
type Forwarder struct {
	dev     device.Device
	log     *slog.Logger
	workers []*Worker
	tables  atomic.Pointer[config.Tables]

	Events   *observe.Events
	Captures *observe.Captures

	started atomic.Bool // Run has been called
	mu      sync.Mutex  // one change at a time
	snap    *dataplanev1.Snapshot
	gen     uint32
	ids     map[string]uint32 // ports by name, as the device numbered them
	// kept are the ports that the device had before this process, until a
	// configuration says whether they are the ones that it means.
	kept map[string]device.PortInfo
	// steered is what the device receives by uplinks, as far as this process has
	// said it.
	steered map[string][]string
	// failed are the ports of snap that could not be made or set, and why.
	failed  map[string]error
	unmade  chan struct{} // there are more of them
	history tableHistory
}

// New makes a forwarder without a configuration: it forwards nothing until
// Apply. Ports that the device kept from an earlier process are known to it.
func New(o Options) (*Forwarder, error) {
	f := &Forwarder{dev: o.Device, log: o.Logger, ids: map[string]uint32{}, kept: map[string]device.PortInfo{}, steered: map[string][]string{}, snap: &dataplanev1.Snapshot{}, unmade: make(chan struct{}, 1)}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	ports, err := o.Device.Ports()
	if err != nil {
		return nil, fmt.Errorf("list the device's ports: %w", err)
	}
	for _, p := range ports {
		f.ids[p.Name] = uint32(p.ID)
		f.kept[p.Name] = p
	}
	f.store(config.Build(f.snap, f.ids, nil, 0))

	area := o.Device.Area()
	lanes := int(area.Header().Lanes)
	f.Events = observe.NewEvents(observe.EventsConfig{Workers: lanes, Names: names{f}, Reasons: ReasonNames()})
	f.Captures = observe.NewCaptures(observe.CapturesConfig{Workers: lanes, Port: f.portID, Need: f.needWhole})
	capacity := cmp.Or(o.MaxConnections, defaultConnections)
	shared := &affinities{}
	var p *peers
	if lanes > 1 {
		p = newPeers(lanes, area.NbufCount(), capacity)
	}
	for lane := range lanes {
		conns, err := openConns(connPath(o.StateDir, lane), capacity/lanes, p, lane)
		if err != nil {
			f.Close()
			return nil, err
		}
		w := newWorker(o.Device, lane, &f.tables, conns, f.Events.Worker(lane), f.Captures.Tap(lane))
		w.peers, w.affinity, w.poll = p, shared, o.Poll
		f.workers = append(f.workers, w)
	}
	if p != nil {
		p.workers = f.workers
	}
	return f, nil
}

// openConns makes a lane's connection table, with what there is of it in the file,
// and keeps the other lanes told of it.
func openConns(path string, capacity int, p *peers, lane int) (*conntrack.Table, error) {
	o := conntrack.Options{Capacity: capacity, Path: path}
	if p == nil {
		return conntrack.Open(o)
	}
	o.OnDrop = func(c *conntrack.Conn) {
		orig, reply := c.Dirs[conntrack.Original].Key(), c.Dirs[conntrack.Reply].Key()
		p.disclaim(&orig, &reply, lane)
	}
	t, err := conntrack.Open(o)
	if err != nil {
		return nil, err
	}
	t.Each(0, t.Cap(), func(_ conntrack.Ref, c *conntrack.Conn) {
		orig, reply := c.Dirs[conntrack.Original].Key(), c.Dirs[conntrack.Reply].Key()
		p.homes.add(&orig, lane)
		p.homes.add(&reply, lane)
	})
	return t, nil
}

func connPath(dir string, lane int) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, fmt.Sprintf("connections.%d", lane))
}

func newWorker(dev device.Device, lane int, tables *atomic.Pointer[config.Tables], conns *conntrack.Table, events *observe.Worker, tap *observe.Tap) *Worker {
	area := dev.Area()
	h := area.Header()
	dl, pl := area.DLane(lane), area.PLane(lane)
	w := &Worker{
		lane: lane, dev: dev, area: area, self: h.Features&abi.FeatSelfService != 0,
		in:    ring.NewReader(area.InQ(lane), h.InqOrder, &pl.InqHead, atomic.LoadUint32(&dl.InqStart)),
		out:   ring.NewWriter(area.OutQ(lane), h.OutqOrder, &dl.OutqHead, &pl.OutqTail, atomic.LoadUint32(&dl.OutqStart)),
		plane: pl, dlane: dl, next: tables, conns: conns, events: events, tap: tap, epoch: epochOffset(), clock: monotonic.Now,
		queue: make([]uint32, 0, 4*vectorSize), stock: make([]uint32, 0, 4*stockFill),
	}
	w.tunnels = h.PortMax
	w.adopt(tables.Load())
	w.tick()
	return w
}

// Close releases what New made, after Run has returned. The device stays open.
func (f *Forwarder) Close() {
	f.Events.Close()
	f.Captures.Close()
	for _, w := range f.workers {
		if err := w.conns.Close(); err != nil {
			f.log.Error("close connection table", "lane", w.lane, "error", err)
		}
	}
}

// Run forwards until ctx is done or a worker fails.
func (f *Forwarder) Run(ctx context.Context) error {
	f.started.Store(true)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, w := range f.workers {
		wg.Go(func() {
			if err := w.Run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Go(func() { f.repair(ctx) })
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// each runs fn on every worker's goroutine in turn.
func (f *Forwarder) each(ctx context.Context, fn func(*Worker)) error {
	for _, w := range f.workers {
		if err := w.Do(ctx, func() { fn(w) }); err != nil {
			return fmt.Errorf("ask worker %d: %w", w.lane, err)
		}
	}
	return nil
}

func (f *Forwarder) portID(name string) (uint32, bool) {
	if p := f.tables.Load().PortByName(name); p != nil {
		return p.ID, true
	}
	return 0, false
}

// needWhole makes the device bring a captured port's packets whole.
func (f *Forwarder) needWhole(port, bytes uint32) error {
	whole := bytes > abi.ParkCopyMin // so much is there of a parked packet
	if f.isTunnel(port) {
		return nil // of what is parked there are the first bytes only
	}
	return f.dev.SetPort(device.PortID(port), device.PortUpdate{Whole: &whole})
}

// Snapshot is the configuration in force; it must not be changed.
func (f *Forwarder) Snapshot() *dataplanev1.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snap
}

// store makes tables the ones that workers use.
func (f *Forwarder) store(t *config.Tables) {
	f.history.add(t)
	f.tables.Store(t)
}

// tableHistory keeps the last tables, for the names in records that are a few
// milliseconds old.
type tableHistory struct {
	mu   sync.Mutex
	last [8]*config.Tables
}

func (h *tableHistory) add(t *config.Tables) {
	h.mu.Lock()
	defer h.mu.Unlock()
	copy(h.last[1:], h.last[:])
	h.last[0] = t
}

func (h *tableHistory) find(ok func(*config.Tables) bool) *config.Tables {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.IndexFunc(h.last[:], func(t *config.Tables) bool { return t != nil && ok(t) }); i >= 0 {
		return h.last[i]
	}
	return nil
}

// names resolves what records hold.
type names struct{ f *Forwarder }

// Port is the name of a port.
func (n names) Port(id uint32) string {
	t := n.f.history.find(func(t *config.Tables) bool { return t.Port(id) != nil })
	if t == nil {
		return ""
	}
	return t.Port(id).Name
}

// Rule is the name of the rule that decided a record.
func (n names) Rule(r *observe.Record) string {
	t := n.f.history.find(func(t *config.Tables) bool { return uint64(t.Generation) == r.Generation })
	if t == nil {
		return ""
	}
	return RuleName(t, r.Rule, r.InPort, r.OutPort)
}
