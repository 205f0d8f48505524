// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"syscall"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/monotonic"
)

// chainNbufs hold the largest packet without parking.
const chainNbufs = device.WholeNbufs

// poll reads packets from the hot ports and publishes them as one batch.
func (l *lane) poll() {
	l.now = uint64(monotonic.Now())
	if len(l.hot) == 0 || l.now-l.harvested > harvestEvery {
		l.harvest()
	}
	n := len(l.hot)
	if n == 0 {
		return
	}
	l.rxLeft = rxBatch
	left := rxRoundBytes
	share := max(rxRoundBytes/n, slotSize)
	if l.next++; l.next >= n {
		l.next = 0
	}
	cold := false
	for k := range n {
		i := l.next + k
		if i >= n {
			i -= n
		}
		p := l.hot[i]
		got := l.receive(p, min(left, share))
		if got > 0 {
			p.idle = 0
		} else if p.idle++; p.idle > l.d.hotTurns(n) {
			cold = true
		}
		if left -= got; left <= 0 || l.rxLeft == 0 {
			break
		}
	}
	if l.rxLeft < rxBatch {
		l.found = true
	}
	if len(l.rx) > 0 {
		l.handOver(l, l.rx)
		l.rx = l.rx[:0]
	}
	if l.d.multi {
		l.handOverAway()
	}
	if cold {
		l.cool(l.d.hotTurns(n))
	}
}

// receive reads up to room bytes from a port, at least one packet, and returns
// how many bytes it has read.
func (l *lane) receive(p *port, room int) int {
	if p.whole.Load() {
		return l.receiveWhole(p, room)
	}
	got := 0
	quota := p.quota.Load()
	for k := 0; k < rxPortBatch && l.rxLeft > 0; k++ {
		if l.load(&p.held) >= quota || l.load(&p.parked) >= l.d.portSlots {
			l.block(p)
			break
		}
		idx, ok := l.nbufs.get()
		if !ok {
			l.block(p)
			break
		}
		slot, ok := l.slots.get()
		if !ok {
			l.nbufs.put(idx)
			l.block(p)
			break
		}
		nb := l.nbuf(idx)
		l.iov[0] = iovec{unsafe.Add(nb, abi.NbufData-vnetLen), vnetLen + abi.NbufFill}
		l.iov[1] = iovec{l.d.st.slot(slot), slotSize}
		l.calls++
		n, errno := rawReadv(p.fd, &l.iov[0], 2)
		if errno != 0 || n <= vnetLen {
			l.nbufs.put(idx)
			l.slots.put(slot)
			l.readFailed(p, errno)
			break
		}
		n -= vnetLen
		rec := &l.d.st.nbufs[idx]
		rec.iport = p.id
		if n <= abi.NbufFill {
			rec.slot, rec.parked = 0, 0
			l.slots.put(slot)
		} else {
			rec.slot, rec.parked = slot+1, uint32(n-abi.NbufFill)
		}
		p.hold(l, rec.parked)
		l.header(p, nb, n, min(n, abi.NbufFill), rec.parked != 0)
		l.d.setOwner(rec, ownProcess)
		to := &l.rx
		if l.d.multi {
			to = l.target(idx, min(n, abi.NbufFill))
		}
		*to = append(*to, abi.Entry(abi.InRX, idx))
		l.dl.RxPackets++
		l.rxLeft--
		got += n
		p.drained = false
		if p.blocked {
			p.blocked = false
		}
		if got >= room {
			break
		}
	}
	return got
}

// header writes bytes 0-63 of a received packet's nbuf. The TUN's own header lies
// right before the data.
func (l *lane) header(p *port, at unsafe.Pointer, total, inNbuf int, parked bool) {
	v := (*vnetHdr)(unsafe.Add(at, abi.NbufData-vnetLen))
	nb := (*abi.Nbuf)(at)
	nb.IPort, nb.EPort = p.id, 0
	nb.Off, nb.Len = abi.NbufData, uint16(inNbuf)
	nb.Total = uint32(total)
	flags := vnetToNbuf(v.flags)
	if parked {
		flags |= abi.NbParked
	}
	nb.Flags, nb.GSOType, nb.Lane = flags, v.gsoType, uint8(l.id)
	nb.GSOSize, nb.HdrLen = v.gsoSize, v.hdrLen
	nb.CsumStart, nb.CsumOffset = v.csumStart, v.csumOffset
	nb.Hash = 0
	nb.Tstamp = l.now
	nb.Mark = 0
	nb.Encap, nb.Reserved1, nb.Reserved = 0, 0, [4]uint32{}
	if !knownGSO(v.gsoType) {
		nb.GSOType, nb.GSOSize = abi.GSONone, 0
	}
	if int(v.hdrLen) > inNbuf {
		nb.HdrLen = 0
	}
}

