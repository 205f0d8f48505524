// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

// Hostile gives an instance to a process that means ill, for d, while packets run
// through it: it hands in what it owns in every wrong way, changes packets and
// headers after it has handed them in, and writes over rings and heads. Another
// instance must not notice, the device must survive, and the next owner must find
// a clean instance. The kernel's own log is the caller's to look at.
func Hostile(t *testing.T, h Harness, d time.Duration) {
	other := open(t, h, Config{})
	pa, pb := newPod(t, other, 1, device.PortConfig{}), newPod(t, other, 2, device.PortConfig{})
	forwarder := startForwarder(other, [2]uint32{pa.id(), pb.id()})
	transfers := []*transfer{
		startTransferFor(t, pa, pb, pb.v4, endless, 1, d+6*patience), startTransferFor(t, pb, pa, pa.v4, endless, 2, d+6*patience),
	}

	const lanes = 2
	inst := h.Create(t, Config{Nbufs: 512, Lanes: lanes})
	t.Cleanup(func() {
		if err := inst.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	dev := attach(t, inst)
	a, b := newPod6(t, dev, 1, device.PortConfig{MTU: 9000}), newPod6(t, dev, 2, device.PortConfig{MTU: 9000, Whole: true})
	// What comes to its other end is cut and completed by the kernel, and thrown away.
	out := newOutlet(b, host(far4), host(far6))
	m := &mad{dev: dev, ports: [2]uint32{a.id(), b.id()}}
	var cut atomic.Uint64
	m.wg.Go(func() { cut.Store(out.discard(&m.stop)) })
	for lane := range lanes {
		m.wg.Go(func() { m.work(lane) })
	}
	m.wg.Go(m.scribble)
	m.wg.Go(func() { m.control(a) })
	ca, cb := a.udp(a.v4, 0), b.udp(b.v6, 0)
	a.setsockopt(ca, unix.SOL_UDP, unix.UDP_SEGMENT, 700) // some with GSO
	packets := 0
	// The senders are not to wait for what is not coming back.
	for end := time.Now().Add(d); time.Now().Before(end); packets++ {
		deadline := time.Now().Add(time.Millisecond)
		ca.SetWriteDeadline(deadline)
		cb.SetWriteDeadline(deadline)
		ca.WriteToUDPAddrPort(pattern(packets%9000, 1), addrPort(b.v4))
		cb.WriteToUDPAddrPort(pattern(packets*7%9000, 1), addrPort(a.v6))
		if packets%64 == 0 {
			runtime.Gosched()
		}
	}
	m.stop.Store(true)
	m.wg.Wait()
	t.Logf("%d packets sent, %d entries handed in, %d of them refused, %d tunnels, %d packets came out of them",
		packets, m.entries.Load(), dev.Area().DLane(0).BadEntry+dev.Area().DLane(1).BadEntry, m.tunnels.Load(), cut.Load())
	if cut.Load() == 0 {
		t.Error("no packet of a tunnel came out")
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	dev = attach(t, inst)
	defer shut(t, dev)
	for _, p := range []*pod{a, b} {
		p.setUp(false) // nothing more comes in
	}
	settleAll(t, newWorkers(t, dev))

	for _, tr := range transfers {
		if tr.got.Load() == 0 {
			t.Error("the other instance's transfer stood still")
		}
		tr.stop.Store(true)
	}
	for _, tr := range transfers {
		tr.wait(t)
	}
	forwarder.end(t)
	if n := other.Area().DLane(0).BadEntry; n != 0 {
		t.Errorf("%d bad entries of the other instance", n)
	}
	forwarder.worker(t).settle()
}

// mad is a process that means ill.
type mad struct {
	dev     device.Device
	ports   [2]uint32
	stop    atomic.Bool
	wg      sync.WaitGroup
	entries atomic.Uint64
	tunnels atomic.Uint64
	hand    [64]atomic.Uint32 // nbufs that it has, or had
}

// work takes what comes on a lane and hands it in wrongly, or rightly.
func (m *mad) work(lane int) {
	a, h := m.dev.Area(), m.dev.Area().Header()
	rnd := rand.New(rand.NewPCG(uint64(lane), 7))
	in := ring.NewReader(a.InQ(lane), h.InqOrder, &a.PLane(lane).InqHead, a.DLane(lane).InqStart)
	out := ring.NewWriter(a.OutQ(lane), h.OutqOrder, &a.DLane(lane).OutqHead, &a.PLane(lane).OutqTail, a.DLane(lane).OutqStart)
	var ents [256]uint32
	var queue []uint32
	for !m.stop.Load() {
		n := in.Take(ents[:])
		if rnd.IntN(8) != 0 {
			in.Release()
		}
		for _, e := range ents[:n] {
			idx := abi.Param(e)
			if idx >= h.NbufCount {
				continue
			}
			m.hand[rnd.IntN(len(m.hand))].Store(idx)
			if rnd.IntN(4) == 0 {
				m.tunnel(rnd, idx)
			}
			if rnd.IntN(4) != 0 {
				m.spoil(rnd, idx, 1)
			}
			action := []uint32{abi.OutTX, abi.OutTX, abi.OutTX, abi.OutClone, abi.OutFetch, abi.OutFree}[rnd.IntN(6)]
			entry := abi.Entry(action, idx) | e&abi.EntMore
			if rnd.IntN(16) == 0 {
				entry ^= abi.EntMore
			}
			queue = append(queue, entry)
			for rnd.IntN(4) == 0 { // again, as if it were still its own
				queue = append(queue, abi.Entry(uint32(rnd.IntN(8)), idx)|rnd.Uint32()&abi.EntMore)
			}
		}
		for range rnd.IntN(4) {
			old := m.hand[rnd.IntN(len(m.hand))].Load()
			queue = append(queue, abi.Entry(uint32(rnd.IntN(abi.EntActionMask+1)), old)|rnd.Uint32()&abi.EntMore)
		}
		if rnd.IntN(64) == 0 {
			queue = append(queue, abi.Entry(abi.OutWant, uint32(rnd.IntN(40))))
		}
		sent := out.Publish(queue)
		m.entries.Add(uint64(sent))
		queue = queue[:copy(queue, queue[sent:])]
		if len(queue) > 4096 {
			queue = queue[:0] // it has spoilt its own ring
		}
		if m.dev.Kick(lane) != nil || n == 0 && m.dev.Wait(lane, 50*time.Microsecond) != nil {
			return
		}
	}
}

// tunnel puts the headers of a tunnel in front of a packet, rightly or nearly so.
func (m *mad) tunnel(rnd *rand.Rand, idx uint32) {
	a := m.dev.Area()
	nb, mem := a.Nbuf(idx), a.NbufBytes(idx)
	off, length, total := nb.Off, nb.Len, nb.Total // others change them meanwhile
	if off < abi.NbufHdr || int(off)+int(length) > abi.NbufSize || length == 0 {
		return
	}
	outer := encapsulated(netip.MustParseAddr("10.77.0.1"), far4, mem[off]>>4 == 6, int(total))
	if rnd.IntN(2) == 0 {
		outer = encapsulated(netip.MustParseAddr("fd77::1"), far6, mem[off]>>4 == 6, int(total))
	}
	n := uint16(len(outer))
	if off < abi.NbufHdr+n {
		to := abi.NbufHdr + n
		if int(to)+int(length) > abi.NbufSize {
			return
		}
		copy(mem[to:], mem[off:off+length])
		off = to
	}
	if rnd.IntN(8) == 0 {
		outer[rnd.IntN(len(outer))] ^= 1 << rnd.IntN(8)
	}
	copy(mem[off-n:], outer)
	nb.Off, nb.Len, nb.Total, nb.Encap = off-n, length+n, total+uint32(n), n
	nb.CsumStart += n
	nb.Flags |= abi.NbDirty
	nb.EPort = m.ports[1]
	if nb.Flags&abi.NbParked == 0 && rnd.IntN(2) == 0 {
		nb.GSOType, nb.GSOSize = abi.GSOUDPL4, uint16(1+rnd.IntN(1500))
	}
	m.tunnels.Add(1)
}

// spoil writes wrong values into the header of an nbuf, and a few bytes of the
// packet.
func (m *mad) spoil(rnd *rand.Rand, idx uint32, times int) {
	words := (*[abi.NbufSize / 4]uint32)(unsafe.Pointer(m.dev.Area().NbufBytes(idx)))
	for range times {
		switch rnd.IntN(4) {
		case 0:
			atomic.StoreUint32(&words[1], m.ports[rnd.IntN(2)]) // eport, rightly
		case 1:
			i := rnd.IntN(12)
			atomic.StoreUint32(&words[i], atomic.LoadUint32(&words[i])^1<<rnd.IntN(32))
		case 2:
			edges := []uint32{0, 1, 50, 70, 71, 127, 128, 192, 1856, 2047, 2048, 0x7fff, 0x8000, 0xffff, 0xffffffff}
			v := edges[rnd.IntN(len(edges))] | edges[rnd.IntN(len(edges))]<<16
			atomic.StoreUint32(&words[rnd.IntN(12)], v)
		default:
			atomic.StoreUint32(&words[abi.NbufData/4+rnd.IntN(16)], rnd.Uint32())
		}
	}
}

// scribble changes nbufs that have been handed in, and writes over rings and
// heads.
func (m *mad) scribble() {
	hdr := m.dev.Area().Header()
	rnd := rand.New(rand.NewPCG(5, 6))
	words := unsafe.Slice((*uint32)(unsafe.Pointer(&m.dev.Area().Mem()[hdr.PLaneOff])), (hdr.AreaSize-hdr.PLaneOff)/4)
	control := int(hdr.NbufOff-hdr.PLaneOff) / 4
	for !m.stop.Load() {
		for range 200 {
			m.spoil(rnd, m.hand[rnd.IntN(len(m.hand))].Load(), 2)
		}
		switch rnd.IntN(16) {
		case 0:
			v := abi.Entry(uint32(rnd.IntN(7)), uint32(rnd.IntN(600))) | rnd.Uint32()&(abi.EntToggle|abi.EntMore)
			atomic.StoreUint32(&words[rnd.IntN(control)], v)
		case 1:
			atomic.StoreUint32(&words[rnd.IntN(len(words))], rnd.Uint32())
		case 2:
			p := m.dev.Area().PLane(rnd.IntN(int(hdr.Lanes)))
			atomic.StoreUint32(&p.DeadmanUS, rnd.Uint32()>>rnd.IntN(32))
			atomic.StoreUint32(&p.DeadMS, rnd.Uint32()>>rnd.IntN(32))
		}
		runtime.Gosched()
	}
}

// control changes ports meanwhile, and takes interfaces down and up.
func (m *mad) control(p *pod) {
	rnd := rand.New(rand.NewPCG(8, 9))
	for i := 0; !m.stop.Load(); i++ {
		quota, mark, whole := rnd.IntN(300), rnd.IntN(20000), rnd.IntN(2) == 0
		u := device.PortUpdate{Quota: &quota, MarkBytes: &mark, Whole: &whole}
		_ = m.dev.SetPort(device.PortID(m.ports[rnd.IntN(2)]), u) // a quota may be too small for a whole packet
		if info, err := m.dev.AddPort(device.PortConfig{Name: "more", IfName: "more", NetNS: p.path}); err == nil {
			_ = m.dev.RemovePort(info.ID)
		}
		if i%8 == 0 {
			if link, err := p.nl.LinkByName("eth0"); err == nil {
				_ = p.nl.LinkSetDown(link)
				_ = p.nl.LinkSetUp(link)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}
