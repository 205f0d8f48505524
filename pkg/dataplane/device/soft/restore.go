// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
)

// restorePorts starts the ports of the previous owner. A port that was half added
// or half removed is removed. One whose TUN is not among fds, or is none any more,
// is adopted if its interface still stands, and else forgotten. It removes from fds
// what it uses and closes files of ports that are not known.
func (d *Device) restorePorts(fds map[string]int) error {
	for id := uint32(1); id <= d.st.hdr.top; id++ {
		st := &d.st.ports[id]
		if st.phase == phaseFree {
			continue
		}
		fd, held := fds[portFile(id)]
		delete(fds, portFile(id))
		if st.phase != phasePresent {
			d.forgetPort(id, fd, held)
			continue
		}
		k, err := d.restoreKnet(id, fd, held)
		if err != nil {
			d.forgetPort(id, fd, held)
			continue
		}
		if err := d.start(id, k); err != nil {
			unix.Close(k.fd)
			return fmt.Errorf("restore port %d: %w", id, err)
		}
		d.names[cstring(st.name[:])] = id
	}
	for name, fd := range fds {
		delete(fds, name)
		if _, err := strconv.ParseUint(strings.TrimPrefix(name, "port."), 10, 24); err == nil {
			unpersist(fd)
		}
		unix.Close(fd)
		if err := d.keeper.Drop(name); err != nil {
			return fmt.Errorf("make the keeper drop %s: %w", name, err)
		}
	}
	return nil
}

// restoreKnet makes a port's interface usable again.
func (d *Device) restoreKnet(id uint32, fd int, held bool) (knet, error) {
	st := &d.st.ports[id]
	if held {
		uso, err := checkTUN(fd)
		if err == nil {
			return knet{fd: fd, uso: uso, ifindex: int(st.ifindex), pinned: st.pinned != 0}, nil
		}
		if errors.Is(err, unix.EBADFD) {
			// The pod's namespace has taken the interface with it. The port
			// stays until it is removed.
			return knet{fd: fd, ifindex: int(st.ifindex)}, nil
		}
	}
	var ns *os.File
	if path := cstring(st.netns[:]); path != "" {
		var err error
		if ns, err = os.Open(path); err != nil {
			return knet{}, err
		}
		defer ns.Close()
	}
	k, ok, err := adopt(cstring(st.ifname[:]), ns, cstring(d.st.hdr.name[:]))
	if err != nil {
		return knet{}, err
	}
	if !ok {
		return knet{}, os.ErrNotExist
	}
	if err := d.keeper.Put(portFile(id), k.fd); err != nil {
		unix.Close(k.fd)
		return knet{}, err
	}
	if held {
		unix.Close(fd)
	}
	st.ifindex = uint32(k.ifindex)
	if k.pinned {
		st.pinned = 1
	}
	return k, nil
}

// forgetPort gives the number of a port without a use back.
func (d *Device) forgetPort(id uint32, fd int, held bool) {
	if held {
		unpersist(fd)
		unix.Close(fd)
		d.keeper.Drop(portFile(id))
	}
	d.area.Port(id).State = 0
	d.st.hdr.removed++
	d.st.ports[id].removed = d.st.hdr.removed
	d.st.ports[id].phase = phaseFree
	d.lanes[int(id)%len(d.lanes)].post(abi.InPort, id)
}

// checkTUN tells whether fd is a TUN as this package makes them, and sets what
// may differ between versions of it.
func checkTUN(fd int) (uso bool, err error) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return false, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return false, err
	}
	if got := ifr.Uint16() & (unix.IFF_TUN | unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR); got != tunFlags {
		return false, fmt.Errorf("TUN has flags %#x, want %#x", got, tunFlags)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return false, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetLen); err != nil {
		return false, err
	}
	return setOffloads(fd)
}
