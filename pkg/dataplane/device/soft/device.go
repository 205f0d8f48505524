// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

const features = abi.FeatPark | abi.FeatGSO | abi.FeatCsum | abi.FeatQoS | abi.FeatWhole | abi.FeatSelfService

// Device is a soft device that this process owns. It implements device.Device.
type Device struct {
	area   *abi.Area
	st     *state
	keeper Keeper
	lanes  []*lane
	ports  []atomic.Pointer[port]
	multi  bool // several lanes

	portSlots int32 // parked slots that one port may hold

	ctl     sync.Mutex        // AddPort, RemovePort, SetPort, Ports, Close
	names   map[string]uint32 // of ports
	life    sync.RWMutex      // against the end of what Wake uses
	over    atomic.Pointer[error]
	nursery *nursery
	files   []*os.File // of the memory
}

var _ device.Device = (*Device)(nil)

// New makes an instance and owns it. Its files go to the keeper; with a nil
// keeper the instance ends with the process, but for interfaces, which a
// later instance of the same name adopts.
func New(c Config, keeper Keeper) (*Device, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	hdr, err := abi.Layout(abi.Geometry{
		Lanes: uint32(c.Lanes), NbufCount: uint32(c.Nbufs), PortMax: uint32(c.Ports),
		Features: features, Device: abi.DevSoft, Name: c.Name,
	})
	if err != nil {
		return nil, err
	}
	areaF, err := newMemfd("netio-area", hdr.AreaSize)
	if err != nil {
		return nil, err
	}
	stateF, err := newMemfd("netio-state", stateSize(c))
	if err != nil {
		areaF.Close()
		return nil, err
	}
	d, err := create(c, hdr, areaF, stateF, keeper)
	if err != nil {
		areaF.Close()
		stateF.Close()
		return nil, err
	}
	return d, nil
}

func create(c Config, hdr abi.AreaHeader, areaF, stateF *os.File, keeper Keeper) (*Device, error) {
	areaMem, err := mapMemfd(areaF)
	if err != nil {
		return nil, err
	}
	*(*abi.AreaHeader)(unsafe.Pointer(&areaMem[0])) = hdr
	stateMem, err := mapMemfd(stateF)
	if err != nil {
		unix.Munmap(areaMem)
		return nil, err
	}
	unmap := func() {
		unix.Munmap(areaMem)
		unix.Munmap(stateMem)
	}
	st, err := initState(stateMem, c)
	if err != nil {
		unmap()
		return nil, err
	}
	d, err := open(areaMem, st, keeper)
	if err != nil {
		unmap()
		return nil, err
	}
	d.files = []*os.File{areaF, stateF}
	for _, f := range []struct {
		name string
		f    *os.File
	}{{areaFile, areaF}, {stateFile, stateF}} {
		if err := d.keeper.Put(f.name, int(f.f.Fd())); err != nil {
			d.shut()
			unmap()
			return nil, fmt.Errorf("give %s to the keeper: %w", f.name, err)
		}
	}
	return d, nil
}

// open builds a device on mapped and consistent memory: free lists come from a
// scan of the private state, positions from its lanes.
func open(areaMem []byte, st *state, keeper Keeper) (*Device, error) {
	area, err := abi.OpenArea(areaMem)
	if err != nil {
		return nil, err
	}
	if keeper == nil {
		keeper = noKeeper{}
	}
	d := &Device{
		area: area, st: st, keeper: keeper, multi: len(st.lanes) > 1,
		names:     make(map[string]uint32),
		ports:     make([]atomic.Pointer[port], len(st.ports)),
		portSlots: max(int32(st.nslot/4), 1),
	}
	st.hdr.epoch++
	live := area.Live()
	atomic.StoreUint64(&live.Epoch, st.hdr.epoch)
	atomic.StoreUint32(&live.OwnerPID, uint32(os.Getpid()))

	freeNbufs := make([]uint32, 0, len(st.nbufs))
	usedSlot := make([]bool, st.nslot)
	for i := range st.nbufs {
		rec := &st.nbufs[i]
		if rec.owner == ownDevice {
			freeNbufs = append(freeNbufs, uint32(i))
		} else if rec.slot != 0 {
			usedSlot[rec.slot-1] = true
		}
	}
	freeSlots := make([]uint32, 0, st.nslot)
	for i, used := range usedSlot {
		if !used {
			freeSlots = append(freeSlots, uint32(i))
		}
	}
	nbufPools := newPools(len(st.lanes), freeNbufs)
	slotPools := newPools(len(st.lanes), freeSlots)
	for i := range st.lanes {
		l, err := d.openLane(i, nbufPools[i], slotPools[i])
		if err != nil {
			d.shut()
			return nil, err
		}
		d.lanes = append(d.lanes, l)
	}
	return d, nil
}

