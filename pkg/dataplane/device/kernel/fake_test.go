// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
)

// fakeKernel does what the module does with ports.
type fakeKernel struct {
	fd      int // of the area
	hdr     abi.AreaHeader
	area    *abi.Area // writable
	ports   map[uint32]*getPort
	portMax uint32
	inTurn  bool // numbers are given in turn, else the lowest one
	last    uint32
	gen     uint32
	calls   int // of getPort
	// taken are interface names of the netlink socket's own network namespace,
	// which kernels before 6.15 refuse for any other too.
	taken     map[string]bool
	inNS      map[string]bool // names in the pods' namespace
	nics      []netlink.Link  // of the instance's namespace
	steered   map[uint32][]prefix
	lost      bool // another process owns the instance
	mute      bool // the answer to the next addLink is lost, for want of memory
	short     bool // the next getPort finds no memory
	destroyed bool
	closed    bool
}

// newFakeKernel has an instance with an area in a memory file.
func newFakeKernel(t testing.TB, lanes, portMax uint32) *fakeKernel {
	t.Helper()
	fd, hdr := newArea(t, lanes, portMax)
	mem, err := unix.Mmap(fd, 0, int(hdr.AreaSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	area, err := abi.OpenArea(mem)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeKernel{
		fd: fd, hdr: hdr, area: area, ports: map[uint32]*getPort{}, portMax: portMax, inTurn: true,
		taken: map[string]bool{}, inNS: map[string]bool{}, steered: map[uint32][]prefix{},
	}
}

// tell writes a port to the area.
func (k *fakeKernel) tell(port uint32) {
	sh, p := k.area.Port(port), k.ports[port]
	if p == nil {
		atomic.StoreUint32(&sh.State, 0)
		return
	}
	atomic.StoreUint32(&sh.Flags, p.Flags)
	atomic.StoreUint32(&sh.NbufQuota, p.NbufQuota)
	atomic.StoreUint32(&sh.Generation, p.Generation)
	atomic.StoreUint32(&sh.MTU, p.MTU)
	atomic.StoreUint32(&sh.State, p.State)
}

// up brings a port's interface up.
func (k *fakeKernel) up(port uint32) {
	k.ports[port].State |= abi.PortUp
	k.tell(port)
}

func (k *fakeKernel) getPort(from uint32) (getPort, error) {
	k.calls++
	if k.lost {
		return getPort{}, unix.EOWNERDEAD
	}
	if k.short {
		k.short = false
		return getPort{}, unix.ENOMEM
	}
	for ; from < k.portMax; from++ {
		if p := k.ports[from]; p != nil {
			return *p, nil
		}
	}
	return getPort{}, unix.ENOENT
}

func (k *fakeKernel) setPort(s setPort) error {
	p := k.ports[s.Port]
	switch {
	case k.lost:
		return unix.EOWNERDEAD
	case p == nil:
		return unix.ENOENT
	}
	for _, f := range []struct{ to, from *uint32 }{{&p.Flags, &s.Flags}, {&p.NbufQuota, &s.NbufQuota}, {&p.MarkBytes, &s.MarkBytes}} {
		if *f.from != unchanged {
			*f.to = *f.from
		}
	}
	k.tell(s.Port)
	return nil
}

func (k *fakeKernel) delPort(port uint32) error {
	p := k.ports[port]
	switch {
	case k.lost:
		return unix.EOWNERDEAD
	case p == nil:
		return unix.ENOENT
	}
	k.end(port)
	return nil
}

// number is that of a new port, 0: all are in use.
func (k *fakeKernel) number() uint32 {
	id := uint32(0)
	for i := range k.portMax - 1 {
		id = 1 + i
		if k.inTurn {
			id = 1 + (k.last+i)%(k.portMax-1)
		}
		if k.ports[id] == nil {
			k.last = id
			k.gen++
			return id
		}
	}
	return 0
}

func (k *fakeKernel) addLink(l link) error {
	if l.name == "" {
		l.name = "knet0"
	} else if k.taken[l.name] {
		return unix.EEXIST
	}
	if k.inNS[l.name] {
		return unix.EEXIST
	}
	id := k.number()
	if id == 0 {
		return unix.ENOSPC
	}
	k.inNS[l.name] = true
	p := &getPort{Port: id, IfIndex: 100 + id, State: abi.PortPresent, NbufQuota: 1000, MTU: uint32(l.mtu), Generation: k.gen}
	if l.quota != 0 {
		p.NbufQuota = uint32(l.quota)
	}
	if l.whole {
		p.Flags = abi.PortFlagWhole
	}
	copy(p.IfName[:], l.name)
	copy(p.Label[:], l.label)
	k.ports[id] = p
	k.tell(id)
	if k.mute {
		k.mute, k.short = false, true
		return unix.ENOBUFS
	}
	return nil
}

// findLink knows the names of nics, whose index is their place.
func (k *fakeKernel) findLink(name string, index int) (netlink.Link, error) {
	for i, link := range k.nics {
		if link.Attrs().Name == name || name == "" && i+1 == index {
			link.Attrs().Index = i + 1
			return link, nil
		}
	}
	return nil, unix.ENODEV
}

func (k *fakeKernel) addNIC(a addNIC) (uint32, error) {
	link := k.nics[a.IfIndex-1]
	switch {
	case k.lost:
		return 0, unix.EOWNERDEAD
	case link.Type() == "loopback":
		return 0, unix.EINVAL
	case link.Attrs().MasterIndex != 0:
		return 0, unix.EBUSY
	}
	for _, p := range k.ports {
		if p.State&abi.PortNIC != 0 && p.IfIndex == a.IfIndex {
			return 0, unix.EBUSY
		}
	}
	id := k.number()
	if id == 0 {
		return 0, unix.ENOSPC
	}
	p := &getPort{
		Port: id, IfIndex: a.IfIndex, State: abi.PortPresent | abi.PortNIC, Flags: a.Flags, NbufQuota: cmp.Or(a.NbufQuota, 1000),
		MTU: uint32(link.Attrs().MTU), Generation: k.gen, Label: a.Label,
	}
	copy(p.IfName[:], link.Attrs().Name)
	k.ports[id] = p
	k.tell(id)
	return id, nil
}

func (k *fakeKernel) steer(port, op uint32, prefixes []prefix) error {
	switch {
	case k.lost:
		return unix.EOWNERDEAD
	case k.ports[port] == nil:
		return unix.ENOENT
	}
	var next []prefix
	if op != abi.SteerReplace {
		next = slices.Clone(k.steered[port])
	}
	for _, p := range prefixes {
		i := slices.Index(next, p)
		switch {
		case op == abi.SteerRemove && i < 0:
			return unix.ENOENT
		case op == abi.SteerRemove:
			next = slices.Delete(next, i, i+1)
		case i >= 0:
			return unix.EEXIST
		default:
			next = append(next, p)
		}
	}
	k.steered[port] = next
	return nil
}

func (k *fakeKernel) renameLink(_ *os.File, index int, name string) error {
	for _, p := range k.ports {
		if int(p.IfIndex) != index {
			continue
		}
		if k.inNS[name] {
			return unix.EEXIST
		}
		delete(k.inNS, cstring(p.IfName[:]))
		k.inNS[name] = true
		p.IfName = [16]byte{}
		copy(p.IfName[:], name)
		return nil
	}
	return unix.ENODEV
}

func (k *fakeKernel) destroy() error {
	if len(k.ports) > 0 {
		return unix.EBUSY
	}
	k.destroyed = true
	return nil
}

func (k *fakeKernel) close() error {
	k.closed = true
	return nil
}

// end is the end of a port, by its network namespace's end for one.
func (k *fakeKernel) end(port uint32) {
	delete(k.inNS, cstring(k.ports[port].IfName[:]))
	delete(k.ports, port)
	k.tell(port)
}

// newArea makes an area in a memory file.
func newArea(t testing.TB, lanes, portMax uint32) (fd int, hdr abi.AreaHeader) {
	t.Helper()
	hdr, err := abi.Layout(abi.Geometry{Lanes: lanes, NbufCount: 64, PortMax: portMax, Device: abi.DevKernel, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if fd, err = unix.MemfdCreate("area", unix.MFD_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Ftruncate(fd, int64(hdr.AreaSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, (*[unsafe.Sizeof(hdr)]byte)(unsafe.Pointer(&hdr))[:], 0); err != nil {
		t.Fatal(err)
	}
	return fd, hdr
}

// newFake is a device whose memory and ports are k's, and whose lanes have the
// descriptors that open makes.
func newFake(t testing.TB, k *fakeKernel, open func() int) *Device {
	t.Helper()
	d := &Device{kernel: k}
	var err error
	if d.mem, err = mapArea(k.fd, k.hdr.AreaSize); err != nil {
		t.Fatal(err)
	}
	if d.area, err = abi.OpenArea(d.mem.bytes()); err != nil {
		t.Fatal(err)
	}
	for id := range int(k.hdr.Lanes) {
		l, err := newLane(id, open())
		if err != nil {
			t.Fatal(err)
		}
		l.work(d.area)
		d.lanes = append(d.lanes, l)
	}
	if err := d.refresh(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func eventfd() int {
	fd, _ := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return fd
}
