// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

var _ device.NICs = (*Device)(nil)

// AddNIC implements device.NICs.
func (d *Device) AddNIC(c device.NICConfig) (device.PortInfo, error) {
	if err := c.Check(); err != nil {
		return device.PortInfo{}, err
	}
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.owner(); err != nil {
		return device.PortInfo{}, err
	}
	if _, ok := d.ports.names[c.Name]; ok {
		return device.PortInfo{}, fmt.Errorf("port %s: %w", c.Name, device.ErrPortExists)
	}
	rec, err := d.placeNIC(c)
	if err != nil {
		return device.PortInfo{}, fmt.Errorf("port %s: interface %s: %w", c.Name, c.IfName, err)
	}
	d.ports.last = device.PortID(rec.Port)
	return d.ports.learn(&rec), nil
}

// placeNIC makes the interface a port, under a number that stands for no other.
func (d *Device) placeNIC(c device.NICConfig) (getPort, error) {
	link, err := d.kernel.findLink(c.IfName, 0)
	if err != nil {
		return getPort{}, nicError(err, "")
	}
	attrs := link.Attrs()
	label, err := encodeLabel(device.PortConfig{Name: c.Name, IfName: c.IfName, MTU: attrs.MTU})
	if err != nil {
		return getPort{}, err
	}
	a := addNIC{IfIndex: uint32(attrs.Index), NbufQuota: uint32(c.Quota)}
	copy(a.Label[:], label)
	if c.Whole {
		a.Flags = abi.PortFlagWhole
	}
	for try := 1; ; try++ {
		port, err := d.kernel.addNIC(a)
		if errors.Is(err, unix.EOWNERDEAD) {
			return getPort{}, d.failed("add NIC", err)
		}
		if err != nil {
			return getPort{}, nicError(err, d.user(attrs))
		}
		k, taken := d.ports.known[device.PortID(port)]
		if !taken {
			return d.port(device.PortID(port))
		}
		err = fmt.Errorf("the device gives it the number %d of port %s, whose interface has ended; remove that port first", port, k.info.Name)
		if derr := d.deleteLink(port); derr != nil || try == numberTries {
			return getPort{}, errors.Join(err, derr)
		}
	}
}

// user says who has an interface, as far as that is known.
func (d *Device) user(a *netlink.LinkAttrs) string {
	if a.MasterIndex == 0 {
		return "it is a port already, or carries interfaces that take its packets (macvlan, ipvlan)"
	}
	master, err := d.kernel.findLink("", a.MasterIndex)
	if err != nil {
		return "it belongs to another interface"
	}
	return fmt.Sprintf("it belongs to %s %s; take it out (ip link set %s nomaster)", master.Type(), master.Attrs().Name, a.Name)
}

// nicError explains why an interface cannot be a port.
func nicError(err error, user string) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w in the forwarder's network namespace", device.ErrNoInterface)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: loopback, tunnels and knets have no link-layer addresses", device.ErrNotNIC)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %s", device.ErrInterfaceInUse, user)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w; it needs CAP_NET_ADMIN over the network namespace", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("all port numbers of the instance are in use: %w", err)
	}
	return err
}

// Steer implements device.NICs.
func (d *Device) Steer(id device.PortID, op device.SteerOp, prefixes ...netip.Prefix) error {
	if err := device.CheckSteer(op, prefixes); err != nil {
		return fmt.Errorf("port %d: %w", id, err)
	}
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return err
	}
	rec, err := d.port(id)
	if err != nil {
		return err
	}
	if rec.State&abi.PortNIC == 0 {
		return fmt.Errorf("port %d: %w, but a knet: all packets from it are NetIO's", id, device.ErrNotNIC)
	}
	err = d.kernel.steer(uint32(id), uint32(op), prefixesOf(prefixes))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("port %d: %w: one of %v", id, device.ErrSteered, prefixes)
	case errors.Is(err, unix.ENOENT) && op == device.SteerRemove:
		if _, perr := d.port(id); perr != nil {
			return perr // it has ended meanwhile
		}
		return fmt.Errorf("port %d: %w: one of %v", id, device.ErrNotSteered, prefixes)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("port %d: %w", id, device.ErrNoPort)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("port %d: steer: more than %d prefixes: %w", id, abi.SteerMax, err)
	}
	return d.failed(fmt.Sprintf("steer port %d", id), err)
}

func prefixesOf(list []netip.Prefix) []prefix {
	out := make([]prefix, len(list))
	for i, p := range list {
		out[i] = prefix{Family: unix.AF_INET6, Len: uint8(p.Bits())}
		if p.Addr().Is4() {
			out[i].Family = unix.AF_INET
		}
		copy(out[i].Addr[:], p.Addr().AsSlice())
	}
	return out
}
