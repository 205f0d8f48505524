// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/device/nap"
)

// lane is the process's side of one lane. Its descriptors stay open, and the
// area mapped, while one of the locks is held.
type lane struct {
	mu     sync.Mutex // held by Kick
	waitMu sync.Mutex // held by Wait; taken before mu
	id     int
	fd     int // of the device, attached
	wakefd int // eventfd of Wake

	plane *abi.PLane
	inq   []uint32
	order uint32

	poll    [2]unix.PollFd // of Wait: fd and wakefd
	timeout unix.Timespec

	calls atomic.Uint64 // KICK and ppoll
}

// openLane opens a descriptor of the instance, whose poll is for the lane. a
// says how, and has the device's answer after it.
func openLane(c Config, id int, a *attach) (*lane, error) {
	fd, err := openDevice(c.Path)
	if err != nil {
		return nil, err
	}
	if err := attachTo(fd, a); err != nil {
		unix.Close(fd)
		return nil, attachError(c, a, err)
	}
	if err := ioctl(fd, iocSelectLane, uintptr(id)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("select lane %d: %w", id, err)
	}
	l, err := newLane(id, fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return l, nil
}

// newLane makes a lane of an attached descriptor, which it owns unless it fails.
func newLane(id, fd int) (*lane, error) {
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	return &lane{id: id, fd: fd, wakefd: wakefd}, nil
}

// work binds the lane to its pages and rings.
func (l *lane) work(a *abi.Area) {
	l.plane, l.inq, l.order = a.PLane(l.id), a.InQ(l.id), a.Header().InqOrder
}

func (l *lane) close() error {
	return errors.Join(unix.Close(l.fd), unix.Close(l.wakefd))
}

// kick calls the kernel without telling the scheduler: KICK never sleeps.
func (l *lane) kick() unix.Errno {
	l.calls.Add(1)
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(l.fd), uintptr(iocKick), uintptr(l.id))
	return errno
}

// drain returns once nobody is in the lane's Kick or Wait.
func (l *lane) drain() {
	l.waitMu.Lock()
	defer l.waitMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
}

// wake makes the lane's eventfd readable.
func (l *lane) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(l.wakefd, one[:])
}

// ready tells whether the InQ has an entry that the process has not consumed.
func (l *lane) ready() bool {
	pos := atomic.LoadUint32(&l.plane.InqHead)
	e := atomic.LoadUint32(&l.inq[pos&uint32(len(l.inq)-1)])
	return e&abi.EntToggle == abi.Toggle(pos, l.order)
}

// sleep waits in ppoll for at most dur, or without limit if dur < 0. It returns
// what poll says of the device, and takes a wake-up.
func (l *lane) sleep(dur time.Duration) (revents int16, err error) {
	l.poll = [2]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(l.wakefd), Events: unix.POLLIN}}
	_, errno := nap.Wait(dur, l.ppoll)
	switch errno {
	case 0:
	case unix.EINTR:
		return 0, nil
	default:
		return 0, fmt.Errorf("wait for packets: %w", errno)
	}
	if l.poll[1].Revents != 0 {
		var buf [8]byte
		unix.Read(l.wakefd, buf[:])
	}
	return l.poll[0].Revents, nil
}

func (l *lane) ppoll(call nap.Syscall, dur time.Duration) (int, unix.Errno) {
	l.calls.Add(1)
	var timeout *unix.Timespec
	if dur >= 0 {
		l.timeout = unix.NsecToTimespec(int64(dur))
		timeout = &l.timeout
	}
	n, _, errno := call(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&l.poll[0])), uintptr(len(l.poll)), uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
	return int(n), errno
}

// Kick implements device.Device.
func (d *Device) Kick(lane int) error {
	l := d.lanes[lane]
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := d.over.Load(); e != nil {
		return *e
	}
	if errno := l.kick(); errno != 0 {
		return d.failed(fmt.Sprintf("kick lane %d", lane), errno)
	}
	return nil
}

// Wait implements device.Device. It may also return early.
func (d *Device) Wait(lane int, dur time.Duration) error {
	l := d.lanes[lane]
	l.waitMu.Lock()
	defer l.waitMu.Unlock()
	if err := d.gone(); err != nil {
		return err
	}
	// H, I and J of netio.h: the atomic addition is the barrier. An entry that
	// comes after the look is seen by the device's poll, or wakes it.
	atomic.AddUint32(&l.plane.SleepSeq, 1)
	if l.ready() {
		return nil
	}
	revents, err := l.sleep(dur)
	if err != nil {
		return err
	}
	if err := d.gone(); err != nil {
		return err
	}
	if revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) == 0 {
		return nil
	}
	// Poll does not say why; KICK does.
	if err := d.Kick(lane); err != nil {
		return err
	}
	return fmt.Errorf("wait for packets: poll of the device says %#x", revents)
}

// Wake implements device.Device.
func (d *Device) Wake(lane int) error {
	d.life.RLock()
	defer d.life.RUnlock()
	if err := d.gone(); err != nil {
		return err
	}
	d.lanes[lane].wake()
	return nil
}

// SyscallCount is the number of system calls that the lane has made for packets.
// It may be called from any goroutine.
func (d *Device) SyscallCount(lane int) uint64 { return d.lanes[lane].calls.Load() }

// gone is the error of a device that is closed or has lost its instance.
func (d *Device) gone() error {
	if e := d.over.Load(); e != nil {
		return *e
	}
	return nil
}

// failed makes an error of what a call to the device returned. The caller holds
// ctl or a lane's lock. After the loss of the instance no call works any more,
// and sleepers are told.
func (d *Device) failed(what string, err error) error {
	if !errors.Is(err, unix.EOWNERDEAD) {
		return fmt.Errorf("%s: %w", what, err)
	}
	lost := device.ErrNotOwner
	if d.over.CompareAndSwap(nil, &lost) {
		for _, l := range d.lanes {
			l.wake()
		}
	}
	return d.gone()
}
