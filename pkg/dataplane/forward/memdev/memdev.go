// SPDX-License-Identifier: Apache-2.0

// Package memdev is a NetIO device in plain memory whose other side is a test:
//
//	test ── Receive ──> InQ ──> forwarder ──> OutQ ── Kick ──> Sent ──> test
//
// It keeps the truth about every nbuf as a real device does: who hands in an
// nbuf that is not its own, twice, or never, fails the test.
package memdev

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

// Config of a device. Zero values stand for the defaults.
type Config struct {
	Nbufs   uint32 // 512
	Lanes   uint32 // 1
	PortMax uint32 // 1024
	// Reserve is the number of free nbufs that WANT is denied below.
	Reserve int // 64
	// OwnContext makes a device without the feature SELF_SERVICE.
	OwnContext bool
	// Lenient devices count what they refuse in Bad, and do not fail the test.
	Lenient bool
	// Forget makes a device that does not look at what is sent, for benchmarks.
	Forget bool
	// Deferred makes a device that takes nothing from the OutQ but in Serve: the
	// benchmark of a forwarder does not measure this device.
	Deferred bool
}

// Packet that the forwarder has sent.
type Packet struct {
	Port uint32 // that it was sent to
	Data []byte // whole, with what was parked
	Nbuf abi.Nbuf
	// Nbufs that it came in: 1, or more for a chain.
	Nbufs int
}

// Rx is a packet that the forwarder is to receive.
type Rx struct {
	Port uint32
	Data []byte
	Room int // bytes per nbuf, rest in a chain; 0: as many as fit
	Park int // if positive, this many bytes are in the nbuf and the rest is parked
	Lane int
	Tune func(*abi.Nbuf) // changes what the first nbuf says
}

// Device implements device.Device.
type Device struct {
	tb   testing.TB
	cfg  Config
	area *abi.Area

	mu     sync.Mutex
	lanes  []lane
	free   []uint32
	theirs []bool            // by nbuf: the process has it
	parked map[uint32][]byte // by nbuf
	sent   []Packet
	counts Counts

	ports map[string]device.PortInfo
	// steered is what NICs receive.
	steered map[string][]netip.Prefix
	next    device.PortID
	sets    []PortUpdate
	fail    func(op string, name string) error
}

// PortUpdate is a call of SetPort.
type PortUpdate struct {
	ID device.PortID
	device.PortUpdate
}

// Counts of what was taken from the OutQs.
type Counts struct {
	Tx, Freed int // packets sent, nbufs freed
	Want      int // nbufs asked for
	Bad       int // entries that a device refuses
	Kicks     int
}

type lane struct {
	in          ring.Writer // the device's side
	out         ring.Reader
	wake        chan struct{}
	batch, ents []uint32
}

// New makes a device that the test owns.
func New(tb testing.TB, c Config) *Device {
	tb.Helper()
	c.Nbufs, c.Lanes, c.PortMax = cmp.Or(c.Nbufs, 512), cmp.Or(c.Lanes, 1), cmp.Or(c.PortMax, 1024)
	c.Reserve = cmp.Or(c.Reserve, 64)
	features := uint64(abi.FeatPark | abi.FeatSelfService | abi.FeatTunnel)
	if c.OwnContext {
		features = abi.FeatPark | abi.FeatTunnel
	}
	h, err := abi.Layout(abi.Geometry{Lanes: c.Lanes, NbufCount: c.Nbufs, PortMax: c.PortMax, Device: abi.DevSoft, Features: features})
	if err != nil {
		tb.Fatal(err)
	}
	mem, err := unix.Mmap(-1, 0, int(h.AreaSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		tb.Fatal(err)
	}
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // an optimisation only
	tb.Cleanup(func() { _ = unix.Munmap(mem) })
	*(*abi.AreaHeader)(unsafe.Pointer(&mem[0])) = h
	area, err := abi.OpenArea(mem)
	if err != nil {
		tb.Fatal(err)
	}
	d := &Device{
		tb: tb, cfg: c, area: area, lanes: make([]lane, c.Lanes), theirs: make([]bool, c.Nbufs),
		parked: map[uint32][]byte{}, ports: map[string]device.PortInfo{}, steered: map[string][]netip.Prefix{}, next: 1,
	}
	for i := range d.lanes {
		dl, pl := area.DLane(i), area.PLane(i)
		d.lanes[i] = lane{
			in:   ring.NewWriter(area.InQ(i), h.InqOrder, &pl.InqHead, &dl.InqTail, 0),
			out:  ring.NewReader(area.OutQ(i), h.OutqOrder, &dl.OutqHead, 0),
			wake: make(chan struct{}, 1),
			ents: make([]uint32, c.Nbufs+abi.EventSlots), batch: make([]uint32, 0, c.Nbufs),
		}
	}
	for i := range d.lanes {
		d.fallAsleep(i)
	}
	for i := range c.Nbufs {
		d.free = append(d.free, c.Nbufs-1-i)
	}
	return d
}

// Use makes tb the test that a failure is of from now on.
func (d *Device) Use(tb testing.TB) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tb = tb
}

