// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"fmt"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// testReaderAway lets packets come in until nothing moves any more, without a look
// at the InQ: no entry may be overwritten, no nbuf filled twice.
func testReaderAway(t *testing.T, h Harness) {
	dev := open(t, h, Config{Nbufs: 128})
	w := newWorker(t, dev, 0)
	count := int(w.area.NbufCount())
	p := newPod(t, dev, 1, device.PortConfig{Quota: 2 * count})
	c := p.udp(p.v4, 0)
	d := w.area.DLane(0)
	sent := 0
	for range 3 * count {
		send(t, c, p.v4.Next(), 2000, fmt.Append(nil, sent))
		sent++
		w.kick()
	}
	for last := d.RxPackets + 1; last != d.RxPackets; {
		last = d.RxPackets
		for range 10 {
			w.kick()
		}
	}
	if d.RxPackets != uint64(count) {
		t.Fatalf("%d packets received into %d nbufs", d.RxPackets, count)
	}
	var kept []packet
	next := 0
	for next < count {
		rx := w.next(abi.InRX)
		if got := string(w.data(rx)[28:]); got != fmt.Sprint(next) {
			t.Fatalf("read %q, want %d", got, next)
		}
		next++
		kept = append(kept, rx)
	}
	w.free(kept...)
	if d.RxNoNbuf == 0 {
		t.Error("running out of nbufs was not counted")
	}
	w.settle()
}

// testEventsKept makes more events than an InQ has room for while nobody reads.
func testEventsKept(t *testing.T, h Harness) {
	dev := open(t, h, Config{Nbufs: 16})
	w := newWorker(t, dev, 0)
	p := makePod(t, dev, 1, device.PortConfig{})
	idx := w.grant(1)[0]
	_ = idx
	w.evs = nil
	const rounds = 3 * abi.EventSlots
	denied := 0
	for i := range rounds {
		w.put(abi.Entry(abi.OutWant, uint32(w.area.NbufCount())))
		denied += int(w.area.NbufCount())
		w.kick()
		if i%100 == 0 {
			p.setUp(i%200 == 0)
		}
	}
	// One WANT was met as far as there were nbufs.
	denied -= int(w.area.NbufCount()) - 1
	if err := dev.RemovePort(p.port.ID); err != nil {
		t.Fatal(err)
	}
	got := 0
	w.await("all events", func() bool { got += int(w.sum(abi.InDenied)); return got == denied })
	w.event(abi.InPort, p.id())
	if state := w.area.Port(p.id()).State; state != 0 {
		t.Errorf("state %#x with the last event of a removed port", state)
	}
	w.put(abi.Entry(abi.OutFree, idx))
	w.settle()
}

func testQuota(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	const quota = 8
	greedy, other := newPod(t, dev, 1, device.PortConfig{Quota: quota}), newPod(t, dev, 2, device.PortConfig{})
	cg, co := greedy.udp(greedy.v4, 0), other.udp(other.v4, 0)
	for range 100 {
		send(t, cg, greedy.v4.Next(), 2000, []byte("greedy"))
	}
	for range 20 {
		send(t, co, other.v4.Next().Next(), 2000, []byte("other"))
	}
	// All of the other's packets come in, and as many of the greedy one's as it may have.
	have := map[uint32]int{}
	count := func() bool {
		clear(have)
		for _, p := range w.got {
			have[p.head.IPort]++
		}
		return have[other.id()] == 20 && have[greedy.id()] >= quota
	}
	w.await("the other port's packets", count)
	for range 50 {
		w.turn()
	}
	if count(); have[greedy.id()] != quota || w.area.Port(greedy.id()).Nbufs != quota {
		t.Errorf("%d packets of a port with a quota of %d", have[greedy.id()], quota)
	}
	// What it gives back it gets again, until its packets have all come.
	total := 0
	w.await("the rest", func() bool {
		for _, p := range w.got {
			if p.head.IPort == greedy.id() {
				total++
			}
		}
		w.free(w.got...)
		w.got = nil
		return total == 100
	})

	// A larger quota holds at once.
	more := 50
	if err := dev.SetPort(greedy.port.ID, device.PortUpdate{Quota: &more}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		send(t, cg, greedy.v4.Next(), 2000, []byte("greedy"))
	}
	w.await("a larger quota", func() bool { return len(w.got) == more })
	w.await("the rest", func() bool { w.free(w.got...); w.got = nil; return w.area.Port(greedy.id()).Nbufs == 0 })
	w.settle()
}

// testParkedCap parks as much as goes: it ends before memory does, small packets
// of others still pass, and all goes on when payload is given back.
func testParkedCap(t *testing.T, h Harness) {
	dev := open(t, h, Config{ParkedBytes: 16 << 16})
	w := newWorker(t, dev, 0)
	big, small := newPod(t, dev, 1, device.PortConfig{MTU: 65535}), newPod(t, dev, 2, device.PortConfig{})
	cb, cs := big.udp(big.v4, 0), small.udp(small.v4, 0)
	const total = 40
	for range total {
		send(t, cb, big.v4.Next(), 2000, pattern(60000, 1))
	}
	w.await("parked packets", func() bool { return len(w.got) > 0 })
	for range 50 {
		w.turn()
	}
	held := len(w.got)
	if held == total {
		t.Errorf("%d packets of 60000 bytes are parked beyond the cap", held)
	}
	if got := w.area.Port(big.id()).ParkedBytes; got < uint32(held)*(60000-abi.NbufRoom) || got > uint32(held)*60028 {
		t.Errorf("%d packets parked, parked_bytes %d", held, got)
	}
	send(t, cs, small.v4.Next(), 2000, []byte("small"))
	w.await("a small packet of another port", func() bool { return len(w.got) > held })
	seen := 0
	w.await("the rest", func() bool {
		seen += len(w.got)
		w.free(w.got...)
		w.got = nil
		return seen == total+1
	})
	w.settle()
}

func testQoS(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	p := newPod(t, dev, 1, device.PortConfig{})
	b := udpPacket(p.v4.Next(), p.v4, 1, 2000, pattern(972, 1), false)
	burst := func(n int) {
		var ents []uint32
		for _, idx := range w.grant(n) {
			w.fill(idx, p.id(), b)
			ents = append(ents, abi.Entry(abi.OutTX, idx))
		}
		w.evs = nil
		// At once: the device may take by itself what is there, and a part of the
		// burst is a short queue.
		w.put(ents...)
		w.turn()
		w.turn()
	}
	count := func() (n int) {
		for _, e := range w.evs {
			if e&^abi.EntToggle == abi.Entry(abi.InQoS, p.id()) {
				n++
			}
		}
		return n
	}
	burst(50)
	if n := count(); n != 0 {
		t.Errorf("%d QOS without a mark", n)
	}
	mark := 20000
	if err := dev.SetPort(p.port.ID, device.PortUpdate{MarkBytes: &mark}); err != nil {
		t.Fatal(err)
	}
	burst(10)
	if n := count(); n != 0 {
		t.Errorf("%d QOS for a queue below the mark", n)
	}
	burst(50)
	w.event(abi.InQoS, p.id())
	w.await("an empty queue", func() bool {
		sh := w.area.Port(p.id())
		return sh.QBytes == 0 && sh.QPackets == 0 && sh.State&abi.PortCongested == 0
	})
	w.settle()
}
