// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"syscall"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
)

// txDesc is one action of the OutQ after validation: everything that sending
// needs, read once from the shared memory. first and n are its nbufs in
// lane.segs.
type txDesc struct {
	port   *port
	action uint8
	n      uint8
	first  uint16
	total  uint32
	slot   uint32 // parked slot + 1 to be sent behind the nbufs, 0: none
	parked uint32
	encap  uint16
	vnet   vnetHdr
}

// segment is one nbuf of a packet.
type segment struct {
	idx uint32
	off uint16
	len uint16
}

// serviceOutQ takes entries in batches: a first pass validates and takes
// ownership, a second acts in the order of the entries.
func (l *lane) serviceOutQ() {
	l.more = false
	for range txRounds {
		n := l.out.Take(l.ents[:])
		if n == 0 {
			return
		}
		used := l.accept(n)
		l.out.PutBack(n - used)
		if used == 0 {
			return
		}
		l.found = true
		l.act(l.out.Pos() - uint32(used))
		l.ls.outqHead = l.out.Pos()
		l.out.Release()
		if n < txBatch && used == n {
			return
		}
	}
	l.more = true
}

// accept validates the first n of l.ents into l.descs and returns how many it
// has used; what is left is a chain whose end is not yet there.
func (l *lane) accept(n int) int {
	l.nd = 0
	i := 0
	for i < n {
		e := l.ents[i]
		d := &l.descs[l.nd]
		k := 1
		ok := false
		if l.overlong != 0 {
			// The rest of a chain that was too long is refused as well.
			if abi.Action(e) == l.overlong {
				l.discardOne(l.overlong == abi.OutClone, abi.Param(e))
				i++
			}
			if e&abi.EntMore == 0 || abi.Action(e) != l.overlong {
				l.overlong = 0
			}
			continue
		}
		switch action := abi.Action(e); action {
		case abi.OutTX, abi.OutClone:
			for l.ents[i+k-1]&abi.EntMore != 0 && k < maxChain {
				if i+k == n {
					return i
				}
				if abi.Action(l.ents[i+k]) != action {
					break
				}
				k++
			}
			d.action, d.first, d.n = uint8(action), uint16(i), uint8(k)
			if l.ents[i+k-1]&abi.EntMore != 0 {
				// Too long, or broken off by another action.
				l.bad(1)
				if k == maxChain {
					l.overlong = action
				}
				for _, e := range l.ents[i : i+k] {
					l.discardOne(action == abi.OutClone, abi.Param(e))
				}
			} else {
				ok = l.acceptPacket(d)
			}
		case abi.OutFree:
			ok = l.acceptOne(d, abi.OutFree, i)
		case abi.OutFetch:
			ok = l.acceptOne(d, abi.OutFetch, i)
		case abi.OutWant:
			d.action, d.first, d.n, d.total = abi.OutWant, uint16(i), 1, abi.Param(e)
			ok = !l.replay // who asked is dead
		default:
			l.bad(1)
		}
		if ok {
			l.nd++
		}
		i += k
	}
	return i
}

// acceptOne validates an action on a single nbuf.
func (l *lane) acceptOne(d *txDesc, action uint8, i int) bool {
	idx := abi.Param(l.ents[i])
	if !l.d.claim(idx) {
		l.bad(1)
		return false
	}
	if l.replay {
		action = abi.OutFree
	}
	d.action, d.first, d.n = action, uint16(i), 1
	l.segs[i].idx = idx
	return true
}

// acceptPacket validates a TX or CLONE. It takes the nbufs of a TX; those of a
// TX that is refused for what is in them are freed.
func (l *lane) acceptPacket(d *txDesc) bool {
	clone := d.action == abi.OutClone
	first, n := int(d.first), int(d.n)
	for j := range n {
		idx := abi.Param(l.ents[first+j])
		if clone && !l.d.owned(idx) || !clone && !l.d.claim(idx) {
			l.bad(1)
			d.n = uint8(j)
			l.discard(d)
			for j++; j < n; j++ {
				l.discardOne(clone, abi.Param(l.ents[first+j]))
			}
			return false
		}
		l.segs[first+j].idx = idx
	}

	head := l.segs[first].idx
	nb := (*abi.Nbuf)(l.nbuf(head))
	rec := &l.d.st.nbufs[head]
	eport, total, flags := nb.EPort, nb.Total, nb.Flags
	d.encap = nb.Encap
	d.vnet = vnetHdr{
		flags: uint8(flags & (abi.NbCsumPartial | abi.NbCsumValid)), gsoType: nb.GSOType, hdrLen: nb.HdrLen,
		gsoSize: nb.GSOSize, csumStart: nb.CsumStart, csumOffset: nb.CsumOffset,
	}
	sum := uint32(0)
	for j := range n {
		s := &l.segs[first+j]
		m := (*abi.Nbuf)(l.nbuf(s.idx))
		s.off, s.len = m.Off, m.Len
		if s.off < abi.NbufHdr || s.len == 0 || uint32(s.off)+uint32(s.len) > abi.NbufSize {
			return l.refuse(d)
		}
		sum += uint32(s.len)
	}
	d.slot, d.parked = 0, 0
	if flags&abi.NbParked != 0 {
		if rec.slot == 0 {
			return l.refuse(d)
		}
		d.slot, d.parked = rec.slot, rec.parked
		sum += rec.parked
	}
	if total != sum || d.encap > abi.EncapMax || total > maxPacket+uint32(d.encap) || !d.vnet.valid(uint32(l.segs[first].len)) || eport >= uint32(len(l.d.ports)) {
		return l.refuse(d)
	}
	d.total = total
	d.port = l.d.ports[eport].Load()
	if d.port != nil {
		d.port.enqueue(l, total)
	}
	return true
}

