// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"strconv"
	"strings"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// A label is what the device keeps of a port for its next owner: four lines, the
// port's name, the path of its network namespace, and interface name and MTU as
// it was made. A pod may change the latter two; it is no other port by that.

// encodeLabel makes the label of a port. No line but the path may have a line
// break in it, and the kernel ends a string at a NUL.
func encodeLabel(c device.PortConfig) (string, error) {
	if strings.ContainsAny(c.Name, "\n\x00") {
		return "", fmt.Errorf("port name %q: line breaks and NUL are not allowed", c.Name)
	}
	if strings.ContainsAny(c.IfName, "\n\x00") {
		return "", fmt.Errorf("port %s: interface name %q: line breaks and NUL are not allowed", c.Name, c.IfName)
	}
	if strings.ContainsRune(c.NetNS, 0) {
		return "", fmt.Errorf("port %s: network namespace %q: NUL is not allowed", c.Name, c.NetNS)
	}
	return strings.Join([]string{c.Name, c.NetNS, c.IfName, strconv.Itoa(c.MTU)}, "\n"), nil
}

// decodeLabel takes a label apart. ok is false for one of another origin: what it
// does not say is zero then.
func decodeLabel(s string) (c device.PortConfig, ok bool) {
	name, rest, _ := strings.Cut(s, "\n")
	c.Name = name
	if i := strings.LastIndexByte(rest, '\n'); i >= 0 {
		if j := strings.LastIndexByte(rest[:i], '\n'); j >= 0 {
			mtu, err := strconv.Atoi(rest[i+1:])
			if err == nil && mtu > 0 {
				c.NetNS, c.IfName, c.MTU = rest[:j], rest[j+1:i], mtu
				return c, c.Check() == nil
			}
		}
	}
	c.NetNS = rest
	return c, false
}

// portInfo is what is known of a port that the device has.
func portInfo(p *getPort) device.PortInfo {
	c, ok := decodeLabel(cstring(p.Label[:]))
	ifname := cstring(p.IfName[:])
	// An interface that still has the kernel's name for it was left by a process
	// that died before it named it.
	if !ok || strings.HasPrefix(ifname, knetKind) {
		c.IfName = ifname
	}
	if !ok {
		c.MTU = int(p.MTU)
	}
	nic := p.State&abi.PortNIC != 0
	if nic { // nobody made it: it is what it is now
		c.IfName, c.MTU = ifname, int(p.MTU)
	}
	c.Quota, c.Whole = int(p.NbufQuota), p.Flags&abi.PortFlagWhole != 0
	return device.PortInfo{
		ID: device.PortID(p.Port), PortConfig: c, IfIndex: int(p.IfIndex), Up: p.State&abi.PortUp != 0, NIC: nic,
	}
}