// Receive puts packets on the InQs, all of a lane's as one batch.
func (d *Device) Receive(packets ...Rx) {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.lanes {
		var ents []uint32
		for _, rx := range packets {
			if rx.Lane == i {
				ents = d.entries(ents, rx)
			}
		}
		d.publish(i, ents)
	}
}

// entries fills nbufs with a packet and appends their entries.
func (d *Device) entries(ents []uint32, rx Rx) []uint32 {
	d.tb.Helper()
	room := min(cmp.Or(rx.Room, abi.NbufRoom), abi.NbufRoom)
	data, rest := rx.Data, []byte(nil)
	if rx.Park > 0 && rx.Park < len(data) {
		data, rest = data[:rx.Park], data[rx.Park:]
	}
	for first := true; first || len(data) > 0; first = false {
		i := d.alloc()
		n := copy(d.area.NbufBytes(i)[abi.NbufData:abi.NbufData+room], data)
		data = data[n:]
		nb := abi.Nbuf{IPort: rx.Port, Off: abi.NbufData, Len: uint16(n), Total: uint32(len(rx.Data)), Lane: uint8(rx.Lane)}
		if first {
			if rest != nil {
				nb.Flags |= abi.NbParked
				d.parked[i] = slices.Clone(rest)
			}
			if rx.Tune != nil {
				rx.Tune(&nb)
			}
		}
		*d.area.Nbuf(i) = nb
		e := abi.Entry(abi.InRX, i)
		if len(data) > 0 {
			e |= abi.EntMore
		}
		ents = append(ents, e)
	}
	return ents
}

// alloc takes a free nbuf and makes it the process's. d.mu is held.
func (d *Device) alloc() uint32 {
	if len(d.free) == 0 {
		d.tb.Helper()
		d.tb.Fatal("the device has no free nbuf left")
	}
	i := d.free[len(d.free)-1]
	d.free = d.free[:len(d.free)-1]
	d.theirs[i] = true
	return i
}

// Drain carries out what is still on the OutQs, after the forwarder has ended.
func (d *Device) Drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.lanes {
		d.serve(i)
	}
}

// Waiting are the nbufs on the InQs that the forwarder, which has ended, has not
// taken.
func (d *Device) Waiting() []uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []uint32
	for i := range d.lanes {
		w := &d.lanes[i].in
		head := d.area.PLane(i).InqHead
		ring := d.area.InQ(i)
		for pos := head; pos != w.Pos(); pos++ {
			if e := ring[pos&uint32(len(ring)-1)]; abi.Action(e) == abi.InRX || abi.Action(e) == abi.InGrant {
				list = append(list, abi.Param(e))
			}
		}
	}
	return list
}

// Alloc takes n free nbufs for entries that the caller makes himself.
func (d *Device) Alloc(dst []uint32, n int) []uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range n {
		dst = append(dst, d.alloc())
	}
	return dst
}

// Publish puts entries on a lane's InQ as they are.
func (d *Device) Publish(lane int, ents ...uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.publish(lane, ents)
}

func (d *Device) publish(i int, ents []uint32) {
	if n := d.lanes[i].in.Publish(ents); n != len(ents) {
		d.tb.Helper()
		d.tb.Fatalf("InQ %d takes %d of %d entries", i, n, len(ents))
	}
	_ = d.Wake(i)
}

// Room is the number of entries that a lane's InQ takes.
func (d *Device) Room(lane int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lanes[lane].in.Free()
}

// Sent returns the packets that were sent since the last call.
func (d *Device) Sent() []Packet {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sent
	d.sent = nil
	return s
}

// Counts returns what was taken from the OutQs so far.
func (d *Device) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// CheckNoLeak verifies that every nbuf is free or in held, which the process
// knows of.
func (d *Device) CheckNoLeak(held []uint32) {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := make([]int, d.area.NbufCount())
	for _, i := range d.free {
		seen[i]++
	}
	for _, i := range held {
		if !d.theirs[i] {
			d.tb.Errorf("the process holds nbuf %d, which is the device's", i)
		}
		seen[i]++
	}
	for i, n := range seen {
		if n != 1 {
			d.tb.Errorf("nbuf %d is in %d places", i, n)
		}
	}
	if len(d.parked) != 0 {
		d.tb.Errorf("%d packets are parked with nobody to send them", len(d.parked))
	}
}

