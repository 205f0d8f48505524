// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"sync/atomic"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// What a dead owner has left may end between any two stores, and the shared area
// may hold anything. Recovery goes in this order:
//
//	repair      private words out of range become harmless, each parked slot
//	            has one nbuf; nbufs that were being sent are the process's again
//	replay      the OutQ's entries are carried out, the ring is wiped behind them
//	salvage     of the InQ, packets that nobody has touched and events
//	            stay for the new owner; all else becomes a no-op
//	reclaim     nbufs that are on no ring are free

// repair makes any content of the private state consistent in itself.
func (s *state) repair() {
	seen := make([]bool, s.nslot)
	for i := range s.nbufs {
		rec := &s.nbufs[i]
		switch rec.owner {
		case ownDevice:
			continue
		case ownTaken:
			rec.owner = ownProcess
		case ownProcess:
		default:
			rec.owner = ownDevice
			continue
		}
		if rec.slot > s.nslot || rec.parked > slotSize || rec.slot != 0 && seen[rec.slot-1] {
			rec.slot = 0
		}
		if rec.slot == 0 {
			rec.parked = 0
		} else {
			seen[rec.slot-1] = true
		}
		if rec.iport >= uint32(len(s.ports)) {
			rec.iport = 0
		}
	}
	s.hdr.top = min(s.hdr.top, uint32(len(s.ports))-1)
	for i := range s.hdr.top + 1 {
		s.ports[i].repair()
	}
	s.ports[0].phase = phaseFree
}

func (p *portState) repair() {
	p.ifname[len(p.ifname)-1], p.name[portNameMax-1], p.netns[netnsMax-1] = 0, 0, 0
	p.flags &= abi.PortFlagWhole
	p.mark = min(p.mark, device.MaxMarkBytes)
	c := device.PortConfig{
		Name: cstring(p.name[:]), IfName: cstring(p.ifname[:]), NetNS: cstring(p.netns[:]),
		MTU: int(p.mtu), Quota: int(p.quota), Whole: p.flags != 0,
	}
	if p.phase > phaseRemoving || c.Check() != nil || c.MTU == 0 || c.Quota == 0 {
		p.phase = phaseRemoving
	}
}

// recover works through what the previous owner has left on the rings. Ports
// have been started.
func (d *Device) recover() {
	for _, l := range d.lanes {
		l.replayOutQ()
	}
	kept := make([]bool, len(d.st.nbufs))
	for _, l := range d.lanes {
		l.salvageInQ(kept)
	}
	for i := range d.st.nbufs {
		if d.st.nbufs[i].owner == ownProcess && !kept[i] {
			l := d.lanes[i%len(d.lanes)]
			l.free(uint32(i))
			l.dl.Reclaimed++
		}
	}
}

// replayOutQ carries out what is left on the OutQ and begins it anew behind it. A
// batch whose publication was cut short has no first entry, but may have
// others: without the wiping they would follow the new owner's.
func (l *lane) replayOutQ() {
	l.replay = true
	for range len(l.d.area.OutQ(l.id)) / txBatch {
		before := l.out.Pos()
		l.serviceOutQ()
		if l.out.Pos() == before {
			break
		}
	}
	l.replay, l.overlong = false, 0
	pos := l.out.Pos()
	wipe(l.d.area.OutQ(l.id), l.d.area.Header().OutqOrder, pos, pos)
	l.dl.OutqStart = pos
	l.pl.OutqTail = pos
}

// wipe gives all slots but those of positions from to to the toggle of the pass
// before.
func wipe(ents []uint32, order, from, to uint32) {
	for p := to; p != from+uint32(len(ents)); p++ {
		ents[p&uint32(len(ents)-1)] = abi.Toggle(p, order) ^ abi.EntToggle
	}
}

// salvageInQ finds the unread entries of the InQ and notes their nbufs in kept.
func (l *lane) salvageInQ(kept []bool) {
	ents, order := l.d.area.InQ(l.id), l.d.area.Header().InqOrder
	size := uint32(len(ents))
	slot := func(p uint32) *uint32 { return &ents[p&(size-1)] }
	head, tail := atomic.LoadUint32(&l.pl.InqHead), l.ls.inqTail
	if tail-head > size {
		head = tail
	}
	// Published, but the owner died before it could note it.
	for tail-head < size && *slot(tail)&abi.EntToggle == abi.Toggle(tail, order) {
		tail++
	}
	for p := head; p != tail; {
		n := uint32(1)
		for p+n != tail && *slot(p + n - 1)&abi.EntMore != 0 {
			n++
		}
		if !l.salvage(slot, p, n, kept) {
			for i := range n {
				*slot(p + i) = abi.Entry(abi.InDrops, 0) | abi.Toggle(p+i, order)
			}
		}
		p += n
	}
	wipe(ents, order, head, tail)
	l.ls.inqTail = tail
	l.pl.InqHead = head
	l.dl.InqTail, l.dl.InqStart = tail, head
	l.openInQ()
}

// salvage decides on the n entries at position p: an event, or a packet.
func (l *lane) salvage(slot func(uint32) *uint32, p, n uint32, kept []bool) bool {
	first := *slot(p)
	switch abi.Action(first) {
	case abi.InPort, abi.InQoS, abi.InDrops:
		return n == 1 && first&abi.EntMore == 0
	case abi.InRX:
	default: // answers to the dead, and garbage
		return false
	}
	if *slot(p + n - 1)&abi.EntMore != 0 || n > maxChain {
		return false
	}
	for i := range n {
		e := *slot(p + i)
		idx := abi.Param(e)
		if abi.Action(e) != abi.InRX || idx >= uint32(len(kept)) || kept[idx] ||
			l.d.st.nbufs[idx].owner != ownProcess || !l.untouched(idx, i == 0, n == 1) {
			for j := range i {
				kept[abi.Param(*slot(p + j))] = false
			}
			return false
		}
		kept[idx] = true
	}
	return true
}

// untouched tells whether an nbuf's header is as receiving has left it, as far as
// that can be known: the owner may have read the entry and begun to
// work on the packet.
func (l *lane) untouched(idx uint32, first, alone bool) bool {
	nb, rec := (*abi.Nbuf)(l.nbuf(idx)), &l.d.st.nbufs[idx]
	if nb.Off != abi.NbufData || nb.Len == 0 || nb.Len > abi.NbufRoom {
		return false
	}
	if !first {
		return true
	}
	if nb.IPort != rec.iport || nb.EPort != 0 || (nb.Flags&abi.NbParked != 0) != (rec.slot != 0) || nb.Flags&abi.NbDirty != 0 {
		return false
	}
	return !alone || nb.Total == uint32(nb.Len)+rec.parked
}
