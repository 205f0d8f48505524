// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

func testReceive(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{MTU: 9000})
	c := p.udp(p.v4, 1000)
	other := p.v4.Next()
	stamp := uint64(0)
	for _, n := range []int{0, 1, 64, 1000, abi.NbufFill - 29, abi.NbufFill - 28, abi.NbufFill - 27, 4000, 8972} {
		want := pattern(n, byte(n))
		send(t, c, other, 2000, want)
		got := w.next(abi.InRX)
		hd, idx := got.head, got.nbufs[0]
		total := uint32(n + 28)
		if hd.IPort != p.id() || hd.EPort != 0 || hd.Off != abi.NbufData || hd.Total != total || int(hd.Len) > abi.NbufFill ||
			uint32(hd.Len) < min(total, abi.ParkCopyUDP) || hd.GSOType != 0 || hd.Mark != 0 || len(got.nbufs) != 1 {
			t.Errorf("%d bytes: header %+v", n, hd)
		}
		if parked := hd.Flags&abi.NbParked != 0; parked != (uint32(hd.Len) < total) {
			t.Errorf("%d bytes: parked %v with %d of %d bytes in the nbuf", n, parked, hd.Len, total)
		}
		if hd.Flags&abi.NbCsumPartial != 0 && (hd.CsumStart != 20 || hd.CsumOffset != 6) {
			t.Errorf("%d bytes: checksum from %d at %d, want 20 and 6", n, hd.CsumStart, hd.CsumOffset)
		}
		if hd.Tstamp <= stamp {
			t.Errorf("%d bytes: time stamp %d after %d", n, hd.Tstamp, stamp)
		}
		stamp = hd.Tstamp - 1 // of the batch: two may be equal
		data := w.data(got)
		if len(data) < 28 || data[0] != 0x45 || binary.BigEndian.Uint16(data[20:]) != 1000 || !bytes.HasPrefix(want, data[28:]) {
			t.Errorf("%d bytes: packet % x", n, data[:min(len(data), 40)])
		}
		w.put(abi.Entry(abi.OutFree, idx))
	}
	w.settle()
}

func testTransmit(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{})
	c := p.udp(p.v4, 2000)
	for _, n := range []int{0, 1, 64, 1400, 1472} {
		for _, partial := range []bool{false, true} {
			for _, off := range []uint16{abi.NbufData, abi.NbufHdr + 40, abi.NbufHdr + 12, abi.NbufHdr + 3, abi.NbufHdr} {
				want := pattern(n, byte(off))
				idx := w.grant(1)[0]
				nb := w.area.Nbuf(idx)
				if *nb != (abi.Nbuf{Off: abi.NbufData, Scratch: nb.Scratch}) {
					t.Errorf("a granted nbuf has the header %+v", *nb)
				}
				b := udpPacket(p.v4.Next(), p.v4, 1, 2000, want, partial)
				w.fill(idx, p.id(), b)
				nb.Off = off
				copy(w.area.NbufBytes(idx)[off:], b)
				if partial {
					setPartial(nb)
				}
				w.put(abi.Entry(abi.OutTX, idx))
				w.turn()
				if got := receive(t, c); !bytes.Equal(got, want) {
					t.Errorf("%d bytes at %d: % x arrived", n, off, got)
				}
			}
		}
	}
	if d := w.area.DLane(0); d.TxPackets != 50 || d.TxDrop != 0 || d.BadEntry != 0 {
		t.Errorf("counters %+v", *d)
	}
	w.settle()
}

func testWant(t *testing.T, h Harness) {
	dev := open(t, h, Config{Nbufs: 100})
	w := newWorker(t, dev, 0)
	count := int(w.area.NbufCount())
	w.grant(10)
	w.put(abi.Entry(abi.OutWant, uint32(count)), abi.Entry(abi.OutWant, 5), abi.Entry(abi.OutWant, 0))
	denied := uint32(0)
	w.await("all grants", func() bool { denied += w.sum(abi.InDenied); return len(w.got) == count-10 && denied == 15 })
	w.put(abi.Entry(abi.OutFree, w.got[0].nbufs[0]), abi.Entry(abi.OutWant, 1))
	w.got = w.got[1:]
	w.await("grant of what was freed", func() bool { return len(w.got) == count-10 })
	for i := range count {
		w.put(abi.Entry(abi.OutFree, uint32(i)))
	}
	w.got = nil
	w.settle()
	if w.bad() != 0 {
		t.Errorf("%d bad entries", w.bad())
	}
}

// bigDatagram sends a datagram that does not fit into an nbuf and takes it.
func bigDatagram(t *testing.T, w *worker, p *pod, payload []byte) packet {
	t.Helper()
	send(t, p.udp(p.v4, 0), p.v4.Next(), 2000, payload)
	return w.next(abi.InRX)
}