// Area implements device.Device.
func (d *Device) Area() *abi.Area { return d.area }

// Kick implements device.Device.
func (d *Device) Kick(lane int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts.Kicks++
	if d.cfg.Deferred {
		return nil
	}
	d.serve(lane)
	for d.fallAsleep(lane) {
		d.serve(lane)
	}
	return nil
}

// Serve carries out what is on a lane's OutQ, of a device that defers that.
func (d *Device) Serve(lane int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serve(lane)
}

// fallAsleep is H to J of netio.h for a device with a context of its own; true if
// there is more to do.
func (d *Device) fallAsleep(lane int) bool {
	if !d.cfg.OwnContext {
		return false
	}
	atomic.AddUint32(&d.area.DLane(lane).SleepSeq, 1)
	return d.lanes[lane].out.Ready()
}

// serve carries out what is on a lane's OutQ. d.mu is held.
func (d *Device) serve(lane int) {
	l := &d.lanes[lane]
	for {
		n := l.out.Take(l.ents)
		if n == 0 {
			return
		}
		l.batch = l.batch[:0]
		i := 0
		for i < n {
			k := d.carryOut(l, l.ents[i:n])
			if k == 0 {
				break // a chain whose end is not there yet
			}
			i += k
		}
		l.out.PutBack(n - i)
		l.out.Release()
		l.in.Publish(l.batch)
		if i < n {
			return
		}
	}
}

// carryOut does the first action of ents and returns the number of its entries.
func (d *Device) carryOut(l *lane, ents []uint32) int {
	e := ents[0]
	v := abi.Param(e)
	switch abi.Action(e) {
	case abi.OutTX:
		n := 1
		for ents[n-1]&abi.EntMore != 0 {
			if n == len(ents) {
				return 0
			}
			if abi.Action(ents[n]) != abi.OutTX {
				d.refuse("a chain is broken off by action %d", abi.Action(ents[n]))
				break
			}
			n++
		}
		d.transmit(ents[:n])
		return n
	case abi.OutFree:
		if d.take(v) {
			d.counts.Freed++
			d.release(v)
		}
	case abi.OutWant:
		d.counts.Want += int(v)
		for range v {
			if len(d.free) < d.cfg.Reserve {
				l.batch = append(l.batch, abi.Entry(abi.InDenied, 1))
				continue
			}
			l.batch = append(l.batch, abi.Entry(abi.InGrant, d.alloc()))
		}
	default:
		d.refuse("action %d on the OutQ", abi.Action(e))
	}
	return 1
}

// transmit takes a packet of one or more nbufs.
func (d *Device) transmit(ents []uint32) {
	if d.cfg.Forget { // a benchmark's: not a cache line more than it must
		for _, e := range ents {
			if v := abi.Param(e); d.take(v) {
				d.counts.Tx++
				d.release(v)
			}
		}
		return
	}
	var p *Packet
	sum := uint32(0)
	for _, e := range ents {
		v := abi.Param(e)
		if !d.take(v) {
			continue
		}
		nb := d.area.Nbuf(v)
		if p == nil {
			d.counts.Tx++
			p = &Packet{Port: nb.EPort, Nbuf: *nb, Nbufs: len(ents)}
		}
		sum += uint32(nb.Len)
		if int(nb.Off)+int(nb.Len) <= abi.NbufSize {
			p.Data = append(p.Data, d.area.NbufBytes(v)[nb.Off:int(nb.Off)+int(nb.Len)]...)
			p.Data = append(p.Data, d.parked[v]...)
		}
		sum += uint32(len(d.parked[v]))
		d.release(v)
	}
	if p == nil {
		return
	}
	if p.Nbuf.Total != sum {
		d.refuse("a packet of %d bytes says that it has %d", sum, p.Nbuf.Total)
	}
	if p.Nbuf.Flags&abi.NbDirty == 0 {
		d.refuse("a packet was sent without the mark that its headers have changed")
	}
	d.sent = append(d.sent, *p)
}

// take checks that nbuf v is the process's, and makes it the device's.
func (d *Device) take(v uint32) bool {
	if v >= uint32(len(d.theirs)) || !d.theirs[v] {
		d.refuse("nbuf %d is not the process's", v)
		return false
	}
	d.theirs[v] = false
	return true
}

