// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// Open makes this process the owner of an instance, which is made if it is not
// there. It fails with ErrNoModule, device.ErrVersion, ErrBusy (see
// Config.TakeOver), fs.ErrPermission, or fs.ErrNotExist (see Config.Existing).
func Open(c Config) (*Device, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	d := &Device{}
	if err := d.open(c); err != nil {
		return nil, errors.Join(fmt.Errorf("kernel device: %w", err), d.release())
	}
	return d, nil
}

func (d *Device) open(c Config) error {
	a := c.attach()
	first, err := openLane(c, 0, &a)
	if err != nil {
		return err
	}
	d.lanes = append(d.lanes, first)
	if d.mem, err = mapArea(first.fd, a.AreaSize); err != nil {
		return err
	}
	if d.area, err = abi.OpenArea(d.mem.bytes()); err != nil {
		if errors.Is(err, abi.ErrVersion) {
			return fmt.Errorf("%w: %w", device.ErrVersion, err)
		}
		return err
	}
	for id := 1; id < int(d.area.Header().Lanes); id++ {
		join := c.join()
		l, err := openLane(c, id, &join)
		if err != nil {
			return fmt.Errorf("lane %d: %w", id, err)
		}
		d.lanes = append(d.lanes, l)
	}
	for _, l := range d.lanes {
		l.work(d.area)
	}
	k, err := newKernelControl(first.fd)
	if err != nil {
		return err
	}
	d.kernel = k
	return d.refresh()
}

// Available tells whether there is a kernel device that this process could use,
// and the version of its ABI, without making an instance. The errors are those
// of Open; with device.ErrVersion the version is the device's, too.
func Available(path string) (version uint32, err error) {
	c := Config{Path: path, Existing: true}.withDefaults()
	fd, err := openDevice(c.Path)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	// An instance that nobody has: the device gets as far as to say so only if it
	// would let us have one.
	c.Name = fmt.Sprintf("probe-%d-%d", os.Getpid(), rand.Uint32())
	a := c.attach()
	err = attachTo(fd, &a)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return a.ABIVersion, attachError(c, &a, err)
	}
	return a.ABIVersion, nil
}

// openDevice opens the device node. The descriptor is a bare one: the runtime
// would poll an os.File.
func openDevice(path string) (int, error) {
	fd, err := -1, error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, openError(path, err)
	}
	return fd, nil
}

// attachTo makes fd a descriptor of an instance. a has the device's answer after
// it, also after an error.
func attachTo(fd int, a *attach) error {
	for {
		answer := *a
		err := ioctlPtr(fd, iocAttach, unsafe.Pointer(&answer))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		answer.Flags = a.Flags
		*a = answer
		return err
	}
}
