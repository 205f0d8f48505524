// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/device/kernel"
	"netio.dev/netio/pkg/dataplane/device/soft"
)

// Values of --device.
const (
	deviceAuto   = "auto"
	deviceKernel = "kernel"
	deviceSoft   = "soft"
)

// chooseDevice makes kernel or soft of what was asked for, and says why. available
// tells whether there is a kernel device, and the version of its ABI. Only what
// was not asked for by name is replaced, and runs, the device of a forwarder that is to be
// taken over from, before all: pods' interfaces are of that. "" is for none.
func chooseDevice(asked, runs string, available func() (uint32, error)) (chosen, why string, err error) {
	switch {
	case asked == deviceSoft:
		return deviceSoft, "--device soft", nil
	case asked == deviceAuto && runs == deviceSoft:
		return deviceSoft, "the forwarder that runs has it", nil
	}
	version, err := available()
	switch {
	case err != nil && asked == deviceAuto && runs == deviceKernel:
		return "", "", fmt.Errorf("the forwarder that runs has the kernel device, which this one cannot use: %w; that one goes on; drain the node and delete its netio-agent pods", err)
	case err == nil:
		return deviceKernel, fmt.Sprintf("%s is there, ABI %s", kernel.DefaultPath, abi.VersionString(version)), nil
	case asked == deviceKernel:
		return "", "", fmt.Errorf("--device kernel: %w", err)
	}
	return deviceSoft, err.Error(), nil
}

// openDevice takes over the instance that the process before has left, or makes a
// new one.
func (o *options) openDevice(log *slog.Logger) (device.Device, error) {
	if o.device == deviceKernel {
		return o.openKernel(log)
	}
	return o.openSoft()
}

// openSoft finds the instance in the supervisor's store.
func (o *options) openSoft() (device.Device, error) {
	keeper, err := soft.NewKeeperConn(os.NewFile(keeperFD, "keeper"))
	if err != nil {
		return nil, err
	}
	files, err := keeper.Files()
	if err != nil {
		return nil, err
	}
	if len(files) > 0 {
		return soft.Attach(files, keeper)
	}
	return soft.New(soft.Config{Name: o.instance, Lanes: o.lanes, Nbufs: o.nbufs}, keeper)
}

// openKernel finds the instance in the kernel, which keeps its geometry. One
// without ports is nobody's loss and made anew if it has another.
func (o *options) openKernel(log *slog.Logger) (device.Device, error) {
	c := kernel.Config{Name: o.instance, Lanes: o.lanes, Nbufs: o.nbufs, TakeOver: true}
	d, err := kernel.Open(c)
	if err != nil {
		return nil, err
	}
	had := d.Area().Header()
	if o.fits(had) {
		return d, nil
	}
	ports, err := d.Ports()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if len(ports) > 0 {
		log.Warn("the instance was made with other --lanes or --nbufs, and keeps them while it has ports",
			"instance", o.instance, "lanes", had.Lanes, "nbufs", had.NbufCount, "ports", len(ports))
		return d, nil
	}
	if err := d.Destroy(); err != nil {
		return nil, fmt.Errorf("make the instance anew for other --lanes or --nbufs: %w", err)
	}
	if d, err = kernel.Open(c); err != nil {
		return nil, err
	}
	return d, nil
}

// fits tells whether an instance is what was asked for. Devices round nbufs up,
// by less than half.
func (o *options) fits(h *abi.AreaHeader) bool {
	return int(h.Lanes) == o.lanes && int(h.NbufCount) >= o.nbufs && int(h.NbufCount) < 2*o.nbufs
}
