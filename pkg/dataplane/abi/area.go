// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"errors"
	"fmt"
	"math/bits"
	"unsafe"
)

// ErrVersion is returned by OpenArea for a device whose ABI this process does
// not speak; the message names both versions.
var ErrVersion = errors.New("NetIO ABI version mismatch")

// ErrLayout is returned by OpenArea for a header that contradicts itself or the
// memory behind it.
var ErrLayout = errors.New("invalid NetIO area")

// Area is a mapped shared area. Its methods return views of the memory and
// check nothing but Go's slice bounds where they slice: who passes an index that
// came out of shared memory checks it first (index < NbufCount).
type Area struct {
	mem  []byte
	h    AreaHeader // private copy, taken once
	base unsafe.Pointer
	nbuf unsafe.Pointer
}

// Geometry is what is chosen of an area; Layout computes the rest.
type Geometry struct {
	Lanes     uint32
	NbufCount uint32
	PortMax   uint32
	Features  uint64
	Device    uint32
	Name      string
}

// Layout computes the header of a new area. Both rings of a lane hold all nbufs
// and EventSlots entries more, so that an InQ cannot overflow.
func Layout(g Geometry) (AreaHeader, error) {
	switch {
	case g.Lanes < 1 || g.Lanes > LanesMax:
		return AreaHeader{}, fmt.Errorf("%w: %d lanes, want 1 to %d", ErrLayout, g.Lanes, LanesMax)
	case g.NbufCount < 1 || g.NbufCount > NbufsMax:
		return AreaHeader{}, fmt.Errorf("%w: %d nbufs, want 1 to %d", ErrLayout, g.NbufCount, NbufsMax)
	case g.PortMax < 2 || g.PortMax > PortsMax:
		return AreaHeader{}, fmt.Errorf("%w: %d ports, want 2 to %d", ErrLayout, g.PortMax, PortsMax)
	case len(g.Name) >= NameMax:
		return AreaHeader{}, fmt.Errorf("%w: name %q is longer than %d bytes", ErrLayout, g.Name, NameMax-1)
	}
	order := uint32(bits.Len32(g.NbufCount + EventSlots - 1))
	h := AreaHeader{
		Magic: Magic, ABIVersion: Version, Device: g.Device, PageSize: PageSize,
		Features: g.Features, Lanes: g.Lanes, InqOrder: order, OutqOrder: order,
		NbufCount: g.NbufCount, NbufSize: NbufSize, NbufData: NbufData, PortMax: g.PortMax,
	}
	copy(h.Name[:], g.Name)
	off := uint64(PageSize)
	region := func(size uint64) uint64 {
		at := off
		off += (size + PageSize - 1) &^ (PageSize - 1)
		return at
	}
	lanes := uint64(g.Lanes)
	h.DLaneOff = region(lanes * PageSize)
	h.InqOff = region(lanes * 4 << order)
	h.PortOff = region(uint64(g.PortMax) * uint64(unsafe.Sizeof(Port{})))
	h.PLaneOff = region(lanes * PageSize)
	h.OutqOff = region(lanes * 4 << order)
	h.NbufOff = region(uint64(g.NbufCount) * NbufSize)
	h.AreaSize = off
	return h, nil
}

