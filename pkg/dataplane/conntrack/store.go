// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The file: a page of header, then the slab. It is mapped shared, so what a
// process wrote is there for the next one however it died. It is not synced to
// disk: connections do not outlive the machine.
const (
	storeMagic   = 0x32544b4e4f43494e // "NICONKT2"; the digit is the version of Conn
	storeHdrSize = 4096
)

type storeHdr struct {
	magic    uint64
	capacity uint64
	connSize uint64
	secret   hashSecret
	high     uint32
}

type store struct {
	mem []byte
	hdr *storeHdr
}

func openStore(path string, capacity int) (*store, error) {
	size := storeHdrSize + capacity*int(unsafe.Sizeof(Conn{}))
	if path == "" {
		mem, err := anonymous(size)
		if err != nil {
			return nil, err
		}
		return newStore(mem, capacity, true)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	fresh := fi.Size() != int64(size)
	if fresh {
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		if err := f.Truncate(int64(size)); err != nil {
			return nil, err
		}
	}
	// Reserve the memory now: a full file system must be an error here and not a
	// SIGBUS on the packet path.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		return nil, fmt.Errorf("reserve %d bytes in %s: %w", size, path, err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return newStore(mem, capacity, fresh)
}

func newStore(mem []byte, capacity int, fresh bool) (*store, error) {
	s := &store{mem: mem, hdr: (*storeHdr)(unsafe.Pointer(&mem[0]))}
	want := storeHdr{magic: storeMagic, capacity: uint64(capacity), connSize: uint64(unsafe.Sizeof(Conn{}))}
	if !fresh && s.hdr.magic == want.magic && s.hdr.capacity == want.capacity && s.hdr.connSize == want.connSize {
		return s, nil
	}
	var raw [len(want.secret) * 8]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, fmt.Errorf("choose hash secret: %w", err)
	}
	for i := range want.secret {
		want.secret[i] = binary.LittleEndian.Uint64(raw[i*8:])
	}
	clear(mem)
	*s.hdr = want
	return s, nil
}

func (s *store) secret() hashSecret { return s.hdr.secret }
func (s *store) high() uint32       { return s.hdr.high }
func (s *store) setHigh(n uint32)   { atomic.StoreUint32(&s.hdr.high, n) }

func (s *store) conns() []Conn {
	return unsafe.Slice((*Conn)(unsafe.Pointer(&s.mem[storeHdrSize])), s.hdr.capacity)
}

func (s *store) close() error {
	mem := s.mem
	s.mem, s.hdr = nil, nil
	return unix.Munmap(mem)
}

// anonymous maps zeroed memory outside the garbage collector's sight, in huge
// pages where there are some.
func anonymous(size int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // an optimisation only
	return mem, nil
}

func release(mem []byte) error { return unix.Munmap(mem) }
