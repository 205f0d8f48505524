// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

// fakeTUN is the far end of a socket pair that stands for a TUN: one message is
// one packet with its virtio-net header, as in a TUN. Tests with it need no
// privileges, and say what the kernel would.
type fakeTUN struct {
	t  testing.TB
	fd int
	id uint32
}

// addFake gives the device a port whose TUN is a fake one.
func addFake(t testing.TB, d *Device, c device.PortConfig) *fakeTUN {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
	}
	d.ctl.Lock()
	defer d.ctl.Unlock()
	id, err := d.freeNumber()
	if err != nil {
		t.Fatal(err)
	}
	if c.Quota == 0 {
		c.Quota = len(d.st.nbufs)
	}
	d.reserve(id, c)
	d.st.ports[id].phase = phasePresent
	if err := d.start(id, knet{fd: pair[0], uso: true}); err != nil {
		t.Fatal(err)
	}
	f := &fakeTUN{t, pair[1], id}
	t.Cleanup(func() { unix.Close(f.fd) })
	return f
}

// push lets the TUN have a packet to be read.
func (f *fakeTUN) push(v vnetHdr, b []byte) {
	f.t.Helper()
	hdr := (*[vnetLen]byte)(unsafe.Pointer(&v))[:]
	if _, err := unix.Write(f.fd, append(hdr[:vnetLen:vnetLen], b...)); err != nil {
		f.t.Fatal(err)
	}
}

// pull is the next packet that was written to the TUN; nil if there is none.
func (f *fakeTUN) pull() (vnetHdr, []byte) {
	f.t.Helper()
	buf := make([]byte, 1<<17)
	n, err := unix.Read(f.fd, buf)
	if err == unix.EAGAIN {
		return vnetHdr{}, nil
	}
	if err != nil || n < vnetLen {
		f.t.Fatalf("read %d bytes: %v", n, err)
	}
	return *(*vnetHdr)(unsafe.Pointer(&buf[0])), buf[vnetLen:n]
}

func testDevice(t testing.TB, c Config) *Device {
	t.Helper()
	d, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// driver is the process's side of a lane.
type driver struct {
	t    testing.TB
	d    *Device
	lane int
	in   ring.Reader
	out  ring.Writer
	ents [1024]uint32
}

func drive(t testing.TB, d *Device, lane int) *driver {
	a, h := d.Area(), d.Area().Header()
	return &driver{
		t: t, d: d, lane: lane,
		in:  ring.NewReader(a.InQ(lane), h.InqOrder, &a.PLane(lane).InqHead, a.DLane(lane).InqStart),
		out: ring.NewWriter(a.OutQ(lane), h.OutqOrder, &a.DLane(lane).OutqHead, &a.PLane(lane).OutqTail, a.DLane(lane).OutqStart),
	}
}

// turn publishes entries, kicks and returns what is on the InQ but for port events.
func (w *driver) turn(ents ...uint32) []uint32 {
	w.t.Helper()
	if n := w.out.Publish(ents); n != len(ents) {
		w.t.Fatalf("OutQ took %d of %d entries", n, len(ents))
	}
	if err := w.d.Kick(w.lane); err != nil {
		w.t.Fatal(err)
	}
	n := w.in.Take(w.ents[:])
	w.in.Release()
	got := w.ents[:0]
	for _, e := range w.ents[:n] {
		if abi.Action(e) != abi.InPort {
			got = append(got, e)
		}
	}
	return got
}

// invariants checks the private state against the free lists and charges: each
// nbuf and each slot in exactly one place.
func invariants(t testing.TB, d *Device) {
	t.Helper()
	nbufs, slots := make([]int, len(d.st.nbufs)), make([]int, d.st.nslot)
	held, parked, bytes := map[uint32]int32{}, map[uint32]int32{}, map[uint32]int32{}
	for i := range d.st.nbufs {
		rec := &d.st.nbufs[i]
		switch rec.owner {
		case ownDevice:
			continue
		case ownProcess:
		default:
			t.Fatalf("nbuf %d has owner %d between Kicks", i, rec.owner)
		}
		nbufs[i]++
		held[rec.iport]++
		if rec.slot != 0 {
			slots[rec.slot-1]++
			parked[rec.iport]++
			bytes[rec.iport] += int32(rec.parked)
		}
	}
	count := func(list []int, p *pool, shared bool) {
		for _, i := range p.idx {
			list[i]++
		}
		if p.shared != nil && shared {
			for _, i := range p.shared.idx {
				list[i]++
			}
		}
	}
	for i, l := range d.lanes {
		count(nbufs, &l.nbufs, i == 0)
		count(slots, &l.slots, i == 0)
	}
	for i, n := range nbufs {
		if n != 1 {
			t.Fatalf("nbuf %d is in %d places", i, n)
		}
	}
	for i, n := range slots {
		if n != 1 {
			t.Fatalf("slot %d is in %d places", i, n)
		}
	}
	for id := range d.ports {
		p := d.ports[id].Load()
		if p == nil {
			continue
		}
		if p.held != held[p.id] || p.parked != parked[p.id] || p.bytes != bytes[p.id] {
			t.Fatalf("port %d is charged %d nbufs, %d slots, %d bytes; it has %d, %d, %d",
				id, p.held, p.parked, p.bytes, held[p.id], parked[p.id], bytes[p.id])
		}
		if p.qPkts != 0 || p.qBytes != 0 {
			t.Fatalf("port %d has %d packets, %d bytes queued between Kicks", id, p.qPkts, p.qBytes)
		}
	}
}

func rawWrite2(fd int, b []byte) bool {
	n, errno := rawWrite(fd, unsafe.Pointer(&b[0]), uintptr(len(b)))
	return errno == 0 && n == len(b)
}

func rawRead2(fd int, b []byte) int {
	iov := iovec{unsafe.Pointer(&b[0]), uintptr(len(b))}
	n, errno := rawReadv(fd, &iov, 1)
	if errno != 0 {
		return 0
	}
	return n
}
