// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/ring"
)

// New makes an instance and owns it. Its files go to the keeper; with a nil
// keeper the instance ends with the process, but for interfaces, which a
// later instance of the same name adopts.
func New(c Config, keeper Keeper) (*Device, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if keeper == nil {
		keeper = noKeeper{}
	}
	mem, err := newMemory(c)
	if err != nil {
		return nil, err
	}
	d, err := create(c, mem, keeper)
	if err != nil {
		return nil, errors.Join(err, mem.close())
	}
	d.run()
	return d, nil
}

func create(c Config, mem *memory, keeper Keeper) (*Device, error) {
	st, err := initState(mem.state, c)
	if err != nil {
		return nil, err
	}
	event, err := newOwnerEvent()
	if err != nil {
		return nil, err
	}
	for _, f := range []NamedFile{
		{areaFile, int(mem.areaFile.Fd())}, {stateFile, int(mem.stateFile.Fd())}, {ownerFile, event},
	} {
		if err := keeper.Put(f.Name, f.FD); err != nil {
			unix.Close(event)
			return nil, fmt.Errorf("give %s to the keeper: %w", f.Name, err)
		}
	}
	owner, err := own(int(mem.stateFile.Fd()), event)
	if err != nil {
		return nil, err
	}
	d, err := open(mem, st, owner, keeper)
	if err != nil {
		owner.release()
		return nil, err
	}
	return d, nil
}

// Attach takes an instance over from an owner that has died, has closed it, or
// stands down for this one: its Kick and Wait return ErrNotOwner from then on. state
// is what the keeper holds; the descriptors belong to Attach, whatever it
// returns. Entries left on the OutQ have been serviced when it returns, and
// unread ones wait on the InQ from DLane.InqStart on.
func Attach(state []NamedFile, keeper Keeper) (*Device, error) {
	if keeper == nil {
		keeper = noKeeper{}
	}
	fds := make(map[string]int, len(state))
	for _, f := range state {
		if old, twice := fds[f.Name]; twice {
			unix.Close(old)
		}
		unix.CloseOnExec(f.FD)
		fds[f.Name] = f.FD
	}
	d, err := attach(fds, keeper)
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, err
	}
	d.run()
	return d, nil
}

// attach removes from fds what it has made its own.
func attach(fds map[string]int, keeper Keeper) (*Device, error) {
	take := func(name string) (int, error) {
		fd, ok := fds[name]
		if !ok {
			return -1, fmt.Errorf("%w: the file %q is missing", ErrState, name)
		}
		delete(fds, name)
		return fd, nil
	}
	mem := &memory{}
	fail := func(err error) (*Device, error) { return nil, errors.Join(err, mem.close()) }
	fd, err := take(areaFile)
	if err != nil {
		return fail(err)
	}
	mem.areaFile = os.NewFile(uintptr(fd), areaFile)
	if fd, err = take(stateFile); err != nil {
		return fail(err)
	}
	mem.stateFile = os.NewFile(uintptr(fd), stateFile)
	event, err := take(ownerFile)
	if err != nil {
		return fail(err)
	}
	owner, err := own(int(mem.stateFile.Fd()), event)
	if err != nil {
		return fail(err)
	}
	d, err := takeOver(mem, owner, fds, keeper)
	if err != nil {
		owner.release()
		return fail(err)
	}
	return d, nil
}

// takeOver makes a device of what the previous owner has left.
func takeOver(mem *memory, owner *ownership, fds map[string]int, keeper Keeper) (*Device, error) {
	if err := mem.mmap(); err != nil {
		return nil, err
	}
	st, err := openState(mem.state)
	if err != nil {
		return nil, err
	}
	st.repair()
	d, err := open(mem, st, owner, keeper)
	if err != nil {
		return nil, err
	}
	if err := d.restorePorts(fds); err != nil {
		d.shutPorts()
		return nil, err
	}
	d.recover()
	return d, nil
}

// open builds a device on consistent memory: the area's header and the free
// lists come from the private state.
func open(mem *memory, st *state, owner *ownership, keeper Keeper) (*Device, error) {
	hdr, err := st.config().layout()
	if err != nil {
		return nil, err
	}
	if uint64(len(mem.area)) != hdr.AreaSize {
		return nil, fmt.Errorf("%w: the area has %d bytes, its geometry needs %d", ErrState, len(mem.area), hdr.AreaSize)
	}
	st.hdr.epoch++
	hdr.Epoch, hdr.OwnerPID = st.hdr.epoch, uint32(os.Getpid())
	*(*abi.AreaHeader)(unsafe.Pointer(&mem.area[0])) = hdr
	area, err := abi.OpenArea(mem.area)
	if err != nil {
		return nil, err
	}
	d := &Device{
		area: area, st: st, mem: mem, owner: owner, keeper: keeper, multi: len(st.lanes) > 1,
		done:      make(chan struct{}),
		names:     make(map[string]uint32),
		ports:     make([]atomic.Pointer[port], len(st.ports)),
		portSlots: max(int32(st.nslot/4), 1),
	}
	nbufs, slots := st.free()
	nbufPools, slotPools := newPools(len(st.lanes), nbufs), newPools(len(st.lanes), slots)
	for i := range st.lanes {
		l, err := d.openLane(i, nbufPools[i], slotPools[i])
		if err != nil {
			d.closeLanes()
			return nil, err
		}
		d.lanes = append(d.lanes, l)
	}
	return d, nil
}

// free lists the nbufs and slots that nothing has.
func (s *state) free() (nbufs, slots []uint32) {
	used := make([]bool, s.nslot)
	nbufs = make([]uint32, 0, len(s.nbufs))
	for i := len(s.nbufs) - 1; i >= 0; i-- { // the lowest is handed out first
		rec := &s.nbufs[i]
		if rec.owner == ownDevice {
			nbufs = append(nbufs, uint32(i))
		} else if rec.slot != 0 {
			used[rec.slot-1] = true
		}
	}
	slots = make([]uint32, 0, s.nslot)
	for i := int(s.nslot) - 1; i >= 0; i-- {
		if !used[i] {
			slots = append(slots, uint32(i))
		}
	}
	return nbufs, slots
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
	if d.multi {
		l.away = make([][]uint32, len(d.st.lanes))
	}
	l.out = ring.NewReader(a.OutQ(i), h.OutqOrder, &l.dl.OutqHead, l.ls.outqHead)
	l.out.Release()
	l.dl.InqTail, l.dl.InqStart, l.dl.OutqStart = l.ls.inqTail, l.ls.inqTail, l.ls.outqHead
	l.openInQ()
	if err := l.openPoll(); err != nil {
		return nil, err
	}
	return l, nil
}

// openInQ begins to write the InQ where the lane's state says.
func (l *lane) openInQ() {
	order := l.d.area.Header().InqOrder
	l.in.w = ring.NewWriter(l.d.area.InQ(l.id), order, &l.pl.InqHead, &l.dl.InqTail, l.ls.inqTail)
	l.in.lastWoken = atomic.LoadUint32(&l.pl.SleepSeq)
}

// run starts what goes on beside the lanes: standing down, and looking after
// interfaces.
func (d *Device) run() {
	d.background.Go(func() { d.owner.serve(d) })
	d.background.Go(d.watchInterfaces)
}
