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
	if size > math.MaxInt || size < abi.PageSize {
		return nil, fmt.Errorf("%w: %d bytes", abi.ErrLayout, size)
	}
	// All of it read-only: the header says where the process's part begins, which
	// is then mapped over it.
	base, err := unix.MmapPtr(fd, 0, nil, uintptr(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of the area: %w", size, err)
	}
	m := &memory{base: base, size: uintptr(size)}
	if err := m.mapProcessPart(fd); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *memory) mapProcessPart(fd int) error {
	h := (*abi.AreaHeader)(m.base)
	if h.Magic != abi.Magic {
		return fmt.Errorf("%w: magic %#x, want %#x", abi.ErrLayout, h.Magic, abi.Magic)
	}
	from, size := h.PLaneOff, uint64(m.size)
	if from == 0 || from%abi.PageSize != 0 || from >= size {
		return fmt.Errorf("%w: %d bytes, the process's from %d", abi.ErrLayout, size, from)
	}
	_, err := unix.MmapPtr(fd, int64(from), unsafe.Add(m.base, from), uintptr(size-from),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("map bytes %d to %d of the area: %w", from, size, err)
	}
	return nil
}

func (m *memory) bytes() []byte { return unsafe.Slice((*byte)(m.base), m.size) }

func (m *memory) close() error {
	if err := unix.MunmapPtr(m.base, m.size); err != nil {
		return fmt.Errorf("unmap the area: %w", err)
	}
	return nil
}
