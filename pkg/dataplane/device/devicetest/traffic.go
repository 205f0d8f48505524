// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

// forwarder is the smallest one there can be: what comes from one port of a pair
// goes to the other, by one goroutine per lane.
type forwarder struct {
	dev  device.Device
	peer sync.Map // of ports
	stop atomic.Bool
	wg   sync.WaitGroup
	errs chan error

	parked, gso, chains atomic.Uint64
	// flows has the lane of each flow hash, to see that it is always the same one.
	flows sync.Map
	// rewrite changes a packet, of which the nbuf is the first, before it is sent; may
	// be nil.
	rewrite func(a *abi.Area, idx uint32)
}

func startForwarder(dev device.Device, pairs ...[2]uint32) *forwarder {
	f := &forwarder{dev: dev, errs: make(chan error, abi.LanesMax)}
	for _, p := range pairs {
		f.pair(p[0], p[1])
	}
	f.start()
	return f
}

// start works all lanes.
func (f *forwarder) start() {
	for lane := range int(f.dev.Area().Header().Lanes) {
		f.wg.Go(func() {
			if err := f.run(lane); err != nil {
				f.errs <- fmt.Errorf("lane %d: %w", lane, err)
			}
		})
	}
}

// pair has what comes from either port go to the other.
func (f *forwarder) pair(a, b uint32) {
	f.direct(a, b)
	f.direct(b, a)
}

// direct has what comes from one port go to another.
func (f *forwarder) direct(from, to uint32) { f.peer.Store(from, to) }

func (f *forwarder) run(lane int) error {
	a, h := f.dev.Area(), f.dev.Area().Header()
	in := ring.NewReader(a.InQ(lane), h.InqOrder, &a.PLane(lane).InqHead, a.DLane(lane).InqStart)
	out := ring.NewWriter(a.OutQ(lane), h.OutqOrder, &a.DLane(lane).OutqHead, &a.PLane(lane).OutqTail, a.DLane(lane).OutqStart)
	var ents [512]uint32
	queue := make([]uint32, 0, 2*len(ents))
	begins := true // the next entry is the first of a packet
	idle := 0
	for !f.stop.Load() {
		if err := f.dev.Kick(lane); err != nil {
			return err
		}
		n := in.Take(ents[:])
		in.Release()
		if n == 0 && len(queue) == 0 {
			if idle++; idle > 200 {
				if err := f.dev.Wait(lane, time.Second); err != nil {
					return err
				}
			}
			continue
		}
		idle = 0
		for _, e := range ents[:n] {
			if abi.Action(e) != abi.InRX {
				continue
			}
			if begins {
				f.look(lane, a.Nbuf(abi.Param(e)), e&abi.EntMore != 0)
				if f.rewrite != nil {
					f.rewrite(a, abi.Param(e))
				}
			}
			begins = e&abi.EntMore == 0
			queue = append(queue, abi.Entry(abi.OutTX, abi.Param(e))|e&abi.EntMore)
		}
		queue = queue[:copy(queue, queue[out.Publish(queue):])]
	}
	return nil
}

func (f *forwarder) look(lane int, nb *abi.Nbuf, chained bool) {
	nb.EPort = 0
	if p, ok := f.peer.Load(nb.IPort); ok {
		nb.EPort = p.(uint32)
	}
	if nb.Flags&abi.NbParked != 0 {
		f.parked.Add(1)
	}
	if nb.GSOType != abi.GSONone {
		f.gso.Add(1)
	}
	if chained {
		f.chains.Add(1)
	}
	if nb.Flags&abi.NbHash != 0 {
		if was, ok := f.flows.LoadOrStore(nb.Hash, lane); ok && was != lane {
			f.errs <- fmt.Errorf("flow %#x on lanes %d and %d", nb.Hash, was, lane)
		}
	}
}

// end stops the workers and reports what went wrong.
func (f *forwarder) end(t testing.TB) {
	t.Helper()
	f.stop.Store(true)
	for lane := range int(f.dev.Area().Header().Lanes) {
		f.dev.Wake(lane)
	}
	f.wg.Wait()
	close(f.errs)
	for err := range f.errs {
		t.Error(err)
	}
}

// transfer is a TCP connection between two pods that carries random bytes.
type transfer struct {
	done chan error
	got  atomic.Int64 // bytes received so far, all as they were sent
	stop atomic.Bool  // send no more
}

// endless is a size for transfers that stop ends.
const endless = 1 << 62

// startTransfer sends size bytes from one pod to the other. The receiver compares
// what it gets with what was sent.
func startTransfer(t testing.TB, from, to *pod, dst netip.Addr, size int64, seed uint64) *transfer {
	t.Helper()
	return startTransferFor(t, from, to, dst, size, seed, 6*patience)
}