func (d *Device) openLane(i int, nbufs, slots pool) (*lane, error) {
	a, h := d.area, d.area.Header()
	l := &lane{
		d: d, id: i, base: unsafe.Pointer(a.Nbuf(0)),
		dl: a.DLane(i), pl: a.PLane(i), ls: &d.st.lanes[i],
		nbufs: nbufs, slots: slots,
		rx:     make([]uint32, 0, rxBatch*chainNbufs),
		grants: make([]uint32, 0, rxBatch),
	}
	l.out = ring.NewReader(a.OutQ(i), h.OutqOrder, &l.dl.OutqHead, l.ls.outqHead)
	l.in.w = ring.NewWriter(a.InQ(i), h.InqOrder, &l.pl.InqHead, &l.dl.InqTail, l.ls.inqTail)
	l.in.lastWoken = l.pl.SleepSeq
	l.dl.OutqHead = l.ls.outqHead
	l.dl.InqTail = l.ls.inqTail
	l.dl.OutqStart = l.ls.outqHead
	if err := l.openPoll(); err != nil {
		return nil, err
	}
	return l, nil
}

// Area implements device.Device.
func (d *Device) Area() *abi.Area { return d.area }

// gone is the error of a device that is closed or has lost its instance.
func (d *Device) gone() error {
	if e := d.over.Load(); e != nil {
		return *e
	}
	return nil
}

// Kick implements device.Device: it services the OutQ of the lane and reads the
// TUNs of its ports.
func (d *Device) Kick(lane int) error {
	l := d.lanes[lane]
	l.mu.Lock()
	if e := d.over.Load(); e != nil {
		l.mu.Unlock()
		return *e
	}
	l.service()
	l.mu.Unlock()
	return nil
}

// SyscallCount is the number of system calls that the lane has made for packets.
func (d *Device) SyscallCount(lane int) uint64 {
	l := d.lanes[lane]
	return l.reads.Load() + l.writes.Load() + l.epolls.Load()
}

// end makes all later calls fail with err and waits until no lane is in the
// device any more. Only the first end counts.
func (d *Device) end(err error) bool {
	if !d.over.CompareAndSwap(nil, &err) {
		return false
	}
	for _, l := range d.lanes {
		l.wake()
	}
	for _, l := range d.lanes {
		l.mu.Lock()
		l.waitMu.Lock()
		l.waitMu.Unlock()
		l.mu.Unlock()
	}
	return true
}

// shut closes what this process has open, but unmaps nothing.
func (d *Device) shut() {
	for i := range d.ports {
		if p := d.ports[i].Swap(nil); p != nil {
			unix.Close(p.fd)
		}
	}
	for _, l := range d.lanes {
		l.closePoll()
	}
	if d.nursery != nil {
		d.nursery.close()
	}
	for _, f := range d.files {
		f.Close()
	}
}

// Close implements device.Device. Ports, buffers and rings stay with the keeper
// for the next owner.
func (d *Device) Close() error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	d.life.Lock()
	defer d.life.Unlock()
	if !d.end(device.ErrClosed) {
		return device.ErrClosed
	}
	d.shut()
	return errors.Join(unix.Munmap(d.area.Mem()), unix.Munmap(d.st.mem))
}
