// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"bytes"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

func testReceiveChains(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{MTU: 65535, Whole: true})
	c := p.udp(p.v4, 0)
	for _, n := range []int{1, 1000, abi.NbufFill - 28, abi.NbufFill - 27, 2 * abi.NbufFill, 9000, 65507} {
		want := pattern(n, byte(n))
		send(t, c, p.v4.Next(), 2000, want)
		rx := w.next(abi.InRX)
		data := w.data(rx)
		if rx.head.Flags&abi.NbParked != 0 || int(rx.head.Total) != n+28 || rx.head.Len > abi.NbufFill || len(data) != n+28 {
			t.Errorf("%d bytes: %d of them in %d nbufs, header %+v", n, len(data), len(rx.nbufs), rx.head)
		} else if !bytes.Equal(data[28:], want) {
			t.Errorf("%d bytes differ", n)
		}
		w.free(rx)
	}
	// The flag can be changed while the port is in use.
	for _, whole := range []bool{false, true, false} {
		if err := dev.SetPort(p.port.ID, device.PortUpdate{Whole: &whole}); err != nil {
			t.Fatal(err)
		}
		send(t, c, p.v4.Next(), 2000, pattern(9000, 1))
		rx := w.next(abi.InRX)
		if parked := rx.head.Flags&abi.NbParked != 0; parked == whole {
			t.Errorf("whole %v: parked %v", whole, parked)
		}
		w.free(rx)
	}
	w.settle()
}

// cut puts a packet into granted nbufs, in pieces of the given lengths.
func (w *worker) cut(eport uint32, b []byte, lens ...int) []uint32 {
	w.t.Helper()
	nbufs := w.grant(len(lens))
	total := len(b)
	for i, n := range lens {
		nb := w.area.Nbuf(nbufs[i])
		copy(w.area.NbufBytes(nbufs[i])[abi.NbufData:], b[:n])
		nb.Len = uint16(n)
		b = b[n:]
	}
	nb := w.area.Nbuf(nbufs[0])
	nb.Total, nb.EPort = uint32(total), eport
	return nbufs
}

func testTransmitChains(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{MTU: 65535})
	c := p.udp(p.v4, 2000)
	for _, lens := range [][]int{
		{28, 1}, {100, 200, 300}, {abi.NbufRoom, abi.NbufRoom, 5}, {1000, 1, abi.NbufRoom, 1, 700},
		{500, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20},
	} {
		total := 0
		for _, n := range lens {
			total += n
		}
		want := pattern(total-28, byte(len(lens)))
		nbufs := w.cut(p.id(), udpPacket(p.v4.Next(), p.v4, 1, 2000, want, false), lens...)
		// The rest of a chain may come later; nothing is sent until then.
		ents := chain(abi.OutTX, nbufs...)
		w.put(ents[:1]...)
		w.turn()
		if n := w.area.DLane(0).TxPackets; len(ents) > 1 && w.area.DLane(0).OutqHead == w.out.Pos() {
			t.Errorf("half a chain was taken, %d packets sent", n)
		}
		w.put(ents[1:]...)
		w.turn()
		if got := receive(t, c); !bytes.Equal(got, want) {
			t.Errorf("a chain of %v arrived as %d bytes", lens, len(got))
		}
	}
	if w.bad() != 0 {
		t.Errorf("%d bad entries", w.bad())
	}
	w.settle()
}

func testBadChains(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{MTU: 65535})
	c := p.udp(p.v4, 2000)
	b := udpPacket(p.v4.Next(), p.v4, 1, 2000, pattern(272, 1), false)
	for _, tc := range []struct {
		name string
		make func() []uint32
	}{
		{"an nbuf twice", func() []uint32 {
			n := w.cut(p.id(), b, 100, 200)
			return chain(abi.OutTX, n[0], n[1], n[0])
		}},
		{"an index beyond the last", func() []uint32 {
			n := w.cut(p.id(), b, 100, 200)
			return chain(abi.OutTX, n[0], 0xffffff, n[1])
		}},
		{"a foreign nbuf", func() []uint32 {
			n := w.cut(p.id(), b, 100, 100, 100)
			w.put(abi.Entry(abi.OutFree, n[1]))
			return chain(abi.OutTX, n...)
		}},
		{"broken off by another action", func() []uint32 {
			n := w.cut(p.id(), b, 100, 200)
			return append(chain(abi.OutTX, n...)[:1], abi.Entry(abi.OutFree, n[1]))
		}},
		{"a total that is not the sum", func() []uint32 {
			n := w.cut(p.id(), b, 100, 200)
			w.area.Nbuf(n[0]).Total++
			return chain(abi.OutTX, n...)
		}},
		{"an empty nbuf", func() []uint32 {
			n := w.cut(p.id(), b, 300, 0)
			return chain(abi.OutTX, n...)
		}},
		{"an nbuf that reaches beyond its end", func() []uint32 {
			n := w.cut(p.id(), b, 100, 200)
			w.area.Nbuf(n[1]).Off = abi.NbufSize - 10
			return chain(abi.OutTX, n...)
		}},
		{"more nbufs than a packet can have", func() []uint32 {
			lens := make([]int, 200)
			for i := range lens {
				lens[i] = 1
			}
			lens[0] = 101
			return chain(abi.OutTX, w.cut(p.id(), b, lens...)...)
		}},
		{"headers reach beyond the first nbuf", func() []uint32 {
			n := w.cut(p.id(), b, 22, 278)
			setPartial(w.area.Nbuf(n[0]))
			return chain(abi.OutTX, n...)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := w.bad()
			w.put(tc.make()...)
			w.turn()
			if w.bad() == bad {
				t.Error("was not counted")
			}
			w.settle() // all nbufs are back
		})
	}
	// What follows is sent.
	n := w.cut(p.id(), b, 300)
	w.put(chain(abi.OutTX, n...)...)
	w.turn()
	if got := receive(t, c); !bytes.Equal(got, b[28:]) {
		t.Errorf("%d bytes arrived, want the last packet alone", len(got))
	}
	if n := w.area.DLane(0).TxPackets; n != 1 {
		t.Errorf("%d packets sent, want 1", n)
	}
}
