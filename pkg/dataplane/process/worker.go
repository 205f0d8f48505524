// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/forward"
	"netio.dev/netio/pkg/dataplane/server"
)

// Files in the run directory.
const (
	socketFile   = "forwarder.sock"
	snapshotFile = "forwarder.snapshot"
	lockFile     = "forwarder.lock"
)

// worker is the process that forwards: it takes the device over, puts the last
// configuration in force, forwards, and serves the control socket.
type worker struct {
	options
	dev   device.Device
	birth birth
	log   *slog.Logger
	ready func() // called once packets are forwarded again
}

func (w *worker) run(ctx context.Context) error {
	if err := prioritize(w.nice); err != nil {
		w.log.Warn("workers run at the priority of other processes, and are slower under load; give CAP_SYS_NICE", "nice", w.nice, "error", err)
	}
	snapshot := filepath.Join(w.runDir, snapshotFile)
	f, err := forward.New(forward.Options{
		Device: w.dev, StateDir: w.runDir, MaxConnections: w.connections(snapshot), Poll: w.poll, Logger: w.log,
	})
	if err != nil {
		return fmt.Errorf("make forwarder: %w", err)
	}
	defer f.Close()
	s := server.New(server.Options{
		Forwarder: f, Device: w.dev, SnapshotPath: snapshot, Logger: w.log, Version: w.version,
		Started: time.Now(), Restarts: w.birth.Restarts,
	})
	// Before the first packet: nothing is dropped for want of a configuration.
	if err := s.Restore(ctx); err != nil {
		return fmt.Errorf("restore configuration: %w", err)
	}
	s.Gap = w.birth.gap()
	w.ready()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(ctx, filepath.Join(w.runDir, socketFile))
		cancel()
	}()
	err = f.Run(ctx)
	cancel()
	return errors.Join(err, <-served)
}

// connections is the capacity of the connection table: the flag's, or what the
// saved configuration asks for, 0 for the default.
func (w *worker) connections(snapshot string) int {
	if w.maxConnections > 0 {
		return w.maxConnections
	}
	if s, err := config.Load(snapshot); err == nil {
		return int(s.GetSettings().GetMaxConnections())
	}
	return 0
}
