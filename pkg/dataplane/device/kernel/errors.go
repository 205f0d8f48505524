// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// Errors of Open and Available that callers decide on. device.ErrVersion is
// another.
var (
	// ErrNoModule is returned where there is no device.
	ErrNoModule = errors.New("the kernel module netio is not loaded")
	// ErrBusy is returned by Open without TakeOver for an instance whose owner
	// lives.
	ErrBusy = errors.New("another process owns the instance, and lives")
)

// openError explains why the device node cannot be opened.
func openError(path string, err error) error {
	const load = "load it with `netio-agent kmod load`"
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("no %s: %w; %s", path, ErrNoModule, load)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("no driver behind %s: %w; %s", path, ErrNoModule, load)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("open %s: %w; run as root, and in a container allow the device", path, err)
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// attachError explains why ATTACH failed; a is as the device has left it.
func attachError(c Config, a *attach, err error) error {
	what := fmt.Sprintf("instance %q", c.Name)
	switch {
	case errors.Is(err, unix.EPROTO):
		return fmt.Errorf("%w: %s has %s, this process needs %s; install module and programs of one version",
			device.ErrVersion, c.Path, abi.VersionString(a.ABIVersion), abi.VersionString(abi.Version))
	case errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("%s is no NetIO device: %w", c.Path, err)
	case a.Flags&attachJoin != 0 && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOWNERDEAD) || errors.Is(err, unix.ENOENT)):
		return fmt.Errorf("%s: %w", what, device.ErrNotOwner)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w; it needs CAP_NET_ADMIN over the network namespace", what, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%s: %w; end that process, or use another instance", what, ErrBusy)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("no %s in this network namespace: %w", what, err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%s: %w for %s; ask for fewer", what, err, c.geometry())
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%s: the device refuses the name, or %s: %w", what, c.geometry(), err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// geometry is what was asked for, for people; 0 is the device's default.
func (c Config) geometry() string {
	return fmt.Sprintf("%d lanes, %d nbufs, %d ports and %d parked bytes", c.Lanes, c.Nbufs, c.Ports, c.ParkedBytes)
}
