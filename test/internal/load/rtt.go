// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Round trips go over blocking sockets, past Go's poller: what is measured
// are the network and two wake-ups, and nothing of epoll.

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
		runtime.LockOSThread()
		buf := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err == nil && from != nil {
				_ = unix.Sendto(fd, buf[:n], 0, from)
			}
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
		runtime.LockOSThread()
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
	if _, err := unix.Write(fd, request); err != nil {
		return err
	}
	for {
		n, err := unix.Read(fd, reply)
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
