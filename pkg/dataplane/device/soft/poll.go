// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device/nap"
	"netio.dev/netio/pkg/dataplane/monotonic"
)

// A lane finds packets in two ways. Ports that had some lately are hot: each
// round reads them, and a read that finds nothing says that the port is drained.
// All others only stand in the lane's epoll set, edge-triggered: they cost
// nothing, and no call is needed when a port turns hot or cold. The edge comes
// with each packet that arrives after a read has found nothing, so a lane that
// has drained its ports can sleep in epoll_wait without a look back.

const (
	// harvestEvery is how long, in ns, packets of a port that has just become
	// active may wait while others are hot.
	harvestEvery = 30_000
	// wakeToken marks the lane's eventfd among epoll events; ports carry
	// their number.
	wakeToken = 0
)

// hotTurns is how many turns in a row a port may find nothing and stay hot. A
// read of an empty TUN costs about as much as an epoll_wait, which looks at
// any number of ports.
func (d *Device) hotTurns(hot int) int {
	if hot <= 4 {
		return 16
	}
	return 2
}

func (l *lane) openPoll() error {
	var err error
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("create epoll: %w", err)
	}
	if l.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(l.epfd)
		return fmt.Errorf("create eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeToken}
	if err = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, l.wakefd, &ev); err != nil {
		l.closePoll()
		return fmt.Errorf("watch eventfd: %w", err)
	}
	return nil
}

func (l *lane) closePoll() {
	unix.Close(l.epfd)
	unix.Close(l.wakefd)
}

// watch lets the lane's epoll set report packets of p and, while its interface
// is down, that it has come up.
func (l *lane) watch(p *port, op int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(p.id)}
	if !p.up.Load() {
		ev.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(l.epfd, op, p.fd, &ev); err != nil {
		return fmt.Errorf("watch port %d: %w", p.id, err)
	}
	return nil
}

// harvest makes ports hot for which epoll has packets.
func (l *lane) harvest() {
	l.harvested = l.now
	l.calls++
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.epfd),
		uintptr(unsafe.Pointer(&l.epev[0])), uintptr(len(l.epev)), 0, 0, 0)
	if errno == 0 {
		l.ready(int(n))
	}
}

// ready looks at the first n of l.epev and tells whether one is the eventfd.
func (l *lane) ready(n int) (woken bool) {
	for i := range l.epev[:n] {
		ev := &l.epev[i]
		if ev.Fd == wakeToken {
			woken = true
			continue
		}
		p := l.d.ports[uint32(ev.Fd)].Load()
		if p == nil || p.home != l {
			continue
		}
		if ev.Events&unix.EPOLLOUT != 0 && !p.up.Load() {
			p.setUp(true)
		}
		if ev.Events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP) != 0 && !p.dead {
			l.heat(p)
		}
	}
	return woken
}

func (l *lane) heat(p *port) {
	p.drained = false
	p.idle = 0
	if !p.polled {
		p.polled = true
		l.hot = append(l.hot, p)
	}
}

// cool takes drained ports that had nothing for more than turns turns from the
// hot ones.
func (l *lane) cool(turns int) {
	hot := l.hot[:0]
	for _, p := range l.hot {
		if p.drained && p.idle > turns {
			p.polled = false
			continue
		}
		hot = append(hot, p)
	}
	clear(l.hot[len(hot):])
	l.hot = hot
}

func (l *lane) forget(p *port) {
	p.drained, p.idle = true, 1
	for _, q := range l.hot {
		if q == p {
			l.cool(0)
			return
		}
	}
}

// Wait implements device.Device.
func (d *Device) Wait(lane int, dur time.Duration) error {
	l := d.lanes[lane]
	l.waitMu.Lock()
	defer l.waitMu.Unlock()
	l.mu.Lock()
	if err := d.gone(); err != nil {
		l.mu.Unlock()
		return err
	}
	busy, blocked := l.more, false
	for _, p := range l.hot {
		blocked = blocked || p.blocked
		busy = busy || !p.drained && !p.blocked
	}
	l.cool(-1)
	l.mu.Unlock()
	if busy {
		return nil
	}
	if d.multi && blocked && (dur < 0 || dur > blockedSleep) {
		dur = blockedSleep
	}
	// H, I and J of netio.h: the atomic addition is the barrier.
	atomic.AddUint32(&l.pl.SleepSeq, 1)
	if atomic.LoadUint32(&l.ls.inqTail) != atomic.LoadUint32(&l.pl.InqHead) || l.events.pending.Load() {
		return nil
	}
	n, err := l.sleep(dur)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := d.gone(); err != nil {
		return err
	}
	l.now = uint64(monotonic.Now())
	l.harvested = l.now
	if l.ready(n) {
		var buf [8]byte
		unix.Read(l.wakefd, buf[:])
	}
	return nil
}

// blockedSleep bounds the sleep of a lane that has ports which wait for nbufs:
// another lane may give some back.
const blockedSleep = time.Millisecond

// sleep waits in epoll for at most dur, or without limit if dur < 0.
func (l *lane) sleep(dur time.Duration) (int, error) {
	n, errno := nap.Wait(dur, l.epoll)
	switch errno {
	case 0:
		return n, nil
	case syscall.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("wait for packets: %w", errno)
}

func (l *lane) epoll(call nap.Syscall, dur time.Duration) (int, syscall.Errno) {
	l.calls++
	var timeout *unix.Timespec
	if dur >= 0 {
		l.timeout = unix.NsecToTimespec(int64(dur))
		timeout = &l.timeout
	}
	n, _, errno := call(unix.SYS_EPOLL_PWAIT2, uintptr(l.epfd), uintptr(unsafe.Pointer(&l.epev[0])), uintptr(len(l.epev)), uintptr(unsafe.Pointer(timeout)), 0, 0)
	if errno == syscall.ENOSYS { // before Linux 5.11
		ms := -1
		if dur >= 0 {
			ms = int((dur + time.Millisecond - 1) / time.Millisecond)
		}
		n, _, errno = call(syscall.SYS_EPOLL_PWAIT, uintptr(l.epfd), uintptr(unsafe.Pointer(&l.epev[0])), uintptr(len(l.epev)), uintptr(ms), 0, 0)
	}
	return int(n), errno
}

// wake makes the lane's eventfd readable.
func (l *lane) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(l.wakefd, one[:])
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
