// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"math/bits"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// pkt is a packet of the vector as the passes know it.
type pkt struct {
	nb   *abi.Nbuf
	data []byte // its bytes in the first nbuf, from the IP header
	key  conntrack.Key
	hash uint64
	size uint32 // on the wire: of the largest segment, headers included
	ref  conntrack.Ref
	idx  uint32
	// its entries in the vector
	first, n uint16
	l4       uint16 // offset of the transport header
	tcp      uint8  // flags
	proto    uint8
	fast     bool // parsed by the fast path: a whole packet with nothing unusual
	train    bool // both are fast, it and the packet before it in the batch, and of one key
}

// vector handles n entries of the InQ. A chain whose end has not come yet is
// carried over to the next one.
func (w *Worker) vector(n int) {
	const what = abi.EntMore | abi.EntActionMask<<abi.EntActionShift
	w.pipe.across, w.pipe.translated = w.pipe.translated, false
	ents := w.ents[:n]
	w.preload(ents)
	i, b := 0, w.pipe.first()
	for k := 1; i < len(ents); i += k {
		e := ents[i]
		k = 1
		if e&what != abi.InRX<<abi.EntActionShift || w.overlong { // as few are
			var brings bool
			if k, brings = w.other(i, n); k == 0 {
				break
			} else if !brings {
				continue
			}
		}
		m := b.n % batchSize
		p := &b.pkts[m]
		p.idx, p.first, p.n = abi.Param(e), uint16(i), uint16(k)
		if !w.open(p) {
			w.refuse(i, i+k)
			continue
		}
		nb := p.nb
		w.Stats.RxPackets++
		w.Stats.RxBytes += uint64(nb.Total)
		if nb.IPort == w.carrier && !w.decapsulate(p) {
			continue
		}
		w.prepare(p)
		if p.train = m > 0 && p.fast && b.pkts[m-1].fast && p.key.Is(&b.pkts[m-1].key); p.train {
			p.hash = b.pkts[m-1].hash
		} else {
			p.hash = w.conns.Hash(&p.key)
			w.pipe.lines[b.slots%batchSize] = w.conns.SlotLine(p.hash)
			b.slots++
		}
		if b.n = m + 1; b.n == batchSize {
			w.advance()
			b = w.pipe.first()
		}
	}
	for range pipeStages {
		w.advance()
	}
	w.carry = copy(w.ents[:], w.ents[i:n])
}

// other looks at an entry i of n that is not a packet in one nbuf: it brings a packet of k
// entries, or none and is done with. k is 0 if the packet's end has not come yet.
func (w *Worker) other(i, n int) (k int, brings bool) {
	switch e := w.ents[i]; abi.Action(e) {
	case abi.InRX, abi.InFetched:
		if e&abi.EntMore == 0 && !w.overlong {
			return 1, true
		}
		end, ok := w.chain(i, n)
		return max(end-i, 0), ok
	default:
		w.overlong = false
		w.event(e)
		return 1, false
	}
}

// preload loads the first cache line of the nbufs' headers and packets. In a loop that
// does nothing else the processor has many of these misses under way at a time; nothing
// depends on what is read. They are mostly near, as the device has just written them: that
// is where loads cost less than prefetch instructions.
func (w *Worker) preload(ents []uint32) {
	count, sum := w.area.NbufCount(), uint32(0)
	for _, e := range ents {
		if i := abi.Param(e); i < count {
			b := w.area.NbufBytes(i)
			sum += uint32(b[0]) + uint32(b[abi.NbufData])
		}
	}
	w.touched += sum
}

