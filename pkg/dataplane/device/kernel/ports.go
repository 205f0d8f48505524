// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// ports are those that the device has, and those that this process knew and
// whose network namespace has ended since: their names and numbers stay taken
// until RemovePort, as the device's user still has them in its tables.
type ports struct {
	known map[device.PortID]knownPort
	names map[string]device.PortID
	last  device.PortID // number of the newest port
}

type knownPort struct {
	info       device.PortInfo
	generation uint32
}

// learn takes over what the device says of a port.
func (p *ports) learn(rec *getPort) device.PortInfo {
	info := portInfo(rec)
	old, ok := p.known[info.ID]
	if ok && old.generation == rec.Generation {
		info.Name = old.info.Name
	} else {
		p.forget(info.ID) // it has ended, and the number is another port's now
		// Somebody else's, made by hand: it has no label, or another one's.
		if _, taken := p.names[info.Name]; taken || info.Name == "" {
			info.Name = fmt.Sprintf("knet-%d", info.ID)
		}
	}
	if p.known == nil {
		p.known, p.names = make(map[device.PortID]knownPort), make(map[string]device.PortID)
	}
	p.known[info.ID] = knownPort{info, rec.Generation}
	p.names[info.Name] = info.ID
	return info
}

func (p *ports) forget(id device.PortID) {
	if k, ok := p.known[id]; ok {
		delete(p.known, id)
		if p.names[k.info.Name] == id {
			delete(p.names, k.info.Name)
		}
	}
}

// state is what the area says of a port: only the device writes there, and no
// call is needed. known tells whether it is the port that is known.
func (d *Device) state(id uint32) (state uint32, known bool) {
	sh := d.area.Port(id)
	state = atomic.LoadUint32(&sh.State)
	k, ok := d.ports.known[device.PortID(id)]
	return state, ok && state&abi.PortPresent != 0 && k.generation == atomic.LoadUint32(&sh.Generation)
}

// refresh learns of all ports. The device is asked for those that are not known.
func (d *Device) refresh() error {
	if err := d.owner(); err != nil {
		return err
	}
	for id := uint32(1); id < d.area.Header().PortMax; id++ {
		state, same := d.state(id)
		if same {
			k, sh := d.ports.known[device.PortID(id)], d.area.Port(id)
			k.info.Up = state&abi.PortUp != 0
			k.info.Quota = int(atomic.LoadUint32(&sh.NbufQuota))
			k.info.Whole = atomic.LoadUint32(&sh.Flags)&abi.PortFlagWhole != 0
			if k.info.NIC {
				k.info.MTU = int(atomic.LoadUint32(&sh.MTU))
			}
			d.ports.known[device.PortID(id)] = k
			continue
		}
		if state&abi.PortPresent != 0 {
			rec, err := d.port(device.PortID(id))
			if err == nil {
				d.ports.learn(&rec)
				continue
			}
			if !errors.Is(err, device.ErrNoPort) {
				return err
			}
		}
		if k, ok := d.ports.known[device.PortID(id)]; ok {
			k.info.Up = false
			d.ports.known[device.PortID(id)] = k
		}
	}
	return nil
}

// port is what the device has of one port.
func (d *Device) port(id device.PortID) (getPort, error) {
	rec, err := d.kernel.getPort(uint32(id))
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return rec, d.failed(fmt.Sprintf("look for port %d", id), err)
	case rec.Port == uint32(id):
		return rec, nil
	}
	if k, ok := d.ports.known[id]; ok {
		return rec, fmt.Errorf("port %d: %w: the network namespace of %s has ended", id, device.ErrNoPort, k.info.Name)
	}
	return rec, fmt.Errorf("port %d: %w", id, device.ErrNoPort)
}

// owner is nil while this process owns the instance. The device is asked:
// nobody may have used it since it was taken over.
func (d *Device) owner() error {
	if err := d.gone(); err != nil {
		return err
	}
	if _, err := d.kernel.getPort(1); err != nil && !errors.Is(err, unix.ENOENT) {
		return d.failed("look for ports", err)
	}
	return nil
}

