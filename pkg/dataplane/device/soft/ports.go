// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// AddPort implements device.Device.
func (d *Device) AddPort(c device.PortConfig) (device.PortInfo, error) {
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.Quota == 0 {
		c.Quota = int(defaultQuota(uint32(len(d.st.nbufs))))
	}
	if err := c.Check(); err != nil {
		return device.PortInfo{}, err
	}
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return device.PortInfo{}, err
	}
	if _, ok := d.names[c.Name]; ok {
		return device.PortInfo{}, fmt.Errorf("port %s: %w", c.Name, device.ErrPortExists)
	}
	var ns *os.File
	if c.NetNS != "" {
		var err error
		if ns, err = os.Open(c.NetNS); err != nil {
			return device.PortInfo{}, fmt.Errorf("port %s: open network namespace: %w", c.Name, err)
		}
		defer ns.Close()
	}
	id, err := d.freeNumber()
	if err != nil {
		return device.PortInfo{}, fmt.Errorf("port %s: %w", c.Name, err)
	}
	d.reserve(id, c)
	k, err := d.makeKnet(c, ns)
	if err == nil {
		if err = d.commit(id, k); err != nil {
			unix.Close(k.fd)
		}
	}
	if err != nil {
		d.st.ports[id].phase = phaseFree
		return device.PortInfo{}, fmt.Errorf("port %s: %w", c.Name, err)
	}
	d.names[c.Name] = id
	return d.info(id), nil
}

// reserve writes what is known of a new port down.
func (d *Device) reserve(id uint32, c device.PortConfig) {
	st := &d.st.ports[id]
	d.st.hdr.top = max(d.st.hdr.top, id)
	st.generation++
	st.mtu, st.quota, st.flags, st.mark = uint32(c.MTU), uint32(c.Quota), 0, 0
	if c.Whole {
		st.flags = abi.PortFlagWhole
	}
	setCString(st.ifname[:], c.IfName)
	setCString(st.name[:], c.Name)
	setCString(st.netns[:], c.NetNS)
	st.phase = phaseAdding
}

func (d *Device) makeKnet(c device.PortConfig, ns *os.File) (knet, error) {
	instance := cstring(d.st.hdr.name[:])
	if k, ok, err := adopt(c.IfName, ns, instance); ok || err != nil {
		return k, err
	}
	if d.nursery == nil {
		var err error
		if d.nursery, err = newNursery(); err != nil {
			return knet{}, err
		}
	}
	return d.nursery.make(c.IfName, c.MTU, ns, instance)
}

// commit makes a port that outlives the process out of a new interface.
func (d *Device) commit(id uint32, k knet) error {
	st := &d.st.ports[id]
	st.ifindex, st.pinned = uint32(k.ifindex), 0
	if k.pinned {
		st.pinned = 1
	}
	if err := d.keeper.Put(portFile(id), k.fd); err != nil {
		return fmt.Errorf("give the interface to the keeper: %w", err)
	}
	err := setPersist(k.fd, true)
	if err == nil {
		st.phase = phasePresent
		if err = d.start(id, k); err != nil {
			st.phase = phaseAdding
			setPersist(k.fd, false)
		}
	}
	if err != nil {
		return errors.Join(err, d.keeper.Drop(portFile(id)))
	}
	return nil
}

// start lets the port's lane work on it.
func (d *Device) start(id uint32, k knet) error {
	st := &d.st.ports[id]
	p := &port{
		id: id, fd: k.fd, uso: k.uso, st: st, sh: d.area.Port(id),
		home: d.lanes[int(id)%len(d.lanes)], drained: true,
	}
	p.quota.Store(int32(st.quota))
	p.mark.Store(int32(st.mark))
	p.whole.Store(st.flags&abi.PortFlagWhole != 0)
	p.up.Store(isUp(k.fd))
	d.charge(p)
	sh := abi.Port{
		Flags: st.flags, MarkBytes: st.mark, NbufQuota: st.quota, MTU: st.mtu, Generation: st.generation,
		Nbufs: uint32(p.held), ParkedBytes: uint32(p.bytes),
	}
	if p.sh.Generation == st.generation { // the counters go on after a take-over
		sh.RxDrop, sh.TxDrop = p.sh.RxDrop, p.sh.TxDrop
	}
	*p.sh = sh
	state := uint32(abi.PortPresent)
	if p.up.Load() {
		state |= abi.PortUp
	}
	atomic.StoreUint32(&p.sh.State, state)
	l := p.home
	l.mu.Lock()
	defer l.mu.Unlock()
	d.ports[id].Store(p)
	if err := l.watch(p, unix.EPOLL_CTL_ADD); err != nil {
		d.ports[id].Store(nil)
		return err
	}
	l.heat(p)
	l.post(abi.InPort, id)
	return nil
}

// charge counts the nbufs that still hold packets of the port.
func (d *Device) charge(p *port) {
	for i := range d.st.nbufs {
		rec := &d.st.nbufs[i]
		if rec.owner != ownDevice && rec.iport == p.id {
			p.held++
			if rec.slot != 0 {
				p.parked++
				p.bytes += int32(rec.parked)
			}
		}
	}
}

// isUp tells whether the interface of a TUN is up: only then is it writable.
func isUp(fd int) bool {
	pfd := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(pfd, 0)
	return err == nil && n == 1 && pfd[0].Revents&unix.POLLOUT != 0
}

