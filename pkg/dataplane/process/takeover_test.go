// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// patience bounds what a forwarder may take.
const patience = 30 * time.Second

// goesOn waits until data flows that was sent after the call.
func (s *stream) goesOn(t *testing.T) {
	t.Helper()
	before, late := s.received.Load(), time.After(patience)
	for s.received.Load() < before+1<<20/8 { // a good deal further than what was in flight
		select {
		case err := <-s.err:
			t.Fatal(err)
		case <-late:
			t.Fatalf("the stream stands still after %d words", s.received.Load())
		case <-time.After(time.Millisecond):
		}
	}
}

// awaitPid waits for a worker that is another one.
func (b *bed) awaitPid(old uint32) uint32 {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		ctx, conn := b.dial()
		// One that is just ending may take the call.
		st, err := dataplanev1.NewObservationClient(conn).Status(ctx, &dataplanev1.StatusRequest{})
		if err == nil && st.Pid != old {
			return st.Pid
		}
	}
	b.t.Fatal("no other forwarder takes over")
	return 0
}

// TestTakeOver: forwarders follow one another under streams, as at upgrades, and one
// that was taken over from goes on when its successor ends.
func TestTakeOver(t *testing.T) {
	b := newBed(t)
	b.wire()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	streams := []*stream{b.stream(ctx, "10.77.0.2"), b.stream(ctx, "fd77::2")}
	first := b.status().Pid

	sign := filepath.Join(t.TempDir(), "forwarding")
	if err := os.WriteFile(sign, nil, 0o600); err != nil { // of an earlier one
		t.Fatal(err)
	}
	second := b.supervisor("--take-over", "--forwarding-file", sign)
	pid := b.awaitPid(first)
	for _, s := range streams {
		s.goesOn(t)
	}
	st := b.status()
	t.Logf("nobody forwarded for %v", time.Duration(st.LastRestartGapNano))
	if st.Revision != 7 || st.LastRestartGapNano == 0 {
		t.Errorf("revision %d, gap %d", st.Revision, st.LastRestartGapNano)
	}
	// The first one was not told to wait, and ends.
	if err := b.sup.Wait(); err == nil {
		t.Error("a forwarder without --take-over has ended without an error")
	}
	b.sup = second

	if _, err := os.Stat(sign); err != nil {
		t.Errorf("it forwards, and says so by no file: %v", err)
	}

	third := b.supervisor("--take-over")
	pid = b.awaitPid(pid)
	for _, s := range streams {
		s.goesOn(t)
	}
	end(third)
	b.awaitPid(pid)
	for _, s := range streams {
		s.goesOn(t)
	}
	var stall time.Duration
	for _, s := range streams {
		stall = max(stall, time.Duration(s.gap.Load()))
	}
	t.Logf("longest stall of a stream %v", stall)
}

// TestTakeOverFails: the one that runs goes on, whatever becomes of who would take
// over.
func TestTakeOverFails(t *testing.T) {
	b := newBed(t)
	b.wire()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := b.stream(ctx, "10.77.0.2")
	pid := b.status().Pid

	other := b.supervisor("--take-over", "--instance", "other")
	if err := other.Wait(); err == nil || !strings.Contains(b.log.String(), "its device is called netio, not other") {
		t.Errorf("another instance: %v", err)
	}
	if is := b.status().Pid; is != pid {
		t.Error("the worker was ended for one that may not take over")
	}
	s.goesOn(t)
	asks := options{runDir: b.runDir, instance: "other"}
	if got := asks.askDevice(ctx); got != deviceSoft {
		t.Errorf("its device is %q", got)
	}
	if got := (&options{runDir: t.TempDir()}).askDevice(ctx); got != "" {
		t.Errorf("nobody's device is %q", got)
	}

	for name, say := range map[string]func(*net.UnixConn) error{
		"says nothing":        func(*net.UnixConn) error { return nil },
		"says garbage":        func(c *net.UnixConn) error { _, err := c.Write([]byte("?")); return err },
		"ends after greeting": func(c *net.UnixConn) error { return send(c, greeting{Device: deviceSoft, Instance: "netio"}) },
	} {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(b.runDir, takeoverSocket), Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		if err := say(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
		s.goesOn(t)
	}
}
