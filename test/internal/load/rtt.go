// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Round trips go over blocking sockets by raw system calls: what is measured are
// the network and two wake-ups, and nothing of epoll or of Go's scheduler, which
// wakes a thread of its own around each call that it knows of.

// alone prepares a process for goroutines that block in raw system calls: each
// keeps one of Go's processors for itself, and nothing may wait for it to give
// that back, as the garbage collector would.
func alone() {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(max(2, runtime.NumCPU()))
	runtime.LockOSThread()
}

// rawRead and rawWrite are read(2) and write(2).
func rawRead(fd int, b []byte) (int, error)  { return raw(unix.SYS_READ, fd, b) }
func rawWrite(fd int, b []byte) (int, error) { return raw(unix.SYS_WRITE, fd, b) }

func raw(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

const (
	// answerWait is when a request without an answer counts as lost: longer than
	// a busy machine lets anybody wait.
	answerWait = 3 * time.Second
	// keepRTT bounds the round trips kept between two samples; they are nanoseconds.
	keepRTT = 4 << 20
)

func udpSocket(a netip.AddrPort) (int, unix.Sockaddr, error) {
	domain := unix.AF_INET6
	var address unix.Sockaddr
	if a.Addr().Is4() {
		domain = unix.AF_INET
		address = &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	} else {
		address = &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("make socket: %w", err)
	}
	return fd, address, nil
}

type echo struct{}

func newEcho(spec Spec) (end, error) {
	fd, address, err := udpSocket(spec.Address)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, address); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", spec.Address, err)
	}
	go func() {
		alone()
		buf := make([]byte, 2048)
		// The first request tells who asks.
		n, from, err := unix.Recvfrom(fd, buf, 0)
		for ; err != nil || from == nil; n, from, err = unix.Recvfrom(fd, buf, 0) {
		}
		_ = unix.Connect(fd, from)
		for {
			if err == nil {
				_, _ = rawWrite(fd, buf[:n])
			}
			n, err = rawRead(fd, buf)
		}
	}()
	return echo{}, nil
}

func (echo) sample() Sample { return Sample{} }

type probe struct {
	mu    sync.Mutex
	trips []uint32 // since the last sample, nanoseconds
	spare []uint32
	count uint64
	lost  uint64
	errs  uint64
}

func newProbe(spec Spec) (end, error) {
	fd, address, err := udpSocket(spec.Address)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, address); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", spec.Address, err)
	}
	wait := unix.NsecToTimeval(answerWait.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, fmt.Errorf("set receive timeout: %w", err)
	}
	p := &probe{trips: make([]uint32, 0, keepRTT), spare: make([]uint32, 0, keepRTT)}
	go func() {
		alone()
		request := make([]byte, max(spec.Payload, 8))
		reply := make([]byte, 2048)
		for n := uint64(1); ; n++ {
			binary.NativeEndian.PutUint64(request, n)
			began := time.Now()
			err := p.trip(fd, request, reply)
			p.note(time.Since(began), err)
			if spec.Interval > 0 {
				time.Sleep(spec.Interval)
			}
		}
	}()
	return p, nil
}

// trip sends a request and waits for its answer, not for that of an earlier one.
func (p *probe) trip(fd int, request, reply []byte) error {
	if _, err := rawWrite(fd, request); err != nil {
		return err
	}
	for {
		n, err := rawRead(fd, reply)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n >= 8 && [8]byte(reply) == [8]byte(request) {
			return nil
		}
	}
}

func (p *probe) note(d time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, unix.EAGAIN):
		p.lost++
	case err != nil:
		p.errs++
	default:
		p.count++
		if len(p.trips) < cap(p.trips) {
			p.trips = append(p.trips, uint32(min(d, time.Duration(1<<32-1))))
		}
	}
}

func (p *probe) sample() Sample {
	p.mu.Lock()
	trips := p.trips
	p.trips, p.spare = p.spare[:0], trips
	s := Sample{Packets: p.count, Lost: p.lost, Errors: p.errs}
	p.mu.Unlock()
	s.RTT = quantiles(trips)
	return s
}
