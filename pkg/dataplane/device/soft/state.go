// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// The device's private state lives in a memfd of its own, so that it outlives
// the process. Nothing in it is a cache: free lists and counts are rebuilt from
// it by scanning. Each transition is one store of one word (nbufState.owner,
// portState.phase), made after the words that it makes valid, so a process may
// be killed between any two stores.
//
//	0            stateHeader
//	4096         laneState[LanesMax]
//	8192         nbufState[nbufs]
//	ports        portState[ports]
//	slots        parked payload, slotSize bytes each

const (
	stateMagic   = 0x74666f734f49544e // "NTIOsoft"
	stateVersion = 1
)

// ErrState is returned by Attach for private state that is not this package's,
// or of another version, or damaged in its header.
var ErrState = errors.New("invalid state of the soft device")

type stateHeader struct {
	magic   uint64 // written last at creation
	version uint32
	lanes   uint32
	nbufs   uint32
	ports   uint32
	slots   uint32
	size    uint32 // slotSize
	epoch   uint64
	removed uint64 // removals of ports so far
	top     uint32 // the highest port number that has been used
	_       uint32
	name    [abi.NameMax]byte
}

// laneState holds the positions up to which a lane's rings have been worked.
type laneState struct {
	outqHead uint32
	inqTail  uint32
	_        [14]uint32
}

// Owners of an nbuf.
const (
	ownDevice  = 0 // free
	ownProcess = 1 // on an InQ, with the process, or on an OutQ
	ownTaken   = 2 // taken from an OutQ, not yet sent
)

// nbufState is the truth about one nbuf. iport, slot and parked mean something
// only while owner is not ownDevice.
type nbufState struct {
	owner  uint32
	iport  uint32 // port whose quota it counts against, 0: none
	slot   uint32 // parked slot + 1, 0: none
	parked uint32 // bytes in the slot
}

// Phases of a port.
const (
	phaseFree     = 0
	phaseAdding   = 1
	phasePresent  = 2
	phaseRemoving = 3
)

const (
	portNameMax = device.PortNameMax + 1 // of PortConfig.Name, with its NUL
	netnsMax    = device.NetNSMax + 1    // of PortConfig.NetNS, with its NUL
)

// portState is what a new process must know of a port. It is written in
// phaseAdding and does not change after that, but for quota, flags and mark.
type portState struct {
	phase      uint32
	generation uint32
	removed    uint64 // stateHeader.removed when the number was given back
	mtu        uint32
	quota      uint32
	flags      uint32
	mark       uint32
	ifindex    uint32
	pinned     uint32 // the TUN's file holds the pod's netns
	ifname     [16]byte
	name       [portNameMax]byte
	netns      [netnsMax]byte
	_          [72]byte
}

const portStateSize = 512

var _ [portStateSize]byte = [unsafe.Sizeof(portState{})]byte{}
var _ [64]byte = [unsafe.Sizeof(laneState{})]byte{}

// state is a mapped private state.
type state struct {
	mem   []byte
	hdr   *stateHeader
	lanes []laneState
	nbufs []nbufState
	ports []portState
	slots unsafe.Pointer
	nslot uint32
}

type stateLayout struct {
	nbufs, ports, slots, size uint64
}

func layoutState(nbufs, ports, slots uint64) stateLayout {
	page := func(n uint64) uint64 { return (n + abi.PageSize - 1) &^ (abi.PageSize - 1) }
	var l stateLayout
	l.nbufs = 2 * abi.PageSize
	l.ports = l.nbufs + page(nbufs*uint64(unsafe.Sizeof(nbufState{})))
	l.slots = l.ports + page(ports*portStateSize)
	l.size = l.slots + slots*slotSize
	return l
}

func stateSize(c Config) uint64 {
	return layoutState(uint64(c.Nbufs), uint64(c.Ports), uint64(c.ParkedSlots)).size
}

// initState writes the header of a new state into zeroed memory.
func initState(mem []byte, c Config) (*state, error) {
	h := (*stateHeader)(unsafe.Pointer(&mem[0]))
	*h = stateHeader{
		version: stateVersion, lanes: uint32(c.Lanes), nbufs: uint32(c.Nbufs),
		ports: uint32(c.Ports), slots: uint32(c.ParkedSlots), size: slotSize,
	}
	copy(h.name[:abi.NameMax-1], c.Name)
	h.magic = stateMagic
	return openState(mem)
}

// openState checks the header of mem, the whole page-aligned mapping, and
// returns a view of it. The geometry is read once.
func openState(mem []byte) (*state, error) {
	if len(mem) < 2*abi.PageSize {
		return nil, fmt.Errorf("%w: %d bytes, less than two pages", ErrState, len(mem))
	}
	h := (*stateHeader)(unsafe.Pointer(&mem[0]))
	if h.magic != stateMagic {
		return nil, fmt.Errorf("%w: magic %#x, want %#x", ErrState, h.magic, uint64(stateMagic))
	}
	if h.version != stateVersion || h.size != slotSize {
		return nil, fmt.Errorf("%w: version %d with slots of %d bytes, this process has version %d with %d",
			ErrState, h.version, h.size, stateVersion, slotSize)
	}
	lanes, nbufs, ports, slots := h.lanes, h.nbufs, h.ports, h.slots
	c := Config{Lanes: int(lanes), Nbufs: int(nbufs), Ports: int(ports), ParkedSlots: int(slots)}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	l := layoutState(uint64(nbufs), uint64(ports), uint64(slots))
	if uint64(len(mem)) != l.size {
		return nil, fmt.Errorf("%w: %d bytes mapped, its geometry needs %d", ErrState, len(mem), l.size)
	}
	base := unsafe.Pointer(&mem[0])
	return &state{
		mem: mem, hdr: h,
		lanes: unsafe.Slice((*laneState)(unsafe.Add(base, abi.PageSize)), lanes),
		nbufs: unsafe.Slice((*nbufState)(unsafe.Add(base, l.nbufs)), nbufs),
		ports: unsafe.Slice((*portState)(unsafe.Add(base, l.ports)), ports),
		slots: unsafe.Add(base, l.slots),
		nslot: slots,
	}, nil
}

func (s *state) config() Config {
	return Config{
		Name: cstring(s.hdr.name[:]), Lanes: len(s.lanes), Nbufs: len(s.nbufs),
		Ports: len(s.ports), ParkedSlots: int(s.nslot),
	}
}

// slot is the memory of parked slot i, which must be below nslot.
func (s *state) slot(i uint32) unsafe.Pointer { return unsafe.Add(s.slots, uintptr(i)*slotSize) }

func (s *state) slotBytes(i uint32) []byte {
	return unsafe.Slice((*byte)(s.slot(i)), slotSize)
}

// cstring is the text up to the first NUL.
func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func setCString(dst []byte, s string) {
	n := copy(dst[:len(dst)-1], s)
	clear(dst[n:])
}
