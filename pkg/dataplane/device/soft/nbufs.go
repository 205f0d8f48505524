// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"sync/atomic"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
)

// claim takes nbuf idx out of the process's hands; false if it is not there.
// Lanes may meet at an nbuf only if the process is at fault, but then must
// not both win.
func (d *Device) claim(idx uint32) bool {
	if idx >= uint32(len(d.st.nbufs)) {
		return false
	}
	rec := &d.st.nbufs[idx]
	if d.multi {
		return atomic.CompareAndSwapUint32(&rec.owner, ownProcess, ownTaken)
	}
	if rec.owner != ownProcess {
		return false
	}
	rec.owner = ownTaken
	return true
}

// owned tells whether the process has nbuf idx.
func (d *Device) owned(idx uint32) bool {
	return idx < uint32(len(d.st.nbufs)) && atomic.LoadUint32(&d.st.nbufs[idx].owner) == ownProcess
}

// free puts a taken nbuf, and the payload parked with it, back.
func (l *lane) free(idx uint32) {
	rec := &l.d.st.nbufs[idx]
	if rec.iport != 0 {
		if p := l.d.ports[rec.iport].Load(); p != nil {
			p.release(l, rec)
		}
	}
	slot := rec.slot
	l.d.setOwner(rec, ownDevice)
	if slot != 0 {
		l.slots.put(slot - 1)
	}
	l.nbufs.put(idx)
}

// setOwner publishes a state's last word. One lane needs no barrier: the rings
// are published with release after it.
func (d *Device) setOwner(rec *nbufState, owner uint32) {
	if d.multi {
		atomic.StoreUint32(&rec.owner, owner)
	} else {
		rec.owner = owner
	}
}

// grant answers WANT.
func (l *lane) grant(n uint32) {
	ents := l.grants[:0]
	for ; n > 0; n-- {
		idx, ok := l.nbufs.get()
		if !ok {
			break
		}
		blankHeader((*abi.Nbuf)(l.nbuf(idx)))
		rec := &l.d.st.nbufs[idx]
		rec.iport, rec.slot, rec.parked = 0, 0, 0
		l.d.setOwner(rec, ownProcess)
		if ents = append(ents, abi.Entry(abi.InGrant, idx)); len(ents) == cap(ents) {
			l.handOver(l, ents)
			ents = ents[:0]
		}
	}
	l.handOver(l, ents)
	if n > 0 {
		l.denied(n)
	}
}

// handOver publishes entries on the InQ of lane to, or takes their nbufs back if
// the process has left no room for them.
func (l *lane) handOver(to *lane, ents []uint32) {
	if len(ents) == 0 || to.publish(ents) {
		return
	}
	for _, e := range ents {
		if idx := abi.Param(e); l.d.claim(idx) {
			l.free(idx)
		}
		if e&abi.EntMore == 0 && abi.Action(e) == abi.InRX {
			l.dropped(1)
		}
	}
}

// blankHeader writes bytes 0-63 of an empty nbuf.
func blankHeader(nb *abi.Nbuf) {
	*(*[64]byte)(unsafe.Pointer(nb)) = [64]byte{}
	nb.Off = abi.NbufData
}

// fetch answers FETCH: it copies the parked payload of a taken nbuf into a chain
// behind it. If nbufs are short, or the process has broken the header, the
// packet goes back as it is, still parked.
func (l *lane) fetch(idx uint32) {
	nb := (*abi.Nbuf)(l.nbuf(idx))
	rec := &l.d.st.nbufs[idx]
	chain := append(l.grants[:0], abi.Entry(abi.InFetched, idx))
	if rec.slot != 0 {
		chain = l.unpark(chain, nb, rec)
	}
	l.d.setOwner(rec, ownProcess)
	l.handOver(l, chain)
}

func (l *lane) unpark(chain []uint32, nb *abi.Nbuf, rec *nbufState) []uint32 {
	data := l.d.st.slotBytes(rec.slot - 1)[:rec.parked]
	need := (len(data) + abi.NbufRoom - 1) / abi.NbufRoom
	for range need {
		i, ok := l.nbufs.get()
		if !ok {
			for _, e := range chain[1:] {
				l.nbufs.put(abi.Param(e))
			}
			chain[0] &^= abi.EntMore
			return chain[:1]
		}
		chain[len(chain)-1] |= abi.EntMore
		chain = append(chain, abi.Entry(abi.InFetched, i))
	}
	for _, e := range chain[1:] {
		i := abi.Param(e)
		m := (*abi.Nbuf)(l.nbuf(i))
		blankHeader(m)
		n := copy(l.d.area.NbufBytes(i)[abi.NbufData:], data)
		data = data[n:]
		m.Len = uint16(n)
		r := &l.d.st.nbufs[i]
		r.iport, r.slot, r.parked = rec.iport, 0, 0
		if p := l.d.ports[rec.iport].Load(); p != nil {
			p.hold(l, 0)
		}
		l.d.setOwner(r, ownProcess)
	}
	l.dl.Copied += uint64(rec.parked)
	if p := l.d.ports[rec.iport].Load(); p != nil {
		p.unpark(l, rec.parked)
	}
	slot := rec.slot
	rec.slot, rec.parked = 0, 0
	l.slots.put(slot - 1)
	nb.Flags &^= abi.NbParked
	return chain
}
