// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An end is one side of a flow, a process of its own: "guest end tcp a ADDRESS UNITS".
// Side b says that it listens, side a connects to it. Whoever knows when that many
// units have passed marks the window, and both end soon after.
//
// They make blocking system calls that Go's scheduler is not told of: what is
// counted are the network and its wake-ups.

// ends by their names: a function for each side.
var ends = map[string]map[string]func(fd, units int) error{
	"tcp": {"a": tcpSource, "b": tcpSink},
	"rr":  {"a": asker, "b": answerer},
}

// runEnds has both sides run to their ends.
func runEnds(p pair, name string, units int) error {
	address := netip.AddrPortFrom(p.b.ipv4, firstPort).String()
	b, err := startChild(p.B, "end", name, "b", address, strconv.Itoa(units))
	if err != nil {
		return err
	}
	if err := b.ready(); err != nil {
		return err
	}
	a, err := startChild(p.A, "end", name, "a", address, strconv.Itoa(units))
	if err == nil {
		err = a.wait()
	}
	if err != nil {
		b.kill()
		return err
	}
	return b.wait()
}

// runEnd is the process.
func runEnd(args []string) error {
	if len(args) != 4 || ends[args[0]][args[1]] == nil {
		return errors.New("usage: guest end tcp|rr a|b ADDRESS UNITS")
	}
	address, err := netip.ParseAddrPort(args[2])
	if err != nil {
		return err
	}
	units, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	debug.SetGCPercent(-1) // it would wait for a thread that is in the kernel
	runtime.LockOSThread()
	if err := undisturbed(); err != nil {
		return err
	}
	fd, err := connection(args[0], args[1], address)
	if err != nil {
		return err
	}
	return ends[args[0]][args[1]](fd, units)
}

// connection is a socket that is connected to the other side: TCP, or UDP for rr.
func connection(name, side string, address netip.AddrPort) (int, error) {
	kind := unix.SOCK_STREAM
	if name == "rr" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if kind == unix.SOCK_STREAM {
		// The kernel's own default, which needs no timers.
		if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic"); err != nil {
			return -1, err
		}
	}
	if side == "a" {
		return fd, unix.Connect(fd, sockaddr(address))
	}
	// The run before may have left its address in TIME_WAIT.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sockaddr(address)); err != nil {
		return -1, err
	}
	if kind == unix.SOCK_DGRAM {
		fmt.Println("listening")
		// The first request tells who asks.
		_, from, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK)
		if err != nil {
			return -1, err
		}
		return fd, unix.Connect(fd, from)
	}
	if err := unix.Listen(fd, 1); err != nil {
		return -1, err
	}
	fmt.Println("listening")
	peer, _, err := unix.Accept(fd)
	return peer, err
}

// raw calls read(2) or write(2).
func raw(call uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// block is the size of one write and one read, as iperf3 has it.
const block = 128 << 10

// tcpSource sends until the other side has had enough.
func tcpSource(fd, _ int) error {
	data := make([]byte, block)
	for {
		// Writing to who has gone is to be an error and no signal.
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0, unix.EINTR:
		case unix.EPIPE, unix.ECONNRESET:
			return nil
		default:
			return errno
		}
	}
}

// batched calls f units times in a window, one batch each, after a quarter as many
// times that are not counted.
func batched(units int, f func() error) error {
	for range units / 4 {
		if err := f(); err != nil {
			return err
		}
	}
	markWindowBegin()
	defer markWindowEnd()
	for range units {
		markBatchBegin()
		if err := f(); err != nil {
			return err
		}
		markBatchEnd()
	}
	return nil
}

// tcpSink counts units MiB.
func tcpSink(fd, units int) error {
	buf := make([]byte, block)
	have := 0 // of the next MiB
	return batched(units, func() error {
		for have < 1<<20 {
			n, err := raw(unix.SYS_READ, fd, buf)
			if err != nil || n == 0 {
				return fmt.Errorf("the stream ended: %w", err)
			}
			have += n
		}
		have -= 1 << 20
		return nil
	})
}

// asker waits for the answer to a request before it sends the next one.
func asker(fd, units int) error {
	buf := make([]byte, ipLength-28)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience}); err != nil {
		return err
	}
	err := batched(units, func() error {
		if _, err := raw(unix.SYS_WRITE, fd, buf); err != nil {
			return err
		}
		if _, err := raw(unix.SYS_READ, fd, buf); err != nil {
			return fmt.Errorf("no answer: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// An empty request is the last one.
	_, err = unix.Write(fd, nil)
	return err
}

func answerer(fd, _ int) error {
	buf := make([]byte, 2048)
	for {
		n, err := raw(unix.SYS_READ, fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if _, err := raw(unix.SYS_WRITE, fd, buf[:n]); err != nil {
			return err
		}
	}
}