// OpenArea checks the header of a mapped area and returns a view of it. mem must
// be the whole mapping and page-aligned.
func OpenArea(mem []byte) (*Area, error) {
	if len(mem) < PageSize {
		return nil, fmt.Errorf("%w: %d bytes, less than a page", ErrLayout, len(mem))
	}
	h := *(*AreaHeader)(unsafe.Pointer(&mem[0]))
	if h.Magic != Magic {
		return nil, fmt.Errorf("%w: magic %#x, want %#x", ErrLayout, h.Magic, Magic)
	}
	if h.ABIVersion>>16 != Major || h.ABIVersion&0xffff < Minor {
		return nil, fmt.Errorf("%w: device has %s, this process needs %s", ErrVersion,
			VersionString(h.ABIVersion), VersionString(Version))
	}
	want, err := Layout(Geometry{Lanes: h.Lanes, NbufCount: h.NbufCount, PortMax: h.PortMax})
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"page_size", uint64(h.PageSize), uint64(want.PageSize)},
		{"inq_order", uint64(h.InqOrder), uint64(want.InqOrder)},
		{"outq_order", uint64(h.OutqOrder), uint64(want.OutqOrder)},
		{"nbuf_size", uint64(h.NbufSize), uint64(want.NbufSize)},
		{"nbuf_data", uint64(h.NbufData), uint64(want.NbufData)},
		{"dlane_off", h.DLaneOff, want.DLaneOff},
		{"inq_off", h.InqOff, want.InqOff},
		{"port_off", h.PortOff, want.PortOff},
		{"plane_off", h.PLaneOff, want.PLaneOff},
		{"outq_off", h.OutqOff, want.OutqOff},
		{"nbuf_off", h.NbufOff, want.NbufOff},
		{"area_size", h.AreaSize, want.AreaSize},
		{"mapped bytes", uint64(len(mem)), want.AreaSize},
	} {
		if c.got != c.want {
			return nil, fmt.Errorf("%w: %s is %d, want %d", ErrLayout, c.what, c.got, c.want)
		}
	}
	base := unsafe.Pointer(&mem[0])
	return &Area{mem: mem, h: h, base: base, nbuf: unsafe.Add(base, h.NbufOff)}, nil
}

// VersionString is "major.minor" of an ABI version word.
func VersionString(v uint32) string { return fmt.Sprintf("%d.%d", v>>16, v&0xffff) }

// Header is the copy of the header that was taken when the area was opened.
func (a *Area) Header() *AreaHeader { return &a.h }

// Live is the header in the shared memory, whose epoch and owner change.
func (a *Area) Live() *AreaHeader { return (*AreaHeader)(a.base) }

// Mem is the whole mapping.
func (a *Area) Mem() []byte { return a.mem }

// DLane is the device's page of a lane.
func (a *Area) DLane(lane int) *DLane {
	return (*DLane)(unsafe.Pointer(&a.mem[a.h.DLaneOff+uint64(lane)*PageSize]))
}

// PLane is the process's page of a lane.
func (a *Area) PLane(lane int) *PLane {
	return (*PLane)(unsafe.Pointer(&a.mem[a.h.PLaneOff+uint64(lane)*PageSize]))
}

// InQ is the ring from the device to the process.
func (a *Area) InQ(lane int) []uint32 { return a.ring(a.h.InqOff, lane, a.h.InqOrder) }

// OutQ is the ring from the process to the device.
func (a *Area) OutQ(lane int) []uint32 { return a.ring(a.h.OutqOff, lane, a.h.OutqOrder) }

func (a *Area) ring(off uint64, lane int, order uint32) []uint32 {
	p := &a.mem[off+uint64(lane)*4<<order]
	return unsafe.Slice((*uint32)(unsafe.Pointer(p)), 1<<order)
}

// Port is the state of port id, which must be below PortMax.
func (a *Area) Port(id uint32) *Port {
	return (*Port)(unsafe.Pointer(&a.mem[a.h.PortOff+uint64(id)*uint64(unsafe.Sizeof(Port{}))]))
}

// NbufCount is the number of nbufs: valid indices are below it.
func (a *Area) NbufCount() uint32 { return a.h.NbufCount }

// Nbuf is the housekeeping part of nbuf i, which must be below NbufCount.
func (a *Area) Nbuf(i uint32) *Nbuf { return (*Nbuf)(unsafe.Add(a.nbuf, uintptr(i)*NbufSize)) }

// NbufBytes is the whole nbuf i, which must be below NbufCount.
func (a *Area) NbufBytes(i uint32) *[NbufSize]byte {
	return (*[NbufSize]byte)(unsafe.Add(a.nbuf, uintptr(i)*NbufSize))
}
