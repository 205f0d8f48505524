// SPDX-License-Identifier: Apache-2.0

// Package abi mirrors kmod/include/uapi/linux/netio.h, the layout of the
// memory that a NetIO device and a process share. The header is the one
// definition and holds the documentation: memory map, who writes what, the
// barriers. A test compiles it and compares every size, offset and constant.
package abi

// Identity and limits.
const (
	Magic      = 0x4f49544e
	Major      = 1
	Minor      = 1
	Version    = Major<<16 | Minor
	PageSize   = 4096
	NameMax    = 32
	LanesMax   = 64
	PortsMax   = 1 << 24
	NbufsMax   = 1 << 24
	PortNone   = 0
	EventSlots = 1024
)

// Queue entries: toggle, MORE, action, parameter.
const (
	EntToggle      = 0x80000000
	EntMore        = 0x40000000
	EntActionShift = 24
	EntActionMask  = 0x3f
	EntParamMask   = 0x00ffffff
)

// Actions of the InQ.
const (
	InNone    = 0
	InRX      = 1
	InGrant   = 2
	InPort    = 3
	InQoS     = 4
	InDrops   = 5
	InFetched = 6
	InOwner   = 7
	InDenied  = 8
)

// Actions of the OutQ.
const (
	OutNone  = 0
	OutTX    = 1
	OutClone = 2
	OutFree  = 3
	OutWant  = 4
	OutFetch = 5
)

// The nbuf.
const (
	NbufSize     = 2048
	NbufHdr      = 128
	Headroom     = 64
	NbufData     = NbufHdr + Headroom
	NbufRoom     = NbufSize - NbufData
	NbufFill     = NbufSize - NbufHdr - EncapMax // 1850, of the first nbuf of a packet
	ParkCopyMin  = 128
	ParkCopyUDP  = 192
	EncapMax     = 70
	ScratchWords = 16
)

// Nbuf.Flags.
const (
	NbCsumPartial = 0x0001
	NbCsumValid   = 0x0002
	NbParked      = 0x0004
	NbDirty       = 0x0008
	NbHash        = 0x0010
)

// Nbuf.GSOType.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOUDPL4 = 5
	GSOECN   = 0x80
)

// AreaHeader.Device and AreaHeader.Features.
const (
	DevKernel = 1
	DevSoft   = 2

	FeatPark        = 1 << 0
	FeatGSO         = 1 << 1
	FeatCsum        = 1 << 2
	FeatQoS         = 1 << 3
	FeatWhole       = 1 << 4
	FeatSelfService = 1 << 5
	FeatTunnel      = 1 << 6
)

// Port.State and Port.Flags.
const (
	PortPresent   = 0x1
	PortUp        = 0x2
	PortCongested = 0x4
	PortNIC       = 0x8

	PortFlagWhole = 0x1
)

// Operations of STEER.
const (
	SteerReplace = 0
	SteerAdd     = 1
	SteerRemove  = 2
	SteerMax     = 4096 // prefixes of one port
)

// Nbuf is struct netio_nbuf, the housekeeping part of an nbuf.
type Nbuf struct {
	IPort      uint32
	EPort      uint32
	Off        uint16
	Len        uint16
	Total      uint32
	Flags      uint16
	GSOType    uint8
	Lane       uint8
	GSOSize    uint16
	HdrLen     uint16
	CsumStart  uint16
	CsumOffset uint16
	Hash       uint32
	Tstamp     uint64
	Mark       uint32
	Encap      uint16
	Reserved1  uint16
	Reserved   [4]uint32
	Scratch    [ScratchWords]uint32
}

// AreaHeader is struct netio_area.
type AreaHeader struct {
	Magic      uint32
	ABIVersion uint32
	Device     uint32
	PageSize   uint32
	Features   uint64
	AreaSize   uint64
	Epoch      uint64
	Lanes      uint32
	InqOrder   uint32
	OutqOrder  uint32
	NbufCount  uint32
	NbufSize   uint32
	NbufData   uint32
	PortMax    uint32
	Reserved0  uint32
	DLaneOff   uint64
	InqOff     uint64
	PortOff    uint64
	PLaneOff   uint64
	OutqOff    uint64
	NbufOff    uint64
	OwnerPID   uint32
	Reserved1  uint32
	Name       [NameMax]byte
}

// DLane is struct netio_dlane, the device's page of a lane. Words that both
// sides look at are accessed with sync/atomic.
type DLane struct {
	OutqHead  uint32
	_         [15]uint32
	SleepSeq  uint32
	_         [15]uint32
	InqTail   uint32
	InqStart  uint32
	OutqStart uint32
	_         [13]uint32
	RxPackets uint64
	TxPackets uint64
	RxNoNbuf  uint64
	TxDrop    uint64
	BadEntry  uint64
	Wakeups   uint64
	Reclaimed uint64
	Copied    uint64
}

// PLane is struct netio_plane, the process's page of a lane.
type PLane struct {
	InqHead   uint32
	_         [15]uint32
	SleepSeq  uint32
	_         [15]uint32
	OutqTail  uint32
	_         [15]uint32
	Heartbeat uint32
	DeadmanUS uint32
	DeadMS    uint32
	_         [13]uint32
}

// Port is struct netio_port: state and transmit queue length of a port.
type Port struct {
	State       uint32
	Flags       uint32
	QPackets    uint32
	QBytes      uint32
	MarkBytes   uint32
	Nbufs       uint32
	NbufQuota   uint32
	ParkedBytes uint32
	MTU         uint32
	Generation  uint32
	RxDrop      uint64
	TxDrop      uint64
	Reserved    uint64
}

// Toggle is the toggle bit that an entry at position pos of a ring of 1<<order slots
// carries; order is less than 32.
func Toggle(pos uint32, order uint32) uint32 {
	return (^(pos >> (order & 31)) & 1) << 31
}

// Entry makes a queue entry without its toggle.
func Entry(action, param uint32) uint32 {
	return action<<EntActionShift | param
}

// Action of an entry.
func Action(e uint32) uint32 { return e >> EntActionShift & EntActionMask }

// Param of an entry.
func Param(e uint32) uint32 { return e & EntParamMask }