func (d *Device) release(v uint32) {
	if len(d.parked) > 0 {
		delete(d.parked, v)
	}
	d.free = append(d.free, v)
}

func (d *Device) refuse(format string, args ...any) {
	d.counts.Bad++
	if !d.cfg.Lenient {
		d.tb.Helper()
		d.tb.Errorf("the device refuses: "+format, args...)
	}
}

// Wait implements device.Device.
func (d *Device) Wait(lane int, t time.Duration) error {
	select {
	case <-d.lanes[lane].wake:
	case <-time.After(t):
	}
	return nil
}

// Wake implements device.Device.
func (d *Device) Wake(lane int) error {
	select {
	case d.lanes[lane].wake <- struct{}{}:
	default:
	}
	return nil
}

// FailPorts makes f decide which port operations fail: op is "add", "remove" or
// "set". nil: none.
func (d *Device) FailPorts(f func(op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

func (d *Device) failure(op, name string) error {
	if d.fail == nil {
		return nil
	}
	return d.fail(op, name)
}

// AddPort implements device.Device. Numbers are used again, lowest first.
func (d *Device) AddPort(c device.PortConfig) (device.PortInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failure("add", c.Name); err != nil {
		return device.PortInfo{}, fmt.Errorf("port %s: %w", c.Name, err)
	}
	if _, ok := d.ports[c.Name]; ok {
		return device.PortInfo{}, fmt.Errorf("port %s: %w", c.Name, device.ErrPortExists)
	}
	used := map[device.PortID]bool{}
	for _, p := range d.ports {
		used[p.ID] = true
	}
	id := d.next
	for used[id] {
		id++
	}
	p := device.PortInfo{ID: id, PortConfig: c, IfIndex: 100 + int(id), Up: true}
	atomic.StoreUint32(&d.area.Port(uint32(id)).State, abi.PortPresent|abi.PortUp)
	d.ports[c.Name] = p
	return p, nil
}

// AddNIC implements device.NICs.
func (d *Device) AddNIC(c device.NICConfig) (device.PortInfo, error) {
	p, err := d.AddPort(device.PortConfig{Name: c.Name, IfName: c.IfName, MTU: 1500, Quota: c.Quota, Whole: c.Whole})
	if err != nil {
		return p, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.NIC = true
	atomic.StoreUint32(&d.area.Port(uint32(p.ID)).State, abi.PortPresent|abi.PortUp|abi.PortNIC)
	d.ports[c.Name] = p
	return p, nil
}

// Steer implements device.NICs for SteerReplace.
func (d *Device) Steer(id device.PortID, op device.SteerOp, prefixes ...netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, p := range d.ports {
		if p.ID != id || !p.NIC || op != device.SteerReplace {
			continue
		}
		if err := d.failure("steer", name); err != nil {
			return fmt.Errorf("port %s: %w", name, err)
		}
		d.steered[name] = prefixes
		return nil
	}
	return fmt.Errorf("port %d: %w", id, device.ErrNoPort)
}

// Steered is what a NIC's port receives.
func (d *Device) Steered(name string) []netip.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steered[name]
}

// EndNIC is the end of a NIC's interface.
func (d *Device) EndNIC(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	atomic.StoreUint32(&d.area.Port(uint32(d.ports[name].ID)).State, 0)
}

// NextPort makes the numbers of new ports begin at id.
func (d *Device) NextPort(id uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = device.PortID(id)
}

// RemovePort implements device.Device.
func (d *Device) RemovePort(id device.PortID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, p := range d.ports {
		if p.ID == id {
			if err := d.failure("remove", name); err != nil {
				return fmt.Errorf("port %s: %w", name, err)
			}
			delete(d.ports, name)
			delete(d.steered, name)
			atomic.StoreUint32(&d.area.Port(uint32(id)).State, 0)
			return nil
		}
	}
	return device.ErrNoPort
}

// SetPort implements device.Device.
func (d *Device) SetPort(id device.PortID, u device.PortUpdate) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, p := range d.ports {
		if p.ID == id {
			if err := d.failure("set", name); err != nil {
				return fmt.Errorf("port %s: %w", name, err)
			}
			d.sets = append(d.sets, PortUpdate{id, u})
			return nil
		}
	}
	return device.ErrNoPort
}

// PortUpdates returns the calls of SetPort since the last one of it.
func (d *Device) PortUpdates() []PortUpdate {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sets
	d.sets = nil
	return s
}

// Ports implements device.Device.
func (d *Device) Ports() ([]device.PortInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []device.PortInfo
	for _, p := range d.ports {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b device.PortInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// Close implements device.Device.
func (d *Device) Close() error { return nil }
