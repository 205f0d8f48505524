// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
)

// memory is the shared area, mapped into one range of addresses in two parts:
// the device refuses to map what it writes writable.
type memory struct {
	base unsafe.Pointer
	size uintptr
}

// mapArea maps the area of an attached descriptor.
func mapArea(fd int, size uint64) (*memory, error) {
	planeOff, err := readPlaneOff(fd)
	if err != nil {
		return nil, err
	}
	if size > math.MaxInt || planeOff == 0 || planeOff%abi.PageSize != 0 || planeOff >= size {
		return nil, fmt.Errorf("%w: %d bytes, the process's from %d", abi.ErrLayout, size, planeOff)
	}
	m := &memory{size: uintptr(size)}
	// The addresses first: nothing else can get in between the parts.
	m.base, err = unix.MmapPtr(-1, 0, nil, m.size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes of addresses: %w", size, err)
	}
	for _, part := range []struct {
		from, to uint64
		prot     int
	}{
		{0, planeOff, unix.PROT_READ},
		{planeOff, size, unix.PROT_READ | unix.PROT_WRITE},
	} {
		_, err := unix.MmapPtr(fd, int64(part.from), unsafe.Add(m.base, part.from), uintptr(part.to-part.from),
			part.prot, unix.MAP_SHARED|unix.MAP_FIXED)
		if err != nil {
			err = fmt.Errorf("map bytes %d to %d of the area: %w", part.from, part.to, err)
			return nil, errors.Join(err, m.close())
		}
	}
	return m, nil
}

// readPlaneOff reads from the header where the process's part begins.
func readPlaneOff(fd int) (uint64, error) {
	p, err := unix.MmapPtr(fd, 0, nil, abi.PageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("map the area's header: %w", err)
	}
	h := *(*abi.AreaHeader)(p)
	if err := unix.MunmapPtr(p, abi.PageSize); err != nil {
		return 0, fmt.Errorf("unmap the area's header: %w", err)
	}
	if h.Magic != abi.Magic {
		return 0, fmt.Errorf("%w: magic %#x, want %#x", abi.ErrLayout, h.Magic, abi.Magic)
	}
	return h.PLaneOff, nil
}

func (m *memory) bytes() []byte { return unsafe.Slice((*byte)(m.base), m.size) }

func (m *memory) close() error {
	if err := unix.MunmapPtr(m.base, m.size); err != nil {
		return fmt.Errorf("unmap the area: %w", err)
	}
	return nil
}
