// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
)

// memory is the two memory files of an instance, mapped.
type memory struct {
	areaFile, stateFile *os.File
	area, state         []byte
}

func newMemory(c Config) (*memory, error) {
	hdr, err := c.layout()
	if err != nil {
		return nil, err
	}
	m := &memory{}
	if m.areaFile, err = newMemfd("netio-area", hdr.AreaSize); err != nil {
		return nil, err
	}
	if m.stateFile, err = newMemfd("netio-state", stateSize(c)); err == nil {
		err = m.mmap()
	}
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *memory) mmap() (err error) {
	if m.area, err = mapMemfd(m.areaFile); err != nil {
		return err
	}
	m.state, err = mapMemfd(m.stateFile)
	return err
}

func (m *memory) close() error {
	var errs []error
	for _, mem := range [][]byte{m.area, m.state} {
		if mem != nil {
			errs = append(errs, unix.Munmap(mem))
		}
	}
	for _, f := range []*os.File{m.areaFile, m.stateFile} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// layout is the header of the shared area.
func (c Config) layout() (abi.AreaHeader, error) {
	return abi.Layout(abi.Geometry{
		Lanes: uint32(c.Lanes), NbufCount: uint32(c.Nbufs), PortMax: uint32(c.Ports),
		Features: features, Device: abi.DevSoft, Name: c.Name,
	})
}

// newMemfd makes a sealed memory file: nobody who is handed it can truncate it
// under the processes that have it mapped.
func newMemfd(name string, size uint64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("create memfd %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(int64(size)); err != nil {
		f.Close()
		return nil, fmt.Errorf("size memfd %s: %w", name, err)
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memfd %s: %w", name, err)
	}
	return f, nil
}

// mapMemfd maps the whole of a memory file that newMemfd has made.
func mapMemfd(f *os.File) ([]byte, error) {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("read seals of %s: %w", f.Name(), err)
	}
	if seals&unix.F_SEAL_SHRINK == 0 {
		return nil, fmt.Errorf("%w: %s is not sealed against truncation", ErrState, f.Name())
	}
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	if st.Size() < abi.PageSize {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrState, f.Name(), st.Size())
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	return mem, nil
}