// AddPort implements device.Device.
func (d *Device) AddPort(c device.PortConfig) (device.PortInfo, error) {
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if err := c.Check(); err != nil {
		return device.PortInfo{}, err
	}
	label, err := encodeLabel(c)
	if err != nil {
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
	ns, err := openNetns(c.NetNS)
	if err != nil {
		return device.PortInfo{}, fmt.Errorf("port %s: %w", c.Name, err)
	}
	if ns != nil {
		defer ns.Close()
	}
	l := link{
		instance: d.name(), name: c.IfName, mtu: c.MTU, ns: ns, quota: c.Quota, whole: c.Whole, label: label,
	}
	rec, err := d.addLink(l)
	if err != nil {
		return device.PortInfo{}, fmt.Errorf("port %s: %w", c.Name, err)
	}
	d.ports.last = device.PortID(rec.Port)
	return d.ports.learn(&rec), nil
}

// numberTries is how often another number is asked for when the device gives one
// that still stands for a port that has ended.
const numberTries = 4

// addLink makes the interface and finds its port.
func (d *Device) addLink(l link) (getPort, error) {
	for try := 1; ; try++ {
		rec, err := d.placeLink(l)
		if err != nil {
			return rec, err
		}
		k, taken := d.ports.known[device.PortID(rec.Port)]
		if !taken {
			return rec, nil
		}
		err = fmt.Errorf("the device gives it the number %d of port %s, whose network namespace has ended; remove that port first", rec.Port, k.info.Name)
		if derr := d.deleteLink(rec.Port); derr != nil || try == numberTries {
			return rec, errors.Join(err, derr)
		}
		d.ports.last = device.PortID(rec.Port)
	}
}

// placeLink makes the interface under its name. Before Linux 6.15 the kernel
// refuses a name that the netlink socket's own network namespace has, whatever
// namespace the interface is for. It is then made there under a name of the
// kernel's choice, and named before anybody uses it.
func (d *Device) placeLink(l link) (getPort, error) {
	place := "in " + cmp.Or(fileName(l.ns), "the forwarder's network namespace")
	name := l.name
	err := d.kernel.addLink(l)
	if errors.Is(err, unix.EEXIST) && l.ns != nil {
		l.name = ""
		err = d.kernel.addLink(l)
	}
	// ENOBUFS: the answer was lost (netlink(7)); the interface tells what it was.
	lost := errors.Is(err, unix.ENOBUFS)
	if err != nil && !lost {
		return getPort{}, fmt.Errorf("make interface %s %s: %w", name, place, err)
	}
	rec, ferr := d.find(l.label)
	if errors.Is(ferr, unix.ENOMEM) {
		// It is there, and cannot be taken back without its number.
		rec, ferr = d.find(l.label)
	}
	switch {
	case ferr != nil && lost:
		return rec, fmt.Errorf("make interface %s %s: %w", name, place, err)
	case ferr != nil:
		// Nothing can be left but what a new owner has by now, or what is ending.
		return rec, ferr
	}
	if l.name == name {
		return rec, nil
	}
	if err := d.kernel.renameLink(l.ns, int(rec.IfIndex), name); err != nil {
		err = fmt.Errorf("name interface %s %s: %w", name, place, err)
		return rec, errors.Join(err, d.deleteLink(rec.Port))
	}
	rec.IfName = [16]byte{}
	copy(rec.IfName[:], name)
	return rec, nil
}

func fileName(f *os.File) string {
	if f == nil {
		return ""
	}
	return f.Name()
}

// find looks for the port that has just been made, by its label, among those that
// are not known. Devices give numbers in turn: mostly it is the first one.
func (d *Device) find(label string) (getPort, error) {
	count := d.area.Header().PortMax
	for i := range count {
		id := (uint32(d.ports.last) + 1 + i) % count
		if state, same := d.state(id); same || state&abi.PortPresent == 0 {
			continue
		}
		rec, err := d.port(device.PortID(id))
		if err == nil && cstring(rec.Label[:]) == label {
			return rec, nil
		}
		if err != nil && !errors.Is(err, device.ErrNoPort) {
			return rec, err
		}
	}
	return getPort{}, errors.New("the device has no port for the new interface: its network namespace has ended")
}

// deleteLink deletes a port that nobody has been told of.
func (d *Device) deleteLink(port uint32) error {
	if err := d.kernel.delPort(port); err != nil && !errors.Is(err, unix.ENOENT) {
		return d.failed(fmt.Sprintf("delete its port %d again", port), err)
	}
	return nil
}

// RemovePort implements device.Device.
func (d *Device) RemovePort(id device.PortID) error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return err
	}
	_, known := d.ports.known[id]
	err := error(unix.ENOENT)
	if id >= 1 && uint32(id) < d.area.Header().PortMax {
		err = d.kernel.delPort(uint32(id))
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		if !known {
			return fmt.Errorf("port %d: %w", id, device.ErrNoPort)
		}
	case err != nil:
		return d.failed(fmt.Sprintf("remove port %d", id), err)
	}
	d.ports.forget(id)
	return nil
}

// SetPort implements device.Device.
func (d *Device) SetPort(id device.PortID, u device.PortUpdate) error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return err
	}
	rec, err := d.port(id)
	if err != nil {
		return err
	}
	if err := u.Check(rec.Flags&abi.PortFlagWhole != 0, int(rec.NbufQuota)); err != nil {
		return fmt.Errorf("port %d: %w", id, err)
	}
	set := setPort{Port: uint32(id), Flags: unchanged, NbufQuota: unchanged, MarkBytes: unchanged}
	if u.Whole != nil {
		set.Flags = rec.Flags &^ abi.PortFlagWhole
		if *u.Whole {
			set.Flags |= abi.PortFlagWhole
		}
	}
	if u.Quota != nil {
		set.NbufQuota = uint32(*u.Quota)
	}
	if u.MarkBytes != nil {
		set.MarkBytes = uint32(*u.MarkBytes)
	}
	err = d.kernel.setPort(set)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("port %d: %w", id, device.ErrNoPort)
	}
	if err != nil {
		return d.failed(fmt.Sprintf("set port %d", id), err)
	}
	return nil
}

// Ports implements device.Device. A port whose network namespace has ended
// while this process knew it is listed, as down, until RemovePort.
func (d *Device) Ports() ([]device.PortInfo, error) {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return nil, err
	}
	if err := d.refresh(); err != nil {
		return nil, err
	}
	var list []device.PortInfo
	for _, id := range slices.Sorted(maps.Keys(d.ports.known)) {
		list = append(list, d.ports.known[id].info)
	}
	return list, nil
}
