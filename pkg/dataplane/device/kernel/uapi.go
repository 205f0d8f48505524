// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
)

// This file mirrors the part of kmod/include/uapi/linux/netio.h that only the
// kernel device has: ioctls and netlink attributes. A test compiles the header
// and compares.

const (
	attachTakeOver = 0x1 // NETIO_ATTACH_TAKEOVER
	attachExisting = 0x2 // NETIO_ATTACH_EXISTING
	attachJoin     = 0x4 // NETIO_ATTACH_JOIN

	labelMax  = 1024      // NETIO_LABEL_MAX, with the NUL
	unchanged = 1<<32 - 1 // in setPort
)

// attach is struct netio_attach.
type attach struct {
	ABIVersion uint32
	Flags      uint32
	Name       [abi.NameMax]byte
	Lanes      uint32
	NbufCount  uint32
	PortMax    uint32
	ParkedMax  uint32
	AreaSize   uint64
	Epoch      uint64
}

// setPort is struct netio_set_port.
type setPort struct {
	Port      uint32
	Flags     uint32
	NbufQuota uint32
	MarkBytes uint32
}

// getPort is struct netio_get_port.
type getPort struct {
	Port       uint32
	IfIndex    uint32
	State      uint32
	Flags      uint32
	NbufQuota  uint32
	MarkBytes  uint32
	MTU        uint32
	Generation uint32
	IfName     [16]byte
	Label      [labelMax]byte
}

// addNIC is struct netio_add_nic.
type addNIC struct {
	Port      uint32
	IfIndex   uint32
	Flags     uint32
	NbufQuota uint32
	Label     [labelMax]byte
}

// prefix is struct netio_prefix.
type prefix struct {
	Addr     [16]byte
	Family   uint8
	Len      uint8
	Reserved uint16
}

// steerNIC is struct netio_steer_nic.
type steerNIC struct {
	Port     uint32
	Op       uint32
	Count    uint32
	Reserved uint32
	Prefixes uint64
}

// Numbers of ioctls, as include/uapi/asm-generic/ioctl.h makes them.
const (
	iocNone, iocWrite, iocRead = 0, 1, 2

	iocAttach     = (iocRead|iocWrite)<<30 | uint32(unsafe.Sizeof(attach{}))<<16 | 'n'<<8 | 0xa0
	iocKick       = iocNone<<30 | 'n'<<8 | 0xa1 // argument: lane
	iocSetPort    = iocWrite<<30 | uint32(unsafe.Sizeof(setPort{}))<<16 | 'n'<<8 | 0xa2
	iocDestroy    = iocNone<<30 | 'n'<<8 | 0xa3
	iocSelectLane = iocNone<<30 | 'n'<<8 | 0xa4 // argument: lane
	iocGetPort    = (iocRead|iocWrite)<<30 | uint32(unsafe.Sizeof(getPort{}))<<16 | 'n'<<8 | 0xa5
	iocDelPort    = iocNone<<30 | 'n'<<8 | 0xa6 // argument: port
	iocAddNIC     = (iocRead|iocWrite)<<30 | uint32(unsafe.Sizeof(addNIC{}))<<16 | 'n'<<8 | 0xa7
	iocSteer      = iocWrite<<30 | uint32(unsafe.Sizeof(steerNIC{}))<<16 | 'n'<<8 | 0xa8
)

// knetKind is NETIO_KNET_KIND, the kind of rtnetlink links, and also how the
// kernel names a link that is made without a name: knet0, knet1 and so on.
const knetKind = "knet"

// Attributes of a knet in IFLA_INFO_DATA.
const (
	knetInstance = 1 // IFLA_KNET_INSTANCE
	knetQuota    = 3 // IFLA_KNET_QUOTA
	knetFlags    = 4 // IFLA_KNET_FLAGS
	knetLabel    = 5 // IFLA_KNET_LABEL
)

// cstring is the text up to the first NUL.
func cstring(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