// event handles an entry that brings no packet.
func (w *Worker) event(e uint32) {
	switch v := abi.Param(e); abi.Action(e) {
	case abi.InGrant:
		w.asked = max(w.asked-1, 0)
		if v >= w.area.NbufCount() {
			w.Stats.BadEntries++
			return
		}
		w.stock = append(w.stock, v)
	case abi.InDenied:
		w.asked = max(w.asked-int(v), 0)
		w.wantAt = w.now + wantPause
	case abi.InDrops:
		w.Stats.DeviceDrops += uint64(v)
		w.counters(0).Drops[ReasonDevice] += uint64(v)
	case abi.InPort:
		if w.onPort != nil {
			w.onPort(v)
		}
	case abi.InQoS:
		// The queue lengths are in the area; no scheduler uses them yet.
	case abi.InOwner:
		w.lost = true
	default:
		w.Stats.BadEntries++
	}
}

// open finds the bytes of the packet in nbuf p.idx. What the device wrote is checked, so that
// a damaged area costs packets and not the process. It is small enough to be inlined.
func (w *Worker) open(p *pkt) bool {
	if p.idx < w.area.NbufCount() {
		nb := w.area.Nbuf(p.idx)
		off, end := int(nb.Off), int(nb.Off)+int(nb.Len)
		if off >= abi.NbufHdr && end <= abi.NbufSize {
			p.nb, p.data = nb, w.area.NbufBytes(p.idx)[off:end]
			return true
		}
	}
	return false
}

// prepare parses what the fast path can: a whole IPv4 packet without options,
// or IPv6 packet without extension headers, of TCP or UDP, that has hops left.
// Everything else keeps fast false and is parsed with care on the slow path.
func (w *Worker) prepare(p *pkt) {
	p.fast = false
	b, nb := p.data, p.nb
	if len(b) < 28 {
		return
	}
	var t []byte // from the transport header on
	switch b[0] >> 4 {
	case 4:
		if b[0] != 0x45 || uint32(binary.BigEndian.Uint16(b[2:])) != nb.Total ||
			binary.BigEndian.Uint16(b[6:])&0x3fff != 0 || b[8] <= 1 {
			return
		}
		p.proto = b[9]
		p.key.Src = packet.Addr4(binary.BigEndian.Uint32(b[12:]))
		p.key.Dst = packet.Addr4(binary.BigEndian.Uint32(b[16:]))
		p.l4, t = 20, b[20:]
	case 6:
		if len(b) < 48 || uint32(binary.BigEndian.Uint16(b[4:]))+40 != nb.Total || b[7] <= 1 {
			return
		}
		p.proto = b[6]
		p.key.Src = packet.Addr{Hi: binary.BigEndian.Uint64(b[8:]), Lo: binary.BigEndian.Uint64(b[16:])}
		p.key.Dst = packet.Addr{Hi: binary.BigEndian.Uint64(b[24:]), Lo: binary.BigEndian.Uint64(b[32:])}
		if p.key.Src.Hi == 0 || p.key.Dst.Hi == 0 {
			return // IPv4-mapped must not pass for IPv4
		}
		p.l4, t = 40, b[40:]
	default:
		return
	}
	hdr := 8
	switch p.proto {
	case packet.ProtoTCP:
		if len(t) < 20 {
			return
		}
		if hdr = int(t[12]>>4) * 4; hdr < 20 || hdr > len(t) {
			return
		}
		p.tcp = t[13]
	case packet.ProtoUDP:
		p.tcp = 0
	default:
		return
	}
	p.size = nb.Total
	if nb.GSOType != abi.GSONone && nb.GSOSize != 0 {
		p.size = uint32(p.l4) + uint32(hdr) + uint32(nb.GSOSize)
	}
	p.key.L4 = uint64(bits.RotateLeft32(binary.BigEndian.Uint32(t), 16)) | uint64(p.proto)<<32
	p.fast = true
}

// handle sends a packet the fast way if its flow is known, else the slow one.
func (w *Worker) handle(p *pkt) {
	if w.tapped && !w.handed {
		w.capture(p.nb.IPort, false, p)
	}
	if p.fast && w.pass(p) {
		return
	}
	w.slow(p)
}

