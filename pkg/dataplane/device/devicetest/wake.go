// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// testWakeUps puts a worker to sleep without a time limit, again and again, and
// ends each sleep in one of the ways that there are. A lost wake-up hangs it.
func testWakeUps(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	p := newPod(t, dev, 1, device.PortConfig{})
	c := p.udp(p.v4, 0)
	w := newWorker(t, dev, 0)
	w.await("port up", func() bool { return w.area.Port(p.id()).State&abi.PortUp != 0 })
	var packets, events, turns atomic.Uint64
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if err := dev.Kick(0); err != nil {
				done <- err
				return
			}
			w.take()
			packets.Add(uint64(len(w.got)))
			events.Add(uint64(len(w.evs)))
			w.free(w.got...)
			n := len(w.got) + len(w.evs)
			w.got, w.evs = nil, nil
			turns.Add(1)
			if n > 0 {
				continue
			}
			if err := dev.Wait(0, -1); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	// progress waits until count has passed n.
	progress := func(what string, count *atomic.Uint64, n uint64) {
		t.Helper()
		for end := time.Now().Add(patience); count.Load() < n; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("no wake-up by %s", what)
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	sent := uint64(0)
	for range 3000 {
		for range rnd.IntN(1500) { // until it sleeps, or not quite
			_ = rnd.Uint32()
		}
		switch rnd.IntN(64) {
		case 0, 2, 3, 4, 5, 6, 7, 8:
			n := turns.Load()
			if err := dev.Wake(0); err != nil {
				t.Fatal(err)
			}
			progress("Wake", &turns, n+1)
		case 1:
			// An event made by another goroutine.
			n := events.Load()
			info, err := dev.AddPort(device.PortConfig{Name: "x", IfName: "x", NetNS: p.path})
			if err != nil {
				t.Fatal(err)
			}
			progress("an added port", &events, n+1)
			n = events.Load()
			if err := dev.RemovePort(info.ID); err != nil {
				t.Fatal(err)
			}
			progress("a removed port", &events, n+1)
		default:
			for range 1 + rnd.IntN(3) {
				send(t, c, p.v4.Next(), 2000, []byte("wake up"))
				sent++
			}
			progress("a packet", &packets, sent)
		}
	}
	stop.Store(true)
	if err := dev.Wake(0); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}

	// Wait ends by itself, and Wake before Wait counts.
	if err := dev.Wait(0, time.Millisecond); err != nil {
		t.Error(err)
	}
	if err := dev.Wake(0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // an old wake-up may end the first
		if err := dev.Wait(0, 100*time.Millisecond); err != nil {
			t.Error(err)
		}
	}
	w.settle()

	// Close ends a sleep.
	go func() { done <- dev.Wait(0, -1) }()
	shut(t, dev)
	if err := <-done; err != nil && !errors.Is(err, device.ErrClosed) {
		t.Errorf("Wait during Close: %v", err)
	}
	if err := dev.Wait(0, -1); !errors.Is(err, device.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
}
