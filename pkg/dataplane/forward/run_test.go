// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/monotonic"
	"netio.dev/netio/pkg/dataplane/packet"
)

var memdevConfig = memdev.Config{Nbufs: 1024}

// running is a forwarder whose workers run.
type running struct {
	*testing.T
	dev  *memdev.Device
	f    *Forwarder
	stop context.CancelFunc
	done chan error
}

func run(t *testing.T, cfg memdev.Config, o Options) *running {
	t.Helper()
	return runOn(t, cfg, o, func(d *memdev.Device) device.Device { return d })
}

// runOn is run with what of makes of the device.
func runOn(t *testing.T, cfg memdev.Config, o Options, of func(*memdev.Device) device.Device) *running {
	t.Helper()
	r := &running{T: t, dev: memdev.New(t, cfg), done: make(chan error, 1)}
	o.Device = of(r.dev)
	if o.MaxConnections == 0 {
		o.MaxConnections = 4096
	}
	var err error
	if r.f, err = New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.f.Close)
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.done <- r.f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := r.wait(); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	return r
}

// wait waits for Run to end.
func (r *running) wait() error {
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(30 * time.Second):
		return errors.New("the forwarder does not end")
	}
}

func (r *running) apply(s *dataplanev1.Snapshot) {
	r.Helper()
	if _, err := r.f.Apply(r.Context(), s, nil); err != nil {
		r.Fatal(err)
	}
}

// eventually waits until f is true, which something under way makes it.
func (r *running) eventually(what string, f func() bool) {
	r.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestRun sends packets through running workers while the configuration changes
// and others look: none that is allowed is lost, and after Apply has returned,
// what it forbids does not come out.
func TestRun(t *testing.T) {
	for _, cfg := range []memdev.Config{{Nbufs: 2048}, {Nbufs: 2048, Lanes: 2}, {Nbufs: 2048, OwnContext: true}} {
		t.Run("", func(t *testing.T) {
			r := run(t, cfg, Options{})
			open, shut := podNet(), podNet(policy("p", "c", isolateIngress))
			r.apply(open)
			lanes := int(max(cfg.Lanes, 1))
			var wg sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			watch := func(f func() error) {
				wg.Go(func() {
					for ctx.Err() == nil {
						if err := f(); err != nil && ctx.Err() == nil {
							t.Error(err)
							return
						}
					}
				})
			}
			watch(func() error { _, err := r.f.Status(ctx); return err })
			watch(func() error { _, err := r.f.Ports(ctx); return err })
			watch(func() error { _, err := r.f.Drops(ctx, ""); return err })
			watch(func() error { return r.f.Flows(ctx, nil, 0, func(*dataplanev1.Flow) error { return nil }) })
			watch(func() error { _, err := r.f.Explain(ctx, udp("10.0.0.1", "10.0.0.2").request()); return err })
			sub, err := r.f.Events.Subscribe(nil)
			if err != nil {
				t.Fatal(err)
			}
			watch(func() error { _, err := sub.Next(ctx); return err })

			const rounds, batch = 60, 16
			got := 0
			for round := range rounds {
				if round%3 == 2 {
					if round%2 == 0 {
						r.apply(shut)
					} else {
						r.apply(open)
					}
				}
				for lane := range lanes {
					var in []memdev.Rx
					for n := range batch {
						s := udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.sport = uint16(n) })
						in = append(in, memdev.Rx{Port: 1, Data: s.bytes(), Lane: lane})
					}
					r.dev.Receive(in...)
				}
				want := (round + 1) * batch * lanes
				r.eventually("all packets", func() bool {
					got += len(r.dev.Sent())
					return got >= want
				})
				if got != want {
					t.Fatalf("%d packets came out, want %d", got, want)
				}
				if round%3 == 2 {
					r.dev.Receive(memdev.Rx{Port: 1, Data: udp("10.0.0.1", "10.0.0.3").bytes()})
					forbidden := round%2 == 0
					var sent []memdev.Packet
					r.eventually("the packet's fate", func() bool {
						sent = append(sent, r.dev.Sent()...)
						drops, err := r.f.Drops(t.Context(), "a")
						if err != nil {
							t.Fatal(err)
						}
						n := uint64(0)
						for _, d := range drops {
							if d.Reason == "policy-ingress" {
								n += d.Packets
							}
						}
						return len(sent) > 0 || forbidden && n == uint64(round/6+1)
					})
					if (len(sent) > 0) == forbidden {
						t.Fatalf("round %d: %d packets came out, forbidden %v", round, len(sent), forbidden)
					}
				}
			}
			cancel()
			sub.Close()
			wg.Wait()
			r.stop()
			if err := r.wait(); err != nil {
				t.Fatal(err)
			}
			var held []uint32
			for _, w := range r.f.workers {
				held = append(held, w.stock...)
			}
			r.dev.Drain()
			r.dev.CheckNoLeak(append(held, r.dev.Waiting()...))
		})
	}
}