// startTransferFor is startTransfer for one that may take longer.
func startTransferFor(t testing.TB, from, to *pod, dst netip.Addr, size int64, seed uint64, limit time.Duration) *transfer {
	t.Helper()
	end := time.Now().Add(limit)
	var ln net.Listener
	to.do(func() (err error) {
		ln, err = net.Listen("tcp", netip.AddrPortFrom(dst, 0).String())
		return err
	})
	tr := &transfer{done: make(chan error, 2)}
	sent := make(chan int64, 1)
	go func() {
		defer ln.Close()
		tr.done <- tr.receive(ln.(*net.TCPListener), seed, sent, end)
	}()
	var conn net.Conn
	from.do(func() (err error) {
		d := net.Dialer{Timeout: patience}
		conn, err = d.Dial("tcp", ln.Addr().String())
		return err
	})
	go func() {
		defer conn.Close()
		conn.SetDeadline(end)
		n, err := tr.send(conn, size, seed)
		if err != nil {
			tr.done <- err
		}
		sent <- n
	}()
	return tr
}

// payload is what transfers with a seed carry.
func payload(seed uint64) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{0: byte(seed)}) }

func (tr *transfer) send(c net.Conn, size int64, seed uint64) (n int64, err error) {
	source, buf := payload(seed), make([]byte, 1<<15)
	for n < size && !tr.stop.Load() {
		b := buf[:min(int64(len(buf)), size-n)]
		source.Read(b)
		k, err := c.Write(b)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// receive reads to the end of a connection. sent then tells how much there was.
func (tr *transfer) receive(ln *net.TCPListener, seed uint64, sent <-chan int64, end time.Time) error {
	ln.SetDeadline(time.Now().Add(patience))
	c, err := ln.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(end)
	source, buf, want := payload(seed), make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		source.Read(want[:n])
		if !bytes.Equal(buf[:n], want[:n]) {
			return fmt.Errorf("after %d bytes come others than were sent", tr.got.Load())
		}
		tr.got.Add(int64(n))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if n := <-sent; tr.got.Load() != n {
		return fmt.Errorf("received %d of %d bytes", tr.got.Load(), n)
	}
	return nil
}

func (tr *transfer) wait(t testing.TB) {
	t.Helper()
	if err := <-tr.done; err != nil {
		t.Error(err)
	}
}

// testTCP carries TCP over both families, parked and whole.
func testTCP(t *testing.T, h Harness) {
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("whole=%v", whole), func(t *testing.T) {
			dev := open(t, h, Config{})
			c := device.PortConfig{Whole: whole}
			a, b := newPod6(t, dev, 1, c), newPod6(t, dev, 2, c)
			f := startForwarder(dev, [2]uint32{a.id(), b.id()})
			for _, dst := range []netip.Addr{b.v4, b.v6} {
				startTransfer(t, a, b, dst, 32<<20, 1).wait(t)
			}
			var many []*transfer
			for i := range 4 {
				many = append(many, startTransfer(t, a, b, b.v4, 4<<20, uint64(i)), startTransfer(t, b, a, a.v6, 4<<20, uint64(i)))
			}
			for _, tr := range many {
				tr.wait(t)
			}
			f.end(t)
			if f.gso.Load() == 0 {
				t.Error("no GSO packet came through")
			}
			if whole && (f.parked.Load() != 0 || f.chains.Load() == 0) || !whole && f.parked.Load() == 0 {
				t.Errorf("%d parked packets, %d chains", f.parked.Load(), f.chains.Load())
			}
			d := dev.Area().DLane(0)
			if d.BadEntry != 0 {
				t.Errorf("%d bad entries", d.BadEntry)
			}
			f.worker(t).settle()
		})
	}
}

// worker goes on where lane 0 of a forwarder has ended.
func (f *forwarder) worker(t testing.TB) *worker {
	w := newWorker(t, f.dev, 0)
	d, p := w.area.DLane(0), w.area.PLane(0)
	h := w.area.Header()
	w.in = ring.NewReader(w.area.InQ(0), h.InqOrder, &p.InqHead, p.InqHead)
	w.out = ring.NewWriter(w.area.OutQ(0), h.OutqOrder, &d.OutqHead, &p.OutqTail, p.OutqTail)
	return w
}

// testLanes has several workers: each flow stays on one lane, in both directions,
// and packets leave by ports of other lanes.
func testLanes(t *testing.T, h Harness) {
	dev := open(t, h, Config{Lanes: 4})
	var pods []*pod
	var pairs [][2]uint32
	for i := range 3 {
		a := newPod(t, dev, 2*i+1, device.PortConfig{})
		b := newPod(t, dev, 2*i+2, device.PortConfig{})
		pods, pairs = append(pods, a, b), append(pairs, [2]uint32{a.id(), b.id()})
	}
	f := startForwarder(dev, pairs...)
	var many []*transfer
	for i := range 12 {
		a, b := pods[i%3*2], pods[i%3*2+1]
		if i%2 == 1 {
			a, b = b, a
		}
		many = append(many, startTransfer(t, a, b, b.v4, 2<<20, uint64(i)))
	}
	for _, tr := range many {
		tr.wait(t)
	}
	f.end(t)
	used := map[any]bool{}
	flows := 0
	f.flows.Range(func(_, lane any) bool { used[lane] = true; flows++; return true })
	if len(used) < 2 {
		t.Errorf("%d flows used %d of 4 lanes", flows, len(used))
	}
	for lane := range 4 {
		if d := dev.Area().DLane(lane); d.BadEntry != 0 {
			t.Errorf("lane %d: %d bad entries", lane, d.BadEntry)
		}
	}
}