// refuse counts a packet that contradicts itself and frees it, if it is a TX.
func (l *lane) refuse(d *txDesc) bool {
	l.bad(1)
	l.discard(d)
	return false
}

// bad counts entries that were refused. Those of a dead owner may have been
// carried out before it died.
func (l *lane) bad(n uint64) {
	if !l.replay {
		l.dl.BadEntry += n
	}
}

// discard frees the nbufs of a refused TX; a CLONE's stay with the process.
func (l *lane) discard(d *txDesc) {
	if d.action == abi.OutClone {
		return
	}
	for _, s := range l.segs[d.first : int(d.first)+int(d.n)] {
		l.free(s.idx)
	}
}

func (l *lane) discardOne(clone bool, idx uint32) {
	if !clone && l.d.claim(idx) {
		l.free(idx)
	}
}

// act carries the accepted actions out. start is the position of the first
// entry. That an entry is done with is noted before its nbufs are free for
// other use, so that a take-over never replays an entry whose nbuf has a new
// meaning.
func (l *lane) act(start uint32) {
	alone := 0 // descriptors before it are sent one by one
	for i := 0; i < l.nd; i++ {
		if i >= alone {
			n, hdr := l.run(i)
			if n > 1 && l.sendRun(i, n, hdr) {
				for _, d := range l.descs[i : i+n] {
					d.port.dequeue(l, d.total)
					l.ls.outqHead = start + uint32(d.first) + 1
					l.free(l.segs[d.first].idx)
				}
				i += n - 1
				continue
			}
			alone = i + n // refused together, or not of a kind
		}
		d := &l.descs[i]
		done := start + uint32(d.first) + uint32(d.n)
		switch d.action {
		case abi.OutTX:
			l.send(d)
			l.ls.outqHead = done
			l.discard(d)
		case abi.OutClone:
			l.send(d)
		case abi.OutFree:
			l.ls.outqHead = done
			l.free(l.segs[d.first].idx)
		case abi.OutFetch:
			l.fetch(l.segs[d.first].idx)
		case abi.OutWant:
			l.grant(d.total)
		}
	}
}

// send writes one packet to its TUN.
func (l *lane) send(d *txDesc) {
	p := d.port
	if p == nil {
		l.dl.TxDrop++
		l.dropped(1)
		return
	}
	if d.encap != 0 && d.vnet.gsoType != abi.GSONone {
		if !l.sendSegments(d) {
			p.dequeue(l, d.total)
			l.bad(1)
		}
		return
	}
	if d.encap != 0 && d.vnet.flags&vnetNeedsCsum != 0 && l.sendCompleted(d) {
		return
	}
	first := &l.segs[d.first]
	if d.vnet.gsoType != abi.GSONone && d.vnet.oneSegment(l.segBytes(first), d.total) {
		d.vnet.gsoType, d.vnet.gsoSize = abi.GSONone, 0
	}
	nb := l.nbuf(first.idx)
	var n int
	var want = vnetLen + int(d.total)
	var errno syscall.Errno
	// The header goes right before the packet, where there is headroom.
	inline := first.off >= abi.NbufHdr+vnetLen
	if inline {
		*(*vnetHdr)(unsafe.Add(nb, int(first.off)-vnetLen)) = d.vnet
	}
	l.calls++
	if inline && d.n == 1 && d.slot == 0 {
		n, errno = rawWrite(p.fd, unsafe.Add(nb, int(first.off)-vnetLen), uintptr(want))
	} else {
		k := 0
		if inline {
			l.iov[0] = iovec{unsafe.Add(nb, int(first.off)-vnetLen), uintptr(first.len) + vnetLen}
			k = 1
		} else {
			l.iov[0] = iovec{unsafe.Pointer(&d.vnet), vnetLen}
			l.iov[1] = iovec{unsafe.Add(nb, int(first.off)), uintptr(first.len)}
			k = 2
		}
		for _, s := range l.segs[d.first+1 : d.first+uint16(d.n)] {
			l.iov[k] = iovec{unsafe.Add(l.nbuf(s.idx), int(s.off)), uintptr(s.len)}
			k++
		}
		if d.slot != 0 {
			l.iov[k] = iovec{l.d.st.slot(d.slot - 1), uintptr(d.parked)}
			k++
		}
		n, errno = rawWritev(p.fd, &l.iov[0], k)
	}
	p.dequeue(l, d.total)
	if errno == 0 && n == want {
		l.dl.TxPackets++
		return
	}
	l.sendFailed(p, errno)
}
