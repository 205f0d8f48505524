// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

// memDevice is a device whose other side is the test: it injects packets and
// looks at what comes back. Its ports are numbers.
type memDevice struct {
	tb   testing.TB
	area *abi.Area
	in   ring.Writer // device side
	out  ring.Reader
	free []uint32
	sent []memPacket // taken from the OutQ by the last service
	keep bool        // record the packets' bytes in sent
	wake chan struct{}

	mu    sync.Mutex
	ports map[string]device.PortInfo
	next  device.PortID

	batch, ents []uint32
	stat        struct{ tx, freed, bad int }
}

type memPacket struct {
	port uint32
	data []byte // all bytes in nbufs
	nb   abi.Nbuf
}

func newMemDevice(tb testing.TB, nbufs uint32) *memDevice {
	tb.Helper()
	h, err := abi.Layout(abi.Geometry{Lanes: 1, NbufCount: nbufs, PortMax: 1024, Device: abi.DevSoft, Features: abi.FeatSelfService | abi.FeatPark})
	if err != nil {
		tb.Fatal(err)
	}
	mem, err := unix.Mmap(-1, 0, int(h.AreaSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		tb.Fatal(err)
	}
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	tb.Cleanup(func() { _ = unix.Munmap(mem) })
	*(*abi.AreaHeader)(unsafe.Pointer(&mem[0])) = h
	area, err := abi.OpenArea(mem)
	if err != nil {
		tb.Fatal(err)
	}
	dl, pl := area.DLane(0), area.PLane(0)
	d := &memDevice{
		tb: tb, area: area, keep: true, wake: make(chan struct{}, 1), ports: map[string]device.PortInfo{}, next: 1,
		in:    ring.NewWriter(area.InQ(0), h.InqOrder, &pl.InqHead, &dl.InqTail, 0),
		out:   ring.NewReader(area.OutQ(0), h.OutqOrder, &dl.OutqHead, 0),
		batch: make([]uint32, 0, nbufs), ents: make([]uint32, nbufs+abi.EventSlots),
	}
	for i := range nbufs {
		d.free = append(d.free, nbufs-1-i)
	}
	return d
}

// inject puts a packet on the InQ, cut into nbufs of room bytes; tune sets
// what else its first nbuf says.
func (d *memDevice) inject(port uint32, data []byte, room int, tune func(*abi.Nbuf)) {
	d.tb.Helper()
	var ents []uint32
	total := len(data)
	for first := true; first || len(data) > 0; first = false {
		if len(d.free) == 0 {
			d.tb.Fatal("no free nbuf")
		}
		i := d.free[len(d.free)-1]
		d.free = d.free[:len(d.free)-1]
		n := copy(d.area.NbufBytes(i)[abi.NbufData:abi.NbufData+min(room, abi.NbufRoom)], data)
		data = data[n:]
		nb := abi.Nbuf{IPort: port, Off: abi.NbufData, Len: uint16(n), Total: uint32(total)}
		if first && tune != nil {
			tune(&nb)
		}
		*d.area.Nbuf(i) = nb
		e := abi.Entry(abi.InRX, i)
		if len(data) > 0 {
			e |= abi.EntMore
		}
		ents = append(ents, e)
	}
	if n := d.in.Publish(ents); n != len(ents) {
		d.tb.Fatal("InQ full")
	}
}

// serve takes what is on the OutQ.
func (d *memDevice) serve() {
	for {
		n := d.out.Take(d.ents)
		if n == 0 {
			break
		}
		d.batch = d.batch[:0]
		var cur *memPacket
		for _, e := range d.ents[:n] {
			v := abi.Param(e)
			switch abi.Action(e) {
			case abi.OutTX:
				d.stat.tx++
				if d.keep {
					nb := *d.area.Nbuf(v)
					if cur == nil {
						d.sent = append(d.sent, memPacket{port: nb.EPort, nb: nb})
						cur = &d.sent[len(d.sent)-1]
					}
					cur.data = append(cur.data, d.area.NbufBytes(v)[nb.Off:nb.Off+nb.Len]...)
					if e&abi.EntMore == 0 {
						cur = nil
					}
				}
				d.free = append(d.free, v)
			case abi.OutFree:
				d.stat.freed++
				d.free = append(d.free, v)
			case abi.OutWant:
				for range v {
					if len(d.free) < 64 {
						d.batch = append(d.batch, abi.Entry(abi.InDenied, 1))
						continue
					}
					i := d.free[len(d.free)-1]
					d.free = d.free[:len(d.free)-1]
					d.batch = append(d.batch, abi.Entry(abi.InGrant, i))
				}
			default:
				d.stat.bad++
			}
		}
		d.out.Release()
		d.in.Publish(d.batch)
	}
}

func (d *memDevice) Area() *abi.Area { return d.area }
func (d *memDevice) Kick(int) error  { d.serve(); return nil }

func (d *memDevice) Wait(_ int, t time.Duration) error {
	select {
	case <-d.wake:
	case <-time.After(t):
	}
	return nil
}

func (d *memDevice) Wake(int) error {
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

func (d *memDevice) AddPort(c device.PortConfig) (device.PortInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.NetNS == "missing" {
		return device.PortInfo{}, fmt.Errorf("network namespace %s: %w", c.NetNS, unix.ENOENT)
	}
	if _, ok := d.ports[c.Name]; ok {
		return device.PortInfo{}, device.ErrPortExists
	}
	p := device.PortInfo{ID: d.next, PortConfig: c, IfIndex: int(d.next), Up: true}
	d.next++
	d.ports[c.Name] = p
	return p, nil
}

func (d *memDevice) RemovePort(id device.PortID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, p := range d.ports {
		if p.ID == id {
			delete(d.ports, name)
			return nil
		}
	}
	return device.ErrNoPort
}

func (d *memDevice) SetPort(device.PortID, device.PortUpdate) error { return nil }

func (d *memDevice) Ports() ([]device.PortInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []device.PortInfo
	for _, p := range d.ports {
		list = append(list, p)
	}
	return list, nil
}

func (d *memDevice) Close() error { return nil }

// checkNoLeak verifies that every nbuf is free or in the worker's stock.
func (d *memDevice) checkNoLeak(w *Worker) {
	d.tb.Helper()
	seen := map[uint32]bool{}
	for _, i := range append(append([]uint32{}, d.free...), w.stock...) {
		if seen[i] {
			d.tb.Errorf("nbuf %d is free twice", i)
		}
		seen[i] = true
	}
	if len(seen) != int(d.area.NbufCount()) {
		d.tb.Errorf("%d nbufs of %d are accounted for", len(seen), d.area.NbufCount())
	}
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
