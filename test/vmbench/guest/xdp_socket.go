// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ready is how many entries the kernel has put there, to be consumed.
func (q *xdpQueue) ready() uint32 { return atomic.LoadUint32(q.producer) - *q.consumer }

// pending is how many entries the kernel has not taken.
func (q *xdpQueue) pending() uint32 { return *q.producer - atomic.LoadUint32(q.consumer) }

// room is how many entries can be produced.
func (q *xdpQueue) room() uint32 { return xdpRing - q.pending() }

func (q *xdpQueue) consume(n uint32) { atomic.StoreUint32(q.consumer, *q.consumer+n) }
func (q *xdpQueue) produce(n uint32) { atomic.StoreUint32(q.producer, *q.producer+n) }

// open binds the socket to the port's only queue. It registers the memory, or
// shares that of another socket.
func (s *xdpSocket) open(memory []byte, shared int) (err error) {
	if s.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if shared < 0 {
		register := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&memory[0]))), Len: uint64(len(memory)), Size: xdpFrame}
		if err := s.set(unix.XDP_UMEM_REG, unsafe.Pointer(&register), unsafe.Sizeof(register)); err != nil {
			return err
		}
	}
	entries := uint32(xdpRing)
	for _, option := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := s.set(option, unsafe.Pointer(&entries), unsafe.Sizeof(entries)); err != nil {
			return err
		}
	}
	if err := s.mapRings(); err != nil {
		return err
	}
	link, err := netlink.LinkByName(s.Name)
	if err != nil {
		return err
	}
	address := &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(link.Attrs().Index)}
	if shared >= 0 {
		// How it is bound is the other's, too.
		address.Flags, address.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(shared)
	}
	if err := unix.Bind(s.fd, address); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return redirect(link, s.fd)
}

func (s *xdpSocket) set(option int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, uintptr(option), uintptr(value), size, 0)
	if errno != 0 {
		return fmt.Errorf("set option %d: %w", option, errno)
	}
	return nil
}

func (s *xdpSocket) mapRings() error {
	var offsets unix.XDPMmapOffsets
	size := uint32(unsafe.Sizeof(offsets))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS, uintptr(unsafe.Pointer(&offsets)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return fmt.Errorf("get offsets of the rings: %w", errno)
	}
	for _, ring := range []struct {
		q      *xdpQueue
		offset unix.XDPRingOffset
		page   int64
		frames bool
	}{
		{&s.rx, offsets.Rx, unix.XDP_PGOFF_RX_RING, false},
		{&s.tx, offsets.Tx, unix.XDP_PGOFF_TX_RING, false},
		{&s.fill, offsets.Fr, unix.XDP_UMEM_PGOFF_FILL_RING, true},
		{&s.completion, offsets.Cr, unix.XDP_UMEM_PGOFF_COMPLETION_RING, true},
	} {
		entry := unsafe.Sizeof(unix.XDPDesc{})
		if ring.frames {
			entry = unsafe.Sizeof(uint64(0))
		}
		b, err := unix.Mmap(s.fd, ring.page, int(ring.offset.Desc)+xdpRing*int(entry), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return fmt.Errorf("map a ring: %w", err)
		}
		ring.q.producer = (*uint32)(unsafe.Pointer(&b[ring.offset.Producer]))
		ring.q.consumer = (*uint32)(unsafe.Pointer(&b[ring.offset.Consumer]))
		if ring.frames {
			ring.q.frames = unsafe.Slice((*uint64)(unsafe.Pointer(&b[ring.offset.Desc])), xdpRing)
		} else {
			ring.q.descs = unsafe.Slice((*unix.XDPDesc)(unsafe.Pointer(&b[ring.offset.Desc])), xdpRing)
		}
	}
	return nil
}

// instruction of BPF: operation, registers (source above destination), offset,
// immediate value.
type instruction struct {
	operation, registers uint8
	offset               int16
	immediate            int32
}

// redirect attaches a program to the interface that hands all packets to the socket
// of their queue.
func redirect(link netlink.Link, fd int) error {
	sockets, err := bpf(unix.BPF_MAP_CREATE, struct{ kind, key, value, entries, flags uint32 }{unix.BPF_MAP_TYPE_XSKMAP, 4, 4, 1, 0})
	if err != nil {
		return fmt.Errorf("make map of sockets: %w", err)
	}
	queue, socket := uint32(0), uint32(fd)
	_, err = bpf(unix.BPF_MAP_UPDATE_ELEM, struct {
		fd, _      uint32
		key, value unsafe.Pointer
		flags      uint64
	}{fd: uint32(sockets), key: unsafe.Pointer(&queue), value: unsafe.Pointer(&socket)})
	if err != nil {
		return fmt.Errorf("put the socket into the map: %w", err)
	}
	const redirectMap, pass = 51, 2 // bpf_redirect_map(), XDP_PASS
	program := []instruction{
		{unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W, 1<<4 | 2, 16, 0},                                  // r2 = context->rx_queue_index
		{unix.BPF_LD | unix.BPF_IMM | unix.BPF_DW, unix.BPF_PSEUDO_MAP_FD<<4 | 1, 0, int32(sockets)}, // r1 = map
		{},
		{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, 3, 0, pass}, // r3 = what if there is no socket
		{unix.BPF_JMP | unix.BPF_CALL, 0, 0, redirectMap},
		{unix.BPF_JMP | unix.BPF_EXIT, 0, 0, 0},
	}
	licence := []byte("Apache-2.0\x00")
	loaded, err := bpf(unix.BPF_PROG_LOAD, struct {
		kind, count      uint32
		program, licence unsafe.Pointer
		_                [12]uint64
	}{kind: unix.BPF_PROG_TYPE_XDP, count: uint32(len(program)), program: unsafe.Pointer(&program[0]), licence: unsafe.Pointer(&licence[0])})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	if err := netlink.LinkSetXdpFdWithFlags(link, loaded, unix.XDP_FLAGS_DRV_MODE); err != nil {
		return fmt.Errorf("attach program: %w", err)
	}
	return nil
}

// bpf calls bpf(2).
func bpf[T any](command uintptr, attributes T) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