// freeNumber chooses the number of a new port: of those that are free the one
// that has been free for the longest time, so that the process has forgotten
// what it meant. A number that any nbuf outside the device still names, as the
// port it came from or goes to, is not chosen.
func (d *Device) freeNumber() (uint32, error) {
	named := make(map[uint32]bool)
	for i := range d.st.nbufs {
		rec := &d.st.nbufs[i]
		if atomic.LoadUint32(&rec.owner) != ownDevice {
			named[rec.iport] = true
			named[atomic.LoadUint32(&d.area.Nbuf(uint32(i)).EPort)] = true
		}
	}
	top := d.st.hdr.top
	for top++; top < uint32(len(d.st.ports)); top++ {
		if !named[top] {
			return top, nil
		}
	}
	best := uint32(0)
	for i := uint32(1); i < uint32(len(d.st.ports)); i++ {
		st := &d.st.ports[i]
		if st.phase != phaseFree || named[i] {
			continue
		}
		if best == 0 || st.removed < d.st.ports[best].removed {
			best = i
		}
	}
	if best == 0 {
		return 0, fmt.Errorf("all %d port numbers are in use or named by packets on their way", len(d.st.ports)-1)
	}
	return best, nil
}

// RemovePort implements device.Device.
func (d *Device) RemovePort(id device.PortID) error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return err
	}
	p, err := d.port(id)
	if err != nil {
		return err
	}
	p.st.phase = phaseRemoving
	delete(d.names, cstring(p.st.name[:]))
	d.stop(p)
	err = errors.Join(unpersist(p.fd), d.keeper.Drop(portFile(p.id)))
	unix.Close(p.fd)
	d.st.hdr.removed++
	p.st.removed = d.st.hdr.removed
	p.st.phase = phaseFree
	if err != nil {
		return fmt.Errorf("remove port %d: %w", id, err)
	}
	return nil
}

// unpersist lets the interface end with its last file. It may have ended before.
func unpersist(fd int) error {
	if err := setPersist(fd, false); err != nil && !errors.Is(err, unix.EBADFD) {
		return fmt.Errorf("make interface end with its file: %w", err)
	}
	return nil
}

// stop takes a port from its lane and waits until no lane uses its file.
func (d *Device) stop(p *port) {
	d.ports[p.id].Store(nil)
	for _, l := range d.lanes {
		l.mu.Lock()
		if l == p.home {
			unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, p.fd, nil)
			l.forget(p)
		}
		l.mu.Unlock()
	}
	// Packets from it that are still about count against nobody.
	*p.sh = abi.Port{Generation: p.st.generation, RxDrop: p.sh.RxDrop, TxDrop: p.sh.TxDrop}
	p.home.post(abi.InPort, p.id)
}

func (d *Device) port(id device.PortID) (*port, error) {
	if uint64(id) < uint64(len(d.ports)) {
		if p := d.ports[id].Load(); p != nil {
			return p, nil
		}
	}
	return nil, fmt.Errorf("port %d: %w", id, device.ErrNoPort)
}

// SetPort implements device.Device.
func (d *Device) SetPort(id device.PortID, u device.PortUpdate) error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return err
	}
	p, err := d.port(id)
	if err != nil {
		return err
	}
	whole, quota := p.whole.Load(), p.quota.Load()
	if err := u.Check(whole, int(quota)); err != nil {
		return fmt.Errorf("port %d: %w", id, err)
	}
	if u.Whole != nil {
		whole = *u.Whole
	}
	if u.Quota != nil {
		quota = int32(*u.Quota)
	}
	if u.MarkBytes != nil {
		p.st.mark = uint32(*u.MarkBytes)
		p.mark.Store(int32(*u.MarkBytes))
		atomic.StoreUint32(&p.sh.MarkBytes, p.st.mark)
	}
	p.st.quota, p.st.flags = uint32(quota), 0
	if whole {
		p.st.flags = abi.PortFlagWhole
	}
	p.quota.Store(quota)
	p.whole.Store(whole)
	p.home.wake() // it may wait for more quota
	atomic.StoreUint32(&p.sh.NbufQuota, p.st.quota)
	atomic.StoreUint32(&p.sh.Flags, p.st.flags)
	return nil
}

// Ports implements device.Device.
func (d *Device) Ports() ([]device.PortInfo, error) {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if err := d.gone(); err != nil {
		return nil, err
	}
	var list []device.PortInfo
	for i := range d.st.hdr.top + 1 {
		if p := d.ports[i].Load(); p != nil {
			p.setUp(isUp(p.fd))
			list = append(list, d.info(i))
		}
	}
	return list, nil
}

func (d *Device) info(id uint32) device.PortInfo {
	st := &d.st.ports[id]
	return device.PortInfo{
		ID: device.PortID(id),
		PortConfig: device.PortConfig{
			Name: cstring(st.name[:]), IfName: cstring(st.ifname[:]), NetNS: cstring(st.netns[:]),
			MTU: int(st.mtu), Quota: int(st.quota), Whole: st.flags&abi.PortFlagWhole != 0,
		},
		IfIndex: int(st.ifindex),
		Up:      d.ports[id].Load().up.Load(),
	}
}