// target is the list of entries of the lane that a received packet belongs to.
// n of its bytes are in the nbuf.
func (l *lane) target(idx uint32, n int) *[]uint32 {
	nb := (*abi.Nbuf)(l.nbuf(idx))
	hash := flowHash(l.d.area.NbufBytes(idx)[abi.NbufData : abi.NbufData+n])
	lane := laneOf(hash, uint32(len(l.d.lanes)))
	nb.Hash, nb.Lane = hash, uint8(lane)
	nb.Flags |= abi.NbHash
	if int(lane) == l.id {
		return &l.rx
	}
	return &l.away[lane]
}

// handOverAway publishes what other lanes are to work on, and wakes them.
func (l *lane) handOverAway() {
	for i, ents := range l.away {
		if len(ents) > 0 {
			to := l.d.lanes[i]
			l.handOver(to, ents)
			to.awaken()
			l.away[i] = ents[:0]
		}
	}
}

// block notes that a port waits for nbufs, slots or its quota. Its packets stay
// in the TUN's queue.
func (l *lane) block(p *port) {
	if !p.blocked {
		p.blocked = true
		l.dl.RxNoNbuf++
	}
}

func (l *lane) readFailed(p *port, errno syscall.Errno) {
	switch errno {
	case syscall.EAGAIN, syscall.EINTR:
		p.drained = true
	case syscall.EBADFD: // the interface is gone
		p.drained, p.dead = true, true
		p.setUp(false)
	default:
		p.drained = true
	}
	p.blocked = false
}

// receiveWhole reads packets straight into chains of nbufs.
func (l *lane) receiveWhole(p *port, room int) int {
	got := 0
	for k := 0; k < rxPortBatch && l.rxLeft > 0; k++ {
		if l.load(&p.held)+chainNbufs > p.quota.Load() || !l.reserve() {
			l.block(p)
			break
		}
		first := l.nbuf(l.chain[0])
		l.iov[0] = iovec{unsafe.Add(first, abi.NbufData-vnetLen), vnetLen + abi.NbufFill}
		for j, idx := range l.chain[1:] {
			l.iov[j+1] = iovec{unsafe.Add(l.nbuf(idx), abi.NbufData), abi.NbufFill}
		}
		l.calls++
		n, errno := rawReadv(p.fd, &l.iov[0], chainNbufs)
		if errno != 0 || n <= vnetLen {
			for _, idx := range l.chain {
				l.nbufs.put(idx)
			}
			l.readFailed(p, errno)
			break
		}
		n -= vnetLen
		used := (n + abi.NbufFill - 1) / abi.NbufFill
		to := &l.rx
		for j, idx := range l.chain[:used] {
			nb := l.nbuf(idx)
			in := min(n-j*abi.NbufFill, abi.NbufFill)
			if j == 0 {
				l.header(p, nb, n, in, false)
				if l.d.multi {
					to = l.target(idx, in)
				}
			} else {
				blankHeader((*abi.Nbuf)(nb))
				(*abi.Nbuf)(nb).Len = uint16(in)
			}
			rec := &l.d.st.nbufs[idx]
			rec.iport, rec.slot, rec.parked = p.id, 0, 0
			p.hold(l, 0)
			l.d.setOwner(rec, ownProcess)
			more := uint32(0)
			if j < used-1 {
				more = abi.EntMore
			}
			*to = append(*to, abi.Entry(abi.InRX, idx)|more)
		}
		for _, idx := range l.chain[used:] {
			l.nbufs.put(idx)
		}
		l.dl.Copied += uint64(max(0, n-abi.NbufFill))
		l.dl.RxPackets++
		l.rxLeft--
		got += n
		p.drained = false
		if p.blocked {
			p.blocked = false
		}
		if got >= room {
			break
		}
	}
	return got
}

// reserve fills l.chain with free nbufs; false if there are too few.
func (l *lane) reserve() bool {
	for i := range l.chain {
		idx, ok := l.nbufs.get()
		if !ok {
			for _, idx := range l.chain[:i] {
				l.nbufs.put(idx)
			}
			return false
		}
		l.chain[i] = idx
	}
	return true
}
