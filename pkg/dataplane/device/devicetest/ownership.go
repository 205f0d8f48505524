// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"bytes"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// testOwnership hands in what the process does not own, in every way.
func testOwnership(t *testing.T, h Harness) {
	dev := open(t, h, Config{Nbufs: 200})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{})
	c := p.udp(p.v4, 2000)
	count := w.area.NbufCount()
	b := udpPacket(p.v4.Next(), p.v4, 1, 2000, []byte("once"), false)
	fresh := func() uint32 {
		idx := w.grant(1)[0]
		w.fill(idx, p.id(), b)
		return idx
	}
	actions := []uint32{abi.OutTX, abi.OutClone, abi.OutFree, abi.OutFetch}

	for _, again := range []uint32{abi.OutTX, abi.OutClone, abi.OutFree, abi.OutFetch} {
		for _, first := range []uint32{abi.OutTX, abi.OutFree} {
			for _, batch := range []bool{false, true} {
				idx := fresh()
				bad := w.bad()
				w.put(abi.Entry(first, idx))
				if !batch {
					w.turn()
				}
				w.put(abi.Entry(again, idx))
				w.turn()
				if w.bad() != bad+1 {
					t.Errorf("action %d after %d, in one batch %v: %d bad entries, want 1", again, first, batch, w.bad()-bad)
				}
				if first == abi.OutTX {
					if got := receive(t, c); !bytes.Equal(got, b[28:]) {
						t.Errorf("%q arrived", got)
					}
				}
			}
		}
	}

	// Never granted, and beyond the last.
	for _, a := range actions {
		for _, idx := range []uint32{count - 1, count, count + 1, abi.EntParamMask} {
			bad := w.bad()
			w.put(abi.Entry(a, idx))
			w.turn()
			if w.bad() != bad+1 {
				t.Errorf("action %d on nbuf %d: %d bad entries, want 1", a, idx, w.bad()-bad)
			}
		}
	}
	// Actions that there are not.
	for _, a := range []uint32{abi.OutNone, abi.OutFetch + 1, abi.EntActionMask} {
		bad := w.bad()
		idx := fresh()
		w.put(abi.Entry(a, idx))
		w.turn()
		if w.bad() != bad+1 {
			t.Errorf("action %d: %d bad entries, want 1", a, w.bad()-bad)
		}
		w.put(abi.Entry(abi.OutFree, idx))
	}
	if len(w.got) != 0 {
		t.Errorf("refused entries were answered: %+v", w.got)
	}
	w.settle()
}