// pass forwards a packet of a known flow, unless something about flow or
// packet wants a closer look. What forward does in one loop for most packets, it
// does for all.
func (w *Worker) pass(p *pkt) bool {
	ref := p.ref
	if ref == conntrack.NoRef || !w.conns.Is(ref, &p.key) {
		// Unknown, or made or gone since preload.
		if ref = w.conns.Find(&p.key, p.hash); ref == conntrack.NoRef {
			return false
		}
		p.ref = ref
	}
	c := w.conns.Conn(ref)
	dir := ref.Dir()
	d := &c.Dirs[dir&1]
	if d.Gen != w.gen || d.In != p.nb.IPort || p.size > uint32(d.MTU) {
		return false
	}
	if (d.Flags&conntrack.FlagSteady == 0 || p.tcp&(packet.TCPFin|packet.TCPSyn|packet.TCPRst) != 0) && !w.follow(p, c, dir) {
		return false
	}
	if d.Flags&conntrack.FlagNAT != 0 {
		w.pipe.translated = true
		w.translate(p, d, &c.Dirs[dir&1^1])
	}
	w.account(p, c, dir)
	w.send(p, d.Out)
	return true
}

// follow moves a connection's state on by a packet of its fast path. It returns false
// if the packet is the first one of another connection.
func (w *Worker) follow(p *pkt, c *conntrack.Conn, dir int) bool {
	if p.proto != packet.ProtoTCP {
		c.DatagramUpdate(dir, &w.timeouts)
		return true
	}
	if c.TCPReopens(p.tcp) {
		return false
	}
	c.TCPUpdate(dir, p.tcp, &w.timeouts)
	return true
}

// account counts a packet of a connection.
func (w *Worker) account(p *pkt, c *conntrack.Conn, dir int) {
	if c.Dirs[dir&1].Count(p.nb.Total, w.ms) {
		c.Spill(dir)
	}
	in := w.counters(p.nb.IPort)
	in.RxPackets++
	in.RxBytes += uint64(p.nb.Total)
}

// send takes one hop from the packet and queues it for a port.
func (w *Worker) send(p *pkt, port uint32) {
	p.hop()
	w.emit(p, port)
}

// hop takes one hop from the packet.
func (p *pkt) hop() {
	b := p.data[:12]
	if b[0]>>4 != 4 {
		b[7]--
		return
	}
	b[8]--
	// RFC 1624 for a decrement of the first byte of a word: the sum, in which the bytes' order
	// makes no difference, grows by 1 there, and 0xffff stands for 0.
	sum := uint32(binary.LittleEndian.Uint16(b[10:])) + 1
	binary.LittleEndian.PutUint16(b[10:], uint16(sum+(sum+1)>>16))
}

// emit queues a packet for a port as it is.
func (w *Worker) emit(p *pkt, port uint32) {
	n := uint64(p.nb.Total)
	out := w.counters(port)
	out.TxPackets++
	out.TxBytes += n
	w.Stats.TxPackets++
	w.Stats.TxBytes += n
	p.nb.EPort = port
	p.nb.Flags |= abi.NbDirty
	if w.tapped {
		w.capture(port, true, p)
	}
	if port >= w.tunnels && !w.encapsulate(p, port) {
		w.unsent(p)
		return
	}
	if p.n == 1 {
		w.queue = append(w.queue, abi.Entry(abi.OutTX, p.idx))
		return
	}
	for _, e := range w.ents[p.first : p.first+p.n] {
		w.queue = append(w.queue, abi.Entry(abi.OutTX, abi.Param(e))|e&abi.EntMore)
	}
}

// drop frees a packet and counts why.
func (w *Worker) drop(p *pkt, r Reason) {
	c := w.counters(p.nb.IPort)
	c.RxPackets++
	c.RxBytes += uint64(p.nb.Total)
	c.Drops[r]++
	w.free(p)
}

// free gives a packet's nbufs back.
func (w *Worker) free(p *pkt) {
	for _, e := range w.ents[p.first : p.first+p.n] {
		w.queue = append(w.queue, abi.Entry(abi.OutFree, abi.Param(e)))
	}
}
