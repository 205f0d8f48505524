// SPDX-License-Identifier: Apache-2.0

// Package device is the seam between the forwarder and the NetIO device that
// it works on. There are two devices: the kernel module behind /dev/netio, and
// the soft device, which has the same shared memory in a memfd and services
// it in user space over TUN interfaces. Both pass the one conformance suite
// in package devicetest, so nothing above this package differs.
//
//	forwarder worker ── InQ/OutQ/nbufs of its lane (package ring, abi) ──┐
//	       │                                                            │
//	       └── Kick, Wait ──> Device <── AddPort, SetPort ── control ────┘
//
// Packets never pass through this interface: they cross in the shared memory.
package device

import (
	"errors"
	"io/fs"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
)

// PortID numbers a port of an instance: 1 to port_max-1.
type PortID uint32

// Errors that callers decide on. They wrap the io/fs sentinels where there is
// one that fits.
var (
	// ErrClosed is returned once the device has been closed.
	ErrClosed = fs.ErrClosed
	// ErrNotOwner is returned after another process has taken the instance over.
	ErrNotOwner = errors.New("another process owns the instance")
	// ErrPortExists is returned by AddPort for a name that is in use.
	ErrPortExists = errors.New("port exists")
	// ErrNoPort is returned for a port that is not there.
	ErrNoPort = errors.New("no such port")
	// ErrVersion is returned for an area whose ABI the process does not speak;
	// the message names both versions.
	ErrVersion = errors.New("ABI version mismatch")
)

// PortConfig describes a knet to be made.
type PortConfig struct {
	// Name identifies the port to the device's user; unique in the instance.
	Name string
	// IfName is the interface's name inside the network namespace, 1 to 15 bytes.
	IfName string
	// NetNS is the path of the network namespace, "" for the caller's own.
	NetNS string
	// MTU in bytes, L3; 0 for 1500.
	MTU int
	// Quota is the number of nbufs that packets from this port may hold; 0
	// for the device's default.
	Quota int
	// Whole asks for whole packets, as chains, instead of parked payload.
	Whole bool
}

// PortInfo is a port as the device has it.
type PortInfo struct {
	ID PortID
	PortConfig
	// IfIndex of the interface inside its network namespace.
	IfIndex int
	// Up tells whether the interface is administratively up and its network
	// namespace alive.
	Up bool
	// NIC tells that it was made by NICs.AddNIC. IfName and MTU are the interface's
	// present ones then.
	NIC bool
}

// PortUpdate changes a port; nil leaves a value as it is.
type PortUpdate struct {
	Whole *bool
	Quota *int
	// MarkBytes is the transmit queue length at which QOS is sent, 0: never.
	MarkBytes *int
}

// Device is a NetIO device that this process owns.
//
// A lane's rings, Kick and Wait belong to one goroutine, the lane's worker;
// everything else may be called from any goroutine at any time.
type Device interface {
	// Area is the shared memory. It stays mapped until Close returns.
	Area() *abi.Area

	// Kick makes the device service the lane's OutQ and, where the area has
	// the feature SELF_SERVICE, look for received packets too. It never blocks.
	Kick(lane int) error

	// Wait sleeps until the lane's InQ may hold an entry, Wake is called for
	// the lane, or d has passed; d < 0 means no limit. It publishes the wish to be
	// woken itself and looks at the InQ again after that, so that no
	// wake-up is lost.
	Wait(lane int, d time.Duration) error

	// Wake ends the lane's present or next Wait.
	Wake(lane int) error

	// AddPort makes a knet and returns its number. The interface is down and
	// has no address. It fails whole: after an error nothing is left.
	AddPort(PortConfig) (PortInfo, error)

	// RemovePort deletes the knet, or ends a NIC's time as a port. Packets on their way to it are dropped,
	// packets from it that the process holds stay valid. nil if the network
	// namespace took the interface with it; ErrNoPort if it was never there.
	RemovePort(PortID) error

	// SetPort changes a port.
	SetPort(PortID, PortUpdate) error

	// Ports lists the ports, by number.
	Ports() ([]PortInfo, error)

	// Close gives the instance up and unmaps the area. Ports, buffers and
	// rings stay for the next owner as far as the device can keep them.
	Close() error
}