// testBadFields sends one wrong header field at a time. Such a packet is refused,
// counted, and its nbuf freed; a clone's stays.
func testBadFields(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{MTU: 9000})
	c := p.udp(p.v4, 2000)
	b := udpPacket(p.v4.Next(), p.v4, 1, 2000, pattern(100, 3), true)
	portMax := w.area.Header().PortMax
	for name, change := range map[string]func(*abi.Nbuf){
		"off in the header":       func(n *abi.Nbuf) { n.Off = abi.NbufHdr - 1 },
		"off 0":                   func(n *abi.Nbuf) { n.Off = 0 },
		"off at the end":          func(n *abi.Nbuf) { n.Off = abi.NbufSize },
		"off beyond the end":      func(n *abi.Nbuf) { n.Off = 0xffff },
		"len 0":                   func(n *abi.Nbuf) { n.Len, n.Total = 0, 0 },
		"len beyond the end":      func(n *abi.Nbuf) { n.Len, n.Total = abi.NbufRoom+1, abi.NbufRoom+1 },
		"len and off overflow":    func(n *abi.Nbuf) { n.Off, n.Len, n.Total = 0xfff0, 0xffff, 0xffff },
		"total larger":            func(n *abi.Nbuf) { n.Total++ },
		"total smaller":           func(n *abi.Nbuf) { n.Total-- },
		"total huge":              func(n *abi.Nbuf) { n.Total = 0xffffffff },
		"parked without payload":  func(n *abi.Nbuf) { n.Flags |= abi.NbParked },
		"parked, total larger":    func(n *abi.Nbuf) { n.Flags |= abi.NbParked; n.Total += 100 },
		"csum_start beyond":       func(n *abi.Nbuf) { n.CsumStart = 127 },
		"csum_start huge":         func(n *abi.Nbuf) { n.CsumStart = 0xffff },
		"csum_offset huge":        func(n *abi.Nbuf) { n.CsumOffset = 0xffff },
		"gso type unknown":        func(n *abi.Nbuf) { n.GSOType, n.GSOSize = 2, 100 },
		"gso type 0xff":           func(n *abi.Nbuf) { n.GSOType, n.GSOSize = 0xff, 100 },
		"gso without size":        func(n *abi.Nbuf) { n.GSOType = abi.GSOUDPL4 },
		"size without gso":        func(n *abi.Nbuf) { n.GSOSize = 100 },
		"ECN without TCP":         func(n *abi.Nbuf) { n.GSOType, n.GSOSize = abi.GSOUDPL4|abi.GSOECN, 50 },
		"hdr_len beyond":          func(n *abi.Nbuf) { n.HdrLen = 129 },
		"port at the array's end": func(n *abi.Nbuf) { n.EPort = portMax },
		"port beyond the array":   func(n *abi.Nbuf) { n.EPort = 0xffffffff },
	} {
		t.Run(name, func(t *testing.T) {
			for _, action := range []uint32{abi.OutTX, abi.OutClone} {
				idx := w.grant(1)[0]
				nb := w.fill(idx, p.id(), b)
				setPartial(nb)
				change(nb)
				bad := w.bad()
				w.put(abi.Entry(action, idx))
				w.turn()
				if w.bad() != bad+1 {
					t.Errorf("action %d: %d bad entries, want 1", action, w.bad()-bad)
				}
				if action == abi.OutClone {
					w.put(abi.Entry(abi.OutFree, idx))
					w.turn()
					if w.bad() != bad+1 {
						t.Error("the nbuf of a refused clone was gone")
					}
				}
			}
			w.settle()
		})
	}

	// Of a parked packet the sum of both parts counts.
	for name, change := range map[string]func(*abi.Nbuf){
		"total of a parked packet":    func(n *abi.Nbuf) { n.Total++ },
		"header cut, total not":       func(n *abi.Nbuf) { n.Off += 20; n.Len -= 20 },
		"no longer parked, but total": func(n *abi.Nbuf) { n.Flags &^= abi.NbParked },
	} {
		t.Run(name, func(t *testing.T) {
			rx := bigDatagram(t, w, p, pattern(5000, 1))
			nb := w.area.Nbuf(rx.nbufs[0])
			if nb.Flags&abi.NbParked == 0 {
				t.Fatalf("5000 bytes were not parked: %+v", rx.head)
			}
			nb.EPort = p.id()
			change(nb)
			bad := w.bad()
			w.put(abi.Entry(abi.OutTX, rx.nbufs[0]))
			w.turn()
			if w.bad() != bad+1 {
				t.Errorf("%d bad entries, want 1", w.bad()-bad)
			}
			w.settle()
		})
	}

	// A port that is not there is no contradiction: the packet is dropped.
	idx := w.grant(1)[0]
	setPartial(w.fill(idx, portMax-1, b))
	w.put(abi.Entry(abi.OutTX, idx))
	w.event(abi.InDrops, 1)

	// After all of that a good one goes through.
	idx = w.grant(1)[0]
	setPartial(w.fill(idx, p.id(), b))
	w.put(abi.Entry(abi.OutTX, idx))
	w.turn()
	if got := receive(t, c); !bytes.Equal(got, b[28:]) {
		t.Errorf("% x arrived", got)
	}
	w.settle()
}
