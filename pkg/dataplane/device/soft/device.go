// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

const features = abi.FeatPark | abi.FeatGSO | abi.FeatCsum | abi.FeatQoS | abi.FeatWhole | abi.FeatSelfService | abi.FeatTunnel

// Device is a soft device that this process owns. It implements device.Device.
type Device struct {
	area   *abi.Area
	st     *state
	keeper Keeper
	lanes  []*lane
	ports  []atomic.Pointer[port]
	multi  bool // several lanes

	portSlots int32 // parked slots that one port may hold

	ctl    sync.Mutex        // held by what changes ports, and by the end
	names  map[string]uint32 // ports by name
	closed bool
	over   atomic.Pointer[error] // why no call works any more
	done   chan struct{}         // closed when over is set
	life   sync.RWMutex          // Wake against Close

	nursery    *nursery
	mem        *memory
	owner      *ownership
	background sync.WaitGroup

	pollFDs   []unix.PollFd // of watchInterfaces
	pollPorts []*port
}

var _ device.Device = (*Device)(nil)

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
// TUNs of its ports. While that finds nothing, every other call gives the CPU to
// who waits for it: on a busy machine that is often the receiver of the last
// packet, which the write of it has woken on this CPU.
func (d *Device) Kick(lane int) error {
	l := d.lanes[lane]
	l.mu.Lock()
	if e := d.over.Load(); e != nil {
		l.mu.Unlock()
		return *e
	}
	idle := l.service()
	l.mu.Unlock()
	if idle {
		yield()
	}
	return nil
}

// SyscallCount is the number of system calls that the lane has made for packets,
// as of its last Kick. It may be called from any goroutine.
func (d *Device) SyscallCount(lane int) uint64 {
	return d.lanes[lane].callsSeen.Load()
}

// end makes all later calls fail with err and waits until no lane is in the
// device any more. Only the first end counts.
func (d *Device) end(err error) bool {
	if !d.over.CompareAndSwap(nil, &err) {
		return false
	}
	close(d.done)
	for _, l := range d.lanes {
		l.wake()
	}
	for _, l := range d.lanes {
		l.drain()
	}
	return true
}

// drain returns once nobody is in the lane's Kick or Wait.
func (l *lane) drain() {
	l.waitMu.Lock()
	defer l.waitMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
}

// shut closes what this process has open, and unmaps the memory.
func (d *Device) shut() error {
	d.shutPorts()
	d.owner.release()
	return d.mem.close()
}

// shutPorts closes the TUNs, and the lanes that polled them.
func (d *Device) shutPorts() {
	for i := range d.ports {
		if p := d.ports[i].Swap(nil); p != nil {
			unix.Close(p.fd)
		}
	}
	d.closeLanes()
	if d.nursery != nil {
		d.nursery.close()
	}
}

func (d *Device) closeLanes() {
	for _, l := range d.lanes {
		l.closePoll()
	}
}

// Close implements device.Device. Ports, buffers and rings stay with the keeper
// for the next owner.
func (d *Device) Close() error {
	err := d.close()
	d.background.Wait()
	return err
}

func (d *Device) close() error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if d.closed {
		return device.ErrClosed
	}
	d.closed = true
	d.end(device.ErrClosed)
	d.life.Lock()
	defer d.life.Unlock()
	return d.shut()
}

// Destroy removes all ports, makes the keeper forget the instance and closes
// the device.
func (d *Device) Destroy() error {
	ports, err := d.Ports()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range ports {
		errs = append(errs, d.RemovePort(p.ID))
	}
	for _, name := range []string{areaFile, stateFile, ownerFile} {
		errs = append(errs, d.keeper.Drop(name))
	}
	return errors.Join(append(errs, d.Close())...)
}