func testFetch(t *testing.T, h Harness) {
	dev := open(t, h, Config{Nbufs: 64})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{MTU: 9000})
	want := pattern(8000, 5)

	rx := bigDatagram(t, w, p, want)
	if rx.head.Flags&abi.NbParked == 0 {
		t.Fatalf("%d bytes were not parked: %+v", len(want), rx.head)
	}
	// The headers may have been rewritten, and pushed, before the rest is asked for.
	idx := rx.nbufs[0]
	nb := w.area.Nbuf(idx)
	nb.Off -= 20
	nb.Len += 20
	nb.Total += 20
	copy(w.area.NbufBytes(idx)[nb.Off:], "an outer header of 20")
	w.put(abi.Entry(abi.OutFetch, idx))
	f := w.next(abi.InFetched)
	data := w.data(f)
	if f.nbufs[0] != idx || f.head.Flags&abi.NbParked != 0 || int(f.head.Total) != len(data) {
		t.Errorf("fetched %+v in %d nbufs with %d bytes", f.head, len(f.nbufs), len(data))
	}
	if !bytes.Equal(data[48:], want) || string(data[:19]) != "an outer header of "[:19] {
		t.Error("the fetched packet differs")
	}
	w.free(f)

	// Nothing parked: it comes back at once.
	idx = w.grant(1)[0]
	w.fill(idx, 0, []byte("x"))
	w.put(abi.Entry(abi.OutFetch, idx))
	if f := w.next(abi.InFetched); len(f.nbufs) != 1 || f.nbufs[0] != idx {
		t.Errorf("fetched %v", f.nbufs)
	}
	w.put(abi.Entry(abi.OutFree, idx))

	// Too few nbufs: it stays parked, and can be fetched later.
	rx = bigDatagram(t, w, p, want)
	idx = rx.nbufs[0]
	held := w.grant(int(w.area.NbufCount()) - 3)
	w.put(abi.Entry(abi.OutFetch, idx))
	if f := w.next(abi.InFetched); len(f.nbufs) != 1 || f.head.Flags&abi.NbParked == 0 {
		t.Errorf("fetched %v with %+v although nbufs were short", f.nbufs, f.head)
	}
	for _, i := range held {
		w.put(abi.Entry(abi.OutFree, i))
	}
	w.put(abi.Entry(abi.OutFetch, idx))
	f = w.next(abi.InFetched)
	if !bytes.Equal(w.data(f)[28:], want) {
		t.Error("the packet that was fetched later differs")
	}
	w.free(f)
	if w.bad() != 0 {
		t.Errorf("%d bad entries", w.bad())
	}
	w.settle()
}

func testClone(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	src := newPod(t, dev, 1, device.PortConfig{MTU: 9000})
	a, b := newPod(t, dev, 2, device.PortConfig{MTU: 9000}), newPod(t, dev, 3, device.PortConfig{MTU: 9000})
	for _, n := range []int{100, 8000} {
		want := pattern(n, 1)
		to := a.udp(a.v4, 2000)
		send(t, src.udp(src.v4, 0), a.v4, 2000, want)
		rx := w.next(abi.InRX)
		idx := rx.nbufs[0]
		nb := w.area.Nbuf(idx)
		for range 3 {
			nb.EPort = a.id()
			w.put(abi.Entry(abi.OutClone, idx))
			w.turn()
			if head := w.area.DLane(0).OutqHead; head != w.out.Pos() {
				t.Fatalf("CLONE was not serviced: head %d, want %d", head, w.out.Pos())
			}
			if got := receive(t, to); !bytes.Equal(got, want) {
				t.Errorf("a clone of %d bytes differs", n)
			}
		}
		// In one batch with the TX of the same nbuf.
		w.put(abi.Entry(abi.OutClone, idx), abi.Entry(abi.OutTX, idx))
		w.turn()
		for range 2 {
			if got := receive(t, to); !bytes.Equal(got, want) {
				t.Errorf("clone and packet of %d bytes differ", n)
			}
		}
		to.Close()
	}
	_ = b
	w.settle()
	if w.bad() != 0 {
		t.Errorf("%d bad entries", w.bad())
	}
}

func testWrap(t *testing.T, h Harness) { wrap(t, open(t, h, Config{Nbufs: 64})) }

// testPositionWrap passes the wrap of the 32-bit positions themselves.
func testPositionWrap(t *testing.T, h Harness) {
	dev := open(t, h, Config{Nbufs: 64, Start: ^uint32(0) - 500})
	if dev.Area().DLane(0).InqStart < 1<<31 {
		t.Skip("the device does not let positions be chosen")
	}
	wrap(t, dev)
	if pos := newWorker(t, dev, 0).area.DLane(0).InqTail; pos > 1<<31 {
		t.Errorf("position %d has not wrapped", pos)
	}
}

// wrap passes several times as many packets as rings have slots, each with its
// number in it.
func wrap(t *testing.T, dev device.Device) {
	w := newWorker(t, dev, 0)
	src, dst := newPod(t, dev, 1, device.PortConfig{}), newPod(t, dev, 2, device.PortConfig{})
	from, to := src.udp(src.v4, 0), dst.udp(dst.v4, 2000)
	total := 5 << w.area.Header().InqOrder
	const burst = 32
	for n := 0; n < total; n += burst {
		for i := range burst {
			send(t, from, dst.v4, 2000, fmt.Append(nil, "packet ", n+i))
		}
		for i := range burst {
			rx := w.next(abi.InRX)
			if got, want := string(w.data(rx)[28:]), fmt.Sprint("packet ", n+i); got != want {
				t.Fatalf("received %q, want %q", got, want)
			}
			w.area.Nbuf(rx.nbufs[0]).EPort = dst.id()
			w.put(abi.Entry(abi.OutTX, rx.nbufs[0]))
		}
		w.turn()
		for i := range burst {
			if got, want := string(receive(t, to)), fmt.Sprint("packet ", n+i); got != want {
				t.Fatalf("sent %q, want %q", got, want)
			}
		}
	}
	if d := w.area.DLane(0); d.RxPackets != uint64(total) || d.TxPackets != uint64(total) || d.BadEntry != 0 {
		t.Errorf("%d packets, counters %+v", total, *d)
	}
	w.settle()
}
