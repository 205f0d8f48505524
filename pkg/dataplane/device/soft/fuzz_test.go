// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// FuzzOutQ works a device with entries and nbuf headers of any content. The input is
// a list of instructions of 8 bytes: write into a header, publish an entry, push a
// packet, kick. No nbuf or slot may get lost or be in two places.
func FuzzOutQ(f *testing.F) {
	op := func(kind byte, rest ...byte) []byte {
		return append([]byte{kind}, append(rest, make([]byte, 7-len(rest))...)...)
	}
	entry := func(action, param uint32) []byte {
		b := op(1)
		binary.LittleEndian.PutUint32(b[4:], abi.Entry(action, param))
		return b
	}
	cat := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	f.Add(cat(entry(abi.OutWant, 4), op(3), entry(abi.OutTX, 0), entry(abi.OutTX, 0), op(3)))
	f.Add(cat(op(2, 0, 0, 40), op(2, 0, 0, 250), op(3), entry(abi.OutFetch, 1), entry(abi.OutClone, 0), op(3), entry(abi.OutFree, 1), op(3)))
	f.Add(cat(op(2, 1, 0, 100), op(3), entry(abi.OutTX|0x40, 0), entry(abi.OutTX|0x40, 1), op(3), entry(abi.OutTX, 2), op(3)))
	f.Add(cat(entry(abi.OutWant, 64), op(3), op(0, 3, 4, 1), op(0, 3, 7, 5), entry(abi.OutTX, 3), op(3)))
	f.Fuzz(func(t *testing.T, prog []byte) {
		d, err := New(Config{Nbufs: 64, Ports: 8, ParkedSlots: 16}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		a, b := addFake(t, d, device.PortConfig{Quota: 50}), addFake(t, d, device.PortConfig{Quota: 50, Whole: true})
		w := drive(t, d, 0)
		kick := func() {
			w.turn()
			invariants(t, d)
			for _, f := range []*fakeTUN{a, b} {
				for {
					if _, b := f.pull(); b == nil {
						break
					}
				}
			}
		}
		for ; len(prog) >= 8; prog = prog[8:] {
			switch prog[0] % 4 {
			case 0: // nbuf, 16-bit word of its header, value
				idx, word := uint32(prog[1])%64, uint32(prog[2])%32
				binary.NativeEndian.PutUint16(d.area.NbufBytes(idx)[2*word:], binary.LittleEndian.Uint16(prog[3:]))
			case 1:
				if w.out.Free() > 0 {
					w.out.Publish([]uint32{binary.LittleEndian.Uint32(prog[4:])})
				}
			case 2:
				to := []*fakeTUN{a, b}[prog[1]%2]
				v := vnetHdr{flags: prog[4], gsoType: prog[5], hdrLen: uint16(prog[6]), gsoSize: uint16(prog[7]), csumStart: uint16(prog[2])}
				hdr := (*[vnetLen]byte)(unsafe.Pointer(&v))[:]
				rawWrite2(to.fd, append(hdr[:vnetLen:vnetLen], make([]byte, 1+256*int(prog[3]))...)) // until it is full
			case 3:
				kick()
			}
		}
		kick()
		reclaimAll(t, d, w)
	})
}

// reclaimAll gives every nbuf back, whoever has it, and checks that they are all there.
func reclaimAll(t *testing.T, d *Device, w *driver) {
	t.Helper()
	w.turn(abi.Entry(abi.OutFree, 0)) // ends a chain
	for i := range d.st.nbufs {
		if d.st.nbufs[i].owner == ownProcess {
			w.turn(abi.Entry(abi.OutFree, uint32(i)))
		}
	}
	for i := range d.st.nbufs { // and once more for packets that came meanwhile
		if d.st.nbufs[i].owner == ownProcess {
			w.turn(abi.Entry(abi.OutFree, uint32(i)))
		}
	}
	invariants(t, d)
}

// FuzzRecover takes an instance over whose private and shared memory hold anything
// behind a valid header. The new owner must have a consistent device that works.
func FuzzRecover(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 200, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0}, []byte{0, 0, 0, 0x81, 1, 0, 0, 0x81})
	f.Fuzz(func(t *testing.T, private, shared []byte) {
		c := Config{Lanes: 2, Nbufs: 64, Ports: 8, ParkedSlots: 8}
		mem, err := newMemory(c)
		if err != nil {
			t.Fatal(err)
		}
		st, err := initState(mem.state, c)
		if err != nil {
			t.Fatal(err)
		}
		// Private: nbufs, then lanes, then ports, as long as there are bytes.
		take := func(dst []byte, src *[]byte) {
			n := copy(dst, *src)
			*src = (*src)[n:]
		}
		take(bytesOf(&st.nbufs[0], len(st.nbufs)), &private)
		take(bytesOf(&st.lanes[0], len(st.lanes)), &private)
		take(bytesOf(&st.hdr.top, 1), &private)
		take(bytesOf(&st.ports[0], len(st.ports)), &private)
		// Shared: rings of both directions, then all else.
		hdr, err := c.layout()
		if err != nil {
			t.Fatal(err)
		}
		take(mem.area[hdr.OutqOff:], &shared)
		for i, b := range shared {
			mem.area[(i*37+int(hdr.DLaneOff))%len(mem.area)] = b
		}
		event, err := newOwnerEvent()
		if err != nil {
			t.Fatal(err)
		}
		owner, err := own(int(mem.stateFile.Fd()), event)
		if err != nil {
			t.Fatal(err)
		}
		for i := range st.ports {
			// No interface of the machine is to be touched.
			if st.ports[i].phase == phasePresent {
				st.ports[i].phase = phaseRemoving
			}
		}
		unix.Munmap(mem.area) // as takeOver maps them
		unix.Munmap(mem.state)
		d, err := takeOver(mem, owner, nil, noKeeper{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		invariants(t, d)
		used := map[uint32]bool{}
		for lane := range 2 {
			w := drive(t, d, lane)
			for _, e := range w.turn() {
				switch abi.Action(e) {
				case abi.InRX:
					if idx := abi.Param(e); used[idx] || d.st.nbufs[idx].owner != ownProcess {
						t.Fatalf("nbuf %d is offered twice or not to be had", idx)
					} else {
						used[idx] = true
					}
				case abi.InDrops, abi.InQoS:
				default:
					t.Fatalf("entry %#x for the new owner", e)
				}
			}
		}
		for i := range d.st.nbufs {
			if d.st.nbufs[i].owner == ownProcess && !used[uint32(i)] {
				t.Fatalf("nbuf %d is with the process, which does not know", i)
			}
		}
		// It works.
		a := addFake(t, d, device.PortConfig{Quota: 50})
		for range 5 {
			a.push(vnetHdr{}, []byte{0x45})
		}
		for lane := range 2 {
			if err := d.Kick(lane); err != nil {
				t.Fatal(err)
			}
		}
		invariants(t, d)
	})
}

func bytesOf[T any](p *T, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), n*int(unsafe.Sizeof(*p)))
}

