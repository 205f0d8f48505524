// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"math"
	"strings"

	"netio.dev/netio/pkg/dataplane/abi"
)

// DefaultPath is the device node that the module makes.
const DefaultPath = "/dev/netio"

// Config says which instance to own, and its geometry if it is made. An instance
// that is there keeps the geometry that it was made with.
type Config struct {
	// Path of the device node, "" for DefaultPath.
	Path string
	// Name of the instance, 1 to 31 bytes, unique in the network namespace.
	Name string
	// Lanes is the number of workers, 1 to 64; 0 for 1.
	Lanes int
	// Nbufs is the number of packet buffers of 2 KiB, 0 for the device's default.
	// The device may round it up.
	Nbufs int
	// Ports limits port numbers to 1 .. Ports-1, 0 for the device's default.
	Ports int
	// ParkedBytes is the cap on parked payload, 0 for the device's default.
	ParkedBytes int
	// TakeOver takes the instance from a process that owns it and lives.
	TakeOver bool
	// Existing makes no instance: without one Open fails with fs.ErrNotExist.
	Existing bool
}

func (c Config) withDefaults() Config {
	if c.Path == "" {
		c.Path = DefaultPath
	}
	return c
}

func (c Config) validate() error {
	if c.Name == "" || len(c.Name) >= abi.NameMax || strings.ContainsRune(c.Name, 0) {
		return fmt.Errorf("kernel device: instance name %q: want 1 to %d bytes", c.Name, abi.NameMax-1)
	}
	for _, f := range []struct {
		what     string
		v        int
		min, max int64
	}{
		{"Lanes", c.Lanes, 1, abi.LanesMax},
		{"Nbufs", c.Nbufs, 1, abi.NbufsMax},
		{"Ports", c.Ports, 2, abi.PortsMax},
		{"ParkedBytes", c.ParkedBytes, 1, math.MaxUint32},
	} {
		if v := int64(f.v); v != 0 && (v < f.min || v > f.max) {
			return fmt.Errorf("kernel device: %s is %d, want %d to %d", f.what, f.v, f.min, f.max)
		}
	}
	return nil
}

// attach is the request for the instance's first descriptor.
func (c Config) attach() attach {
	a := attach{
		ABIVersion: abi.Version,
		Lanes:      uint32(c.Lanes), NbufCount: uint32(c.Nbufs), PortMax: uint32(c.Ports), ParkedMax: uint32(c.ParkedBytes),
	}
	copy(a.Name[:], c.Name)
	if c.TakeOver {
		a.Flags |= attachTakeOver
	}
	if c.Existing {
		a.Flags |= attachExisting
	}
	return a
}

// join is the request for a further descriptor of the instance.
func (c Config) join() attach {
	a := attach{ABIVersion: abi.Version, Flags: attachJoin}
	copy(a.Name[:], c.Name)
	return a
}
