// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"fmt"

	"netio.dev/netio/pkg/dataplane/abi"
)

// Defaults of Config.
const (
	DefaultNbufs       = 8192
	DefaultPorts       = 16384
	DefaultParkedSlots = 512
)

// slotSize holds what a packet of the largest size (an IPv6 jumbo-free packet
// of 40+65535 bytes) has beyond an nbuf's room.
const slotSize = 64 << 10

// maxPacket is the largest packet that a TUN can hand out or take: an IPv6
// header and 65535 bytes.
const maxPacket = 40 + 65535

// Config is the geometry of a new instance. It is fixed when the instance is
// made: Attach takes it from the state.
type Config struct {
	// Name of the instance, shown to people; at most 31 bytes.
	Name string
	// Lanes is the number of workers, 1 to 64; 0 for 1.
	Lanes int
	// Nbufs is the number of packet buffers of 2 KiB; 0 for DefaultNbufs.
	Nbufs int
	// Ports limits port numbers to 1 .. Ports-1; 0 for DefaultPorts.
	Ports int
	// ParkedSlots bounds the parked packets, 64 KiB of address space each;
	// 0 for DefaultParkedSlots. Memory is used only as far as slots have
	// been in use at one time.
	ParkedSlots int
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Lanes, 1)
	def(&c.Nbufs, DefaultNbufs)
	def(&c.Ports, DefaultPorts)
	def(&c.ParkedSlots, DefaultParkedSlots)
	return c
}

func (c Config) validate() error {
	for _, f := range []struct {
		what     string
		v        int
		min, max int
	}{
		{"Lanes", c.Lanes, 1, abi.LanesMax},
		{"Nbufs", c.Nbufs, 1, abi.NbufsMax},
		{"Ports", c.Ports, 2, abi.PortsMax},
		{"ParkedSlots", c.ParkedSlots, 1, 1 << 14},
	} {
		if f.v < f.min || f.v > f.max {
			return fmt.Errorf("soft device: %s is %d, want %d to %d", f.what, f.v, f.min, f.max)
		}
	}
	return nil
}

// defaultQuota is the number of nbufs that a port may hold unless it is told
// otherwise: an eighth of all, so that no few ports starve the others.
func defaultQuota(nbufs uint32) uint32 { return max(nbufs/8, 64) }
