// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// Device is an instance of the kernel module that this process owns. It
// implements device.Device.
type Device struct {
	area  *abi.Area
	mem   *memory
	lanes []*lane

	ctl    sync.Mutex // held by what concerns ports, and by Close
	kernel control
	ports  ports
	closed bool

	over atomic.Pointer[error] // why no call works any more
	life sync.RWMutex          // Wake against Close
}

var _ device.Device = (*Device)(nil)

// Area implements device.Device.
func (d *Device) Area() *abi.Area { return d.area }

// Close implements device.Device. The instance and its ports stay in the kernel.
func (d *Device) Close() error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if d.closed {
		return device.ErrClosed
	}
	d.closed = true
	err := device.ErrClosed
	d.over.Store(&err)
	for _, l := range d.lanes {
		l.wake()
	}
	for _, l := range d.lanes {
		l.drain()
	}
	d.life.Lock()
	defer d.life.Unlock()
	return d.release()
}

// release gives back what has been opened so far.
func (d *Device) release() error {
	var errs []error
	if d.kernel != nil {
		errs = append(errs, d.kernel.close())
	}
	if d.mem != nil {
		errs = append(errs, d.mem.close())
	}
	for _, l := range d.lanes {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// Destroy removes all ports, ends the instance and closes the device.
func (d *Device) Destroy() error {
	ports, err := d.Ports()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range ports {
		errs = append(errs, d.RemovePort(p.ID))
	}
	return errors.Join(append(errs, d.destroy(), d.Close())...)
}

func (d *Device) destroy() error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return err
	}
	if err := d.kernel.destroy(); err != nil {
		return d.failed(fmt.Sprintf("destroy instance %q", d.name()), err)
	}
	return nil
}

// name of the instance.
func (d *Device) name() string { return cstring(d.area.Header().Name[:]) }
