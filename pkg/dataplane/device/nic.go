// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"netio.dev/netio/pkg/dataplane/abi"
)

// Errors of NICs that callers decide on.
var (
	// ErrNoNICs is for devices that are no NICs.
	ErrNoNICs = errors.New("only the kernel device (netio.ko) takes network interfaces as ports")
	// ErrNoInterface is returned for an interface that is not there.
	ErrNoInterface = fmt.Errorf("no such network interface: %w", fs.ErrNotExist)
	// ErrNotNIC is returned for an interface that cannot be a port, since it is not
	// Ethernet, and for a port that is a knet.
	ErrNotNIC = errors.New("no Ethernet interface")
	// ErrInterfaceInUse is returned for an interface whose packets somebody else
	// takes: a bridge, a bond, another port.
	ErrInterfaceInUse = errors.New("network interface is in use")
	// ErrSteered is returned for a prefix that is steered to the port already.
	ErrSteered = errors.New("prefix is steered already")
	// ErrNotSteered is returned for a prefix that is not steered to the port.
	ErrNotSteered = errors.New("prefix is not steered")
)

// NICs is what a Device may implement beside: interfaces of its network
// namespace can be ports, with what they receive for certain destinations.
//
//	nics, ok := dev.(device.NICs)
//
// The soft device does not: nothing in user space can take some packets from an
// interface and leave the host the others as they were.
type NICs interface {
	// AddNIC makes an interface a port. Until Steer its packets are all the
	// host's. What is sent to the port goes to the next hop of the host's routes
	// by that interface. RemovePort leaves the interface to the host alone.
	AddNIC(NICConfig) (PortInfo, error)

	// Steer changes which of the packets that a NIC receives are the port's. The
	// change is made whole or not at all.
	Steer(id PortID, op SteerOp, prefixes ...netip.Prefix) error
}

// NICConfig describes a NIC that is to be a port.
type NICConfig struct {
	// Name identifies the port to the device's user; unique in the instance.
	Name string
	// IfName is the interface's name in the instance's network namespace.
	IfName string
	// Quota and Whole are as in PortConfig.
	Quota int
	Whole bool
}

// SteerOp says what Steer does with prefixes.
type SteerOp uint32

// Operations of Steer.
const (
	SteerReplace SteerOp = abi.SteerReplace // these, and no others
	SteerAdd     SteerOp = abi.SteerAdd     // these as well, or ErrSteered
	SteerRemove  SteerOp = abi.SteerRemove  // these no more, or ErrNotSteered
)

// Check tells what no device takes. The error names the port and the field.
func (c NICConfig) Check() error {
	return PortConfig{Name: c.Name, IfName: c.IfName, Quota: c.Quota, Whole: c.Whole}.Check()
}

// CheckSteer tells what no device takes.
func CheckSteer(op SteerOp, prefixes []netip.Prefix) error {
	if op > SteerRemove {
		return fmt.Errorf("steer: %d is no operation", op)
	}
	if len(prefixes) > abi.SteerMax {
		return fmt.Errorf("steer: %d prefixes, want at most %d", len(prefixes), abi.SteerMax)
	}
	for _, p := range prefixes {
		switch {
		case !p.IsValid():
			return errors.New("steer: an invalid prefix")
		case p.Addr().Is4In6():
			return fmt.Errorf("steer: prefix %s is an IPv4 one written as IPv6", p)
		case p != p.Masked():
			return fmt.Errorf("steer: prefix %s has bits beyond its length; want %s", p, p.Masked())
		}
	}
	return nil
}