// TestStopped: a forwarder whose workers have ended still takes configurations,
// and says that it cannot look.
func TestStopped(t *testing.T) {
	r := run(t, memdev.Config{}, Options{})
	r.apply(podNet())
	r.stop()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	r.apply(podNet(without("c")))
	if ports, _ := r.dev.Ports(); len(ports) != 3 {
		t.Errorf("%d ports", len(ports))
	}
	if _, err := r.f.Status(t.Context()); !errors.Is(err, errStopped) {
		t.Errorf("error %v, want %v", err, errStopped)
	}
	if _, err := r.f.Explain(t.Context(), udp("10.0.0.1", "10.0.0.2").request()); err == nil {
		t.Error("explained by a worker that has stopped")
	}
}

// TestTakenOver: a forwarder whose device another process has taken ends.
func TestTakenOver(t *testing.T) {
	r := run(t, memdev.Config{}, Options{})
	r.dev.Publish(0, abi.Entry(abi.InOwner, 0))
	err := r.wait()
	if !errors.Is(err, device.ErrNotOwner) || !strings.Contains(err.Error(), "lane 0") {
		t.Errorf("error %v, want %v with the lane", err, device.ErrNotOwner)
	}
	<-r.done
	r.done <- nil
}

// TestConnectionsSurvive: the next process finds the connections of the last one,
// NAT and all.
func TestConnectionsSurvive(t *testing.T) {
	dir := t.TempDir()
	snap := podNet(services, masquerade)
	service := udp("10.0.0.1", "10.96.0.1").with(func(s *spec) { s.dport = 80 })
	at := service.hop().with(func(s *spec) { s.dst, s.dport = "10.0.0.2", 8080 })
	other := udp("10.0.0.2", "198.51.100.7")
	var port uint16
	for process := range 3 {
		dev := memdev.New(t, memdev.Config{})
		if process == 2 {
			dev.NextPort(50) // the device has lost its memory as well
		}
		f, err := New(Options{Device: dev, MaxConnections: 64, StateDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		f.apply(t, snap)
		b := &bed{T: t, dev: dev, f: f, w: f.workers[0], now: monotonic.Now()}
		b.w.clock, b.w.swept = func() time.Duration { return b.now }, b.now
		b.settle()
		if process == 0 {
			b.pass("a", service, "b", at)
			b.forward("a", tcp("10.0.0.1", "10.0.0.2", packet.TCPAck), "b")
			b.pass("a", udp("10.0.0.1", "198.51.100.7"), "host", udp("10.0.0.1", "198.51.100.7").hop().with(func(s *spec) { s.src = "192.0.2.1" }))
			sent := b.send("b", other)
			port, _ = ports(sent[0].Data)
		}
		b.conns(4)
		// Answers first: only the table knows them.
		masked := other.hop().with(func(s *spec) { s.src, s.sport = "192.0.2.1", port })
		b.pass("b", at.answer().with(func(s *spec) { s.ttl = 64 }), "a", service.answer().hop())
		b.pass("host", masked.answer().with(func(s *spec) { s.ttl = 64 }), "b", other.answer().hop())
		b.pass("b", other, "host", masked)
		if c := b.connOf(tcp("10.0.0.1", "10.0.0.2", packet.TCPAck)); c.State().String() != "established" {
			t.Errorf("process %d: TCP connection is %s", process, c.State())
		}
		b.conns(4)
		dev.CheckNoLeak(b.w.stock)
		f.Close()
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 1 || filepath.Base(files[0]) != "connections.0" {
		t.Errorf("files %v", files)
	}
}

// TestNewFails: what New made is released.
func TestNewFails(t *testing.T) {
	dev := memdev.New(t, memdev.Config{Lanes: 2})
	if _, err := New(Options{Device: dev, MaxConnections: 1}); err == nil {
		t.Error("no error for less than one connection per lane")
	}
	if _, err := New(Options{Device: dev, StateDir: filepath.Join(t.TempDir(), "missing")}); err == nil || !strings.Contains(err.Error(), "connection table") {
		t.Errorf("error %v for a state directory that is not there", err)
	}
}
