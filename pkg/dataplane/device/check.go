// SPDX-License-Identifier: Apache-2.0

package device

import (
	"fmt"

	"netio.dev/netio/pkg/dataplane/abi"
)

// Limits of PortConfig and PortUpdate.
const (
	PortNameMax  = 127 // bytes of PortConfig.Name
	NetNSMax     = 255 // bytes of PortConfig.NetNS
	IfNameMax    = 15  // bytes of PortConfig.IfName
	MinMTU       = 68  // RFC 791
	MaxMTU       = 65535
	MaxMarkBytes = 1 << 30
	// WholeNbufs hold the largest packet without parking: an IPv6 header and
	// 65535 bytes.
	WholeNbufs = (40 + 65535 + abi.NbufFill - 1) / abi.NbufFill
)

// Check tells what no device takes. The error names the port and the field.
func (c PortConfig) Check() error {
	switch {
	case c.Name == "" || len(c.Name) > PortNameMax:
		return fmt.Errorf("port name %q: want 1 to %d bytes", c.Name, PortNameMax)
	case c.IfName == "" || len(c.IfName) > IfNameMax:
		return fmt.Errorf("port %s: interface name %q: want 1 to %d bytes", c.Name, c.IfName, IfNameMax)
	case len(c.NetNS) > NetNSMax:
		return fmt.Errorf("port %s: network namespace %q: path is longer than %d bytes", c.Name, c.NetNS, NetNSMax)
	case c.MTU != 0 && (c.MTU < MinMTU || c.MTU > MaxMTU):
		return fmt.Errorf("port %s: MTU is %d, want %d to %d", c.Name, c.MTU, MinMTU, MaxMTU)
	case c.Quota < 0 || c.Quota > abi.NbufsMax:
		return fmt.Errorf("port %s: quota is %d nbufs, want 0 to %d", c.Name, c.Quota, abi.NbufsMax)
	case c.Whole && c.Quota != 0 && c.Quota < WholeNbufs:
		return fmt.Errorf("port %s: quota is %d nbufs, but a whole packet may need %d", c.Name, c.Quota, WholeNbufs)
	}
	return nil
}

// Check tells what no device takes, for a port that now has the given values.
func (u PortUpdate) Check(whole bool, quota int) error {
	if u.Whole != nil {
		whole = *u.Whole
	}
	if u.Quota != nil {
		if quota = *u.Quota; quota < 1 || quota > abi.NbufsMax {
			return fmt.Errorf("quota is %d nbufs, want 1 to %d", quota, abi.NbufsMax)
		}
	}
	if whole && quota < WholeNbufs {
		return fmt.Errorf("quota is %d nbufs, but a whole packet may need %d", quota, WholeNbufs)
	}
	if u.MarkBytes != nil && (*u.MarkBytes < 0 || *u.MarkBytes > MaxMarkBytes) {
		return fmt.Errorf("mark is %d bytes, want 0 to %d", *u.MarkBytes, MaxMarkBytes)
	}
	return nil
}