// FuzzVnet reads packets with any virtio-net header, which must become nbufs that
// the device itself would accept, and come out with the same header.
func FuzzVnet(f *testing.F) {
	f.Add(uint8(1), uint8(1), uint16(54), uint16(1448), uint16(20), uint16(16), uint16(5000))
	f.Add(uint8(2), uint8(0), uint16(0), uint16(0), uint16(0), uint16(0), uint16(1))
	f.Add(uint8(255), uint8(255), uint16(65535), uint16(65535), uint16(65535), uint16(65535), uint16(100))
	f.Fuzz(func(t *testing.T, flags, gso uint8, hdrLen, gsoSize, start, offset, n uint16) {
		d, err := New(Config{Nbufs: 64, Ports: 4, ParkedSlots: 8}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		p := addFake(t, d, device.PortConfig{})
		w := drive(t, d, 0)
		v := vnetHdr{flags, gso, hdrLen, gsoSize, start, offset}
		b := make([]byte, max(n, 1))
		b[0] = 0x45
		p.push(v, b)
		got := append([]uint32(nil), w.turn()...)
		if len(got) != 1 || abi.Action(got[0]) != abi.InRX {
			t.Fatalf("entries %#x", got)
		}
		idx := abi.Param(got[0])
		nb := d.area.Nbuf(idx)
		if !knownGSO(nb.GSOType) || nb.HdrLen > nb.Len {
			t.Errorf("header %+v of %+v", *nb, v)
		}
		nb.EPort = p.id
		w.turn(abi.Entry(abi.OutTX, idx))
		out, data := p.pull()
		if bad := d.area.DLane(0).BadEntry; (bad != 0) != (data == nil) || bad != 0 && v.valid(uint32(nb.Len)) {
			t.Errorf("%+v with %d bytes: %d bad entries, %d bytes out", v, len(b), bad, len(data))
		}
		if data != nil && (len(data) != len(b) || v.valid(uint32(nb.Len)) && out != (vnetHdr{flags & 3, gso, hdrLen, gsoSize, start, offset})) {
			t.Errorf("%+v became %+v", v, out)
		}
		invariants(t, d)
	})
}
