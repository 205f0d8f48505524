// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/device"
)

// testWakeUps puts workers to sleep without a time limit, again and again, and ends
// each sleep in one of the ways that there are. A lost wake-up hangs it. With
// several lanes most packets are read by one and worked on by another.
func testWakeUps(t *testing.T, h Harness) {
	for _, lanes := range []int{1, 3} {
		t.Run(fmt.Sprint("lanes=", lanes), func(t *testing.T) { wakeUps(t, h, lanes) })
	}
}

func wakeUps(t *testing.T, h Harness, lanes int) {
	dev := open(t, h, Config{Lanes: lanes})
	p := newPod(t, dev, 1, device.PortConfig{})
	c := []*net.UDPConn{p.udp(p.v4, 0), p.udp(p.v4, 0), p.udp(p.v4, 0), p.udp(p.v4, 0), p.udp(p.v4, 0)}
	var packets, events atomic.Uint64
	turns := make([]atomic.Uint64, lanes)
	var stop atomic.Bool
	done := make(chan error, lanes)
	var workers []*worker
	for lane := range lanes {
		w := newWorker(t, dev, lane)
		workers = append(workers, w)
		go func() {
			for !stop.Load() {
				if err := dev.Kick(lane); err != nil {
					done <- err
					return
				}
				w.take()
				n := len(w.got) + len(w.evs)
				w.free(w.got...)
				packets.Add(uint64(len(w.got)))
				events.Add(uint64(len(w.evs)))
				w.got, w.evs = nil, nil
				turns[lane].Add(1)
				if n > 0 {
					continue
				}
				if err := dev.Wait(lane, -1); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
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
			lane := rnd.IntN(lanes)
			n := turns[lane].Load()
			if err := dev.Wake(lane); err != nil {
				t.Fatal(err)
			}
			progress("Wake", &turns[lane], n+1)
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
				send(t, c[rnd.IntN(len(c))], p.v4.Next(), 2000, []byte("wake up"))
				sent++
			}
			progress("a packet", &packets, sent)
		}
	}
	stop.Store(true)
	for lane := range lanes {
		if err := dev.Wake(lane); err != nil {
			t.Fatal(err)
		}
	}
	for range lanes {
		if err := <-done; err != nil {
			t.Error(err)
		}
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
	settleAll(t, workers)

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
