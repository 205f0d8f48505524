// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// testGarbage mixes the packets of a TCP connection with entries and headers that
// make no sense: the connection must not notice.
func testGarbage(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	a, b := newPod(t, dev, 1, device.PortConfig{}), newPod(t, dev, 2, device.PortConfig{})
	w := newWorker(t, dev, 0)
	rnd := rand.New(rand.NewPCG(3, 4))
	mine := w.grant(64) // what garbage may name rightly
	tr := make(chan *transfer, 1)
	go func() { tr <- startTransfer(t, a, b, b.v4, 16<<20, 1) }()
	var run *transfer
	scribble := func(idx uint32) {
		mem := w.area.NbufBytes(idx)
		for range 1 + rnd.IntN(8) {
			off := rnd.IntN(64 / 2)
			v := uint16(rnd.Uint32())
			if rnd.IntN(2) == 0 {
				v = []uint16{0, 1, 127, 128, 192, 1856, 2047, 2048, 0x7fff, 0x8000, 0xffff, 50, 70}[rnd.IntN(13)]
			}
			binary.NativeEndian.PutUint16(mem[2*off:], v)
		}
		// Not to the connection's ports: garbage that is well-formed is a packet.
		if nb := w.area.Nbuf(idx); nb.EPort == a.id() || nb.EPort == b.id() {
			nb.EPort = 0
		}
	}
	bad := w.bad()
	for end := time.Now().Add(3 * patience); ; runtime.Gosched() {
		w.turn()
		for _, p := range w.got {
			switch p.action {
			case abi.InGrant, abi.InFetched:
				mine = append(mine, p.nbufs...)
			case abi.InRX:
				nb := w.area.Nbuf(p.nbufs[0])
				nb.EPort = a.id() + b.id() - nb.IPort
				w.put(chain(abi.OutTX, p.nbufs...)...)
			}
		}
		w.got = nil
		// The process now has nothing but what is in mine.
		for range rnd.IntN(16) {
			e := rnd.Uint32()
			action := abi.Action(e)
			if action == abi.OutWant {
				continue
			}
			if rnd.IntN(2) == 0 && len(mine) > 0 {
				i := rnd.IntN(len(mine))
				scribble(mine[i])
				e = e&^abi.EntParamMask | mine[i]
				if action == abi.OutTX || action == abi.OutFree || action == abi.OutFetch {
					// Well-formed or not, it is the device's again.
					mine = append(mine[:i], mine[i+1:]...)
				}
			} else if abi.Param(e) < w.area.NbufCount() {
				e |= abi.EntParamMask // not a packet of the connection on its way
			}
			w.put(e)
		}
		w.put(abi.Entry(abi.OutFree, abi.EntParamMask)) // ends a chain
		if run == nil {
			select {
			case run = <-tr:
			default:
			}
		} else {
			select {
			case err := <-run.done:
				if err != nil {
					t.Error(err)
				}
				if w.bad() == bad {
					t.Error("no garbage was counted")
				}
				for _, idx := range mine { // those that are left
					w.put(abi.Entry(abi.OutFree, idx))
				}
				w.settle()
				return
			default:
			}
		}
		if time.Now().After(end) {
			t.Fatal("the connection has not ended")
		}
		if len(mine) < 16 {
			w.put(abi.Entry(abi.OutWant, 16))
		}
	}
}

// testScribble lets a mad process write over all that it may write to, while the
// device works. It may lose every packet of this instance, but nothing else: no
// crash, and the next owner finds a clean instance.
func testScribble(t *testing.T, h Harness) {
	inst := h.Create(t, Config{Nbufs: 256, Lanes: 2})
	t.Cleanup(func() {
		if err := inst.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	dev := attach(t, inst)
	a, b := newPod(t, dev, 1, device.PortConfig{MTU: 9000}), newPod(t, dev, 2, device.PortConfig{MTU: 9000, Whole: true})
	ca, cb := a.udp(a.v4, 0), b.udp(b.v4, 0)
	hdr := dev.Area().Header()
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		rnd := rand.New(rand.NewPCG(5, 6))
		words := unsafe.Slice((*uint32)(unsafe.Pointer(&dev.Area().Mem()[hdr.PLaneOff])), (hdr.AreaSize-hdr.PLaneOff)/4)
		for !stop.Load() {
			for range 100 {
				i := rnd.IntN(len(words))
				switch rnd.IntN(3) {
				case 0: // rings and heads
					i = rnd.IntN(int(hdr.NbufOff-hdr.PLaneOff) / 4)
				case 1: // headers of nbufs
					i = int(hdr.NbufOff-hdr.PLaneOff)/4 + rnd.IntN(256)*abi.NbufSize/4 + rnd.IntN(16)
				}
				v := rnd.Uint32()
				if rnd.IntN(2) == 0 {
					v = uint32(abi.Entry(uint32(rnd.IntN(7)), uint32(rnd.IntN(300)))) | v&(abi.EntToggle|abi.EntMore)
				}
				atomic.StoreUint32(&words[i], v)
			}
			runtime.Gosched()
		}
	}()
	var wakes chan struct{} = make(chan struct{})
	for lane := range 2 {
		go func() {
			defer func() { wakes <- struct{}{} }()
			for !stop.Load() {
				if dev.Kick(lane) != nil || dev.Wait(lane, time.Microsecond) != nil {
					return
				}
			}
		}()
	}
	for i := range 20000 {
		ca.WriteToUDPAddrPort(pattern(i%9000, 1), addrPort(b.v4))
		cb.WriteToUDPAddrPort(pattern(i*7%9000, 1), addrPort(a.v4))
	}
	stop.Store(true)
	<-done
	<-wakes
	<-wakes
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	dev = attach(t, inst)
	defer shut(t, dev)
	for _, p := range []*pod{a, b} {
		p.setUp(false) // nothing more comes in
	}
	settleAll(t, newWorkers(t, dev))
}
