// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
)

// EndIdle ends an instance that no process owns and whose ports are all interfaces of this
// network namespace, which it deletes; false if the instance is in use otherwise, or not
// there. It works with a device of another ABI, as long as ATTACH is what it was. path is
// the device node, "" for DefaultPath.
func EndIdle(path, name string) (ended bool, err error) {
	c := Config{Path: path, Name: name, Existing: true}.withDefaults()
	if err := c.validate(); err != nil {
		return false, err
	}
	fd, err := openDevice(c.Path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	a := c.attach()
	if err := attachTo(fd, &a); errors.Is(err, unix.EPROTO) {
		theirs := a.ABIVersion
		a = c.attach()
		a.ABIVersion = theirs
		err = attachTo(fd, &a)
		if err != nil {
			return false, idleError(c, &a, err)
		}
	} else if err != nil {
		return false, idleError(c, &a, err)
	}
	k, err := newKernelControl(fd)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	return endIdle(k)
}

// idleError: that somebody has it, or nobody any more, is none.
func idleError(c Config, a *attach, err error) error {
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return attachError(c, a, err)
}

// endIdle does so, once the instance is ours.
func endIdle(k control) (bool, error) {
	var ours []uint32
	for from := uint32(0); ; {
		p, err := k.getPort(from)
		if errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return false, fmt.Errorf("list ports: %w", err)
		}
		name := cstring(p.IfName[:])
		l, err := k.findLink("", int(p.IfIndex))
		if err != nil || l.Attrs().Name != name || l.Type() != knetKind && p.State&abi.PortNIC == 0 {
			return false, nil // a pod's, by its number and name in its own network namespace
		}
		ours = append(ours, p.Port)
		from = p.Port + 1
	}
	for _, port := range ours {
		if err := k.delPort(port); err != nil && !errors.Is(err, unix.ENOENT) {
			return false, fmt.Errorf("delete port %d: %w", port, err)
		}
	}
	if err := k.destroy(); err != nil {
		return false, fmt.Errorf("end the instance: %w", err)
	}
	return true, nil
}
