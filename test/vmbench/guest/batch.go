// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many packets are sent and received at a time.
	batchSize = 64
	// ipLength of the packets that are counted.
	ipLength = 64
	// patience with a packet, in seconds.
	patience = 5
)

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// messages is a batch, and the memory that it points to.
type messages struct {
	headers [batchSize]message
	pieces  [batchSize]unix.Iovec
	data    [batchSize][2048]byte
}

func newMessages(size int) *messages {
	m := new(messages)
	for i := range m.headers {
		m.pieces[i].Base = &m.data[i][0]
		m.pieces[i].SetLen(size)
		m.headers[i].header.Iov = &m.pieces[i]
		m.headers[i].header.SetIovlen(1)
	}
	return m
}

// transfer calls sendmmsg(2) or recvmmsg(2), and says nothing of it to Go's
// scheduler.
func (m *messages) transfer(call uintptr, fd, from, to, flags int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&m.headers[from])), uintptr(to-from), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// flow is a UDP flow whose two ends are one thread: it sends a batch in pod A, and
// receives it in pod B. The thread is ahead of all others, so a forwarder
// gets the CPU when the flow waits for packets, and loses it when they are there.
type flow struct {
	source, sink int
	out, in      *messages
}

func newFlow(p pair, from, to netip.Addr) (f *flow, err error) {
	overhead := 28
	if to.Is6() {
		overhead = 48
	}
	f = &flow{source: -1, sink: -1, out: newMessages(ipLength - overhead), in: newMessages(2048)}
	address := netip.AddrPortFrom(to, firstPort)
	if err = p.B.Do(func() error { f.sink, err = udpSocket(to); return err }); err == nil {
		err = unix.Bind(f.sink, sockaddr(address))
	}
	if err == nil {
		err = p.A.Do(func() error { f.source, err = udpSocket(to); return err })
	}
	if err == nil {
		err = unix.Connect(f.source, sockaddr(address))
	}
	if err == nil {
		err = f.open()
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("flow from %s to %s: %w", from, to, err)
	}
	return f, nil
}

func udpSocket(a netip.Addr) (int, error) {
	domain := unix.AF_INET
	if a.Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	const buffer = 4 << 20
	return fd, errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffer),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience}))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// open sends a datagram each way: connection tracking then has a known flow.
func (f *flow) open() error {
	buf := make([]byte, 2048)
	if _, err := unix.Write(f.source, []byte("?")); err != nil {
		return err
	}
	_, from, err := unix.Recvfrom(f.sink, buf, 0)
	if err != nil {
		return fmt.Errorf("no packet came: %w", err)
	}
	if err := unix.Sendto(f.sink, []byte("!"), 0, from); err != nil {
		return err
	}
	if _, err = unix.Read(f.source, buf); err != nil {
		return fmt.Errorf("no packet came back: %w", err)
	}
	return nil
}

func (f *flow) close() {
	unix.Close(f.source)
	unix.Close(f.sink)
}

// turn sends a batch and receives it.
func (f *flow) turn() error {
	for sent := 0; sent < batchSize; {
		n, err := f.out.transfer(unix.SYS_SENDMMSG, f.source, sent, batchSize, 0)
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		sent += n
	}
	for got := 0; got < batchSize; {
		n, err := f.in.transfer(unix.SYS_RECVMMSG, f.sink, got, batchSize, unix.MSG_WAITFORONE)
		if err != nil {
			return fmt.Errorf("after %d of %d packets: %w", got, batchSize, err)
		}
		got += n
	}
	return nil
}

// run counts so many batches in a window, after some that are not counted.
func (f *flow) run(batches int) error {
	return first(func() error {
		for range batches / 4 {
			if err := f.turn(); err != nil {
				return err
			}
		}
		markWindowBegin()
		defer markWindowEnd()
		for range batches {
			markBatchBegin()
			if err := f.turn(); err != nil {
				return err
			}
			markBatchEnd()
		}
		return nil
	})
}

// first calls f on a thread that no other comes before, and ends the thread.
func first(f func() error) error {
	collect := debug.SetGCPercent(-1) // f does not give Go's scheduler a say
	defer debug.SetGCPercent(collect)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := undisturbed(); err != nil {
			done <- err
			return
		}
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			done <- fmt.Errorf("set the scheduling policy: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// undisturbed keeps the signals off a thread by which Go's scheduler preempts: they
// would end system calls, too.
func undisturbed() error {
	var set unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGURG - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return fmt.Errorf("block a signal: %w", err)
	}
	return nil
}
