// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device/soft"
	"netio.dev/netio/pkg/dataplane/monotonic"
)

const (
	// A dead worker is replaced at once, up to restartBurst times; a worker that
	// keeps dying is restarted at restartRate.
	restartBurst = 30
	restartRate  = time.Second
	// stopTime is how long a worker may take to end when told to.
	stopTime = 5 * time.Second
	// keeperFD is the worker's end of its connection to the store.
	keeperFD = 3
)

// errLocked is returned when another supervisor has the run directory.
var errLocked = errors.New("another forwarder runs with this run directory; stop it or choose another --run-dir")

// lockRunDir makes the run directory ours until the process ends.
func lockRunDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, errLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// supervisor starts workers, one after the other.
type supervisor struct {
	args  []string    // of a worker process
	store *soft.Store // of the soft device; the kernel needs none: nil
	log   *slog.Logger
}

// run keeps a worker alive until ctx is done. since is the CLOCK_MONOTONIC time from
// which on nobody forwards, 0 if nobody did.
func (s *supervisor) run(ctx context.Context, since int64) error {
	tokens, counted := restartBurst, time.Now()
	b := birth{Died: since}
	for {
		born := time.Now()
		err := s.live(ctx, b)
		if ctx.Err() != nil {
			return nil
		}
		b.Died = int64(monotonic.Now())
		b.Restarts++
		s.log.Error("worker died, starting another", "error", err, "lived", time.Since(born).Round(time.Millisecond), "restarts", b.Restarts)
		if n := int(time.Since(counted) / restartRate); n > 0 {
			tokens = min(tokens+n, restartBurst)
			counted = counted.Add(time.Duration(n) * restartRate)
		}
		if tokens > 0 {
			tokens--
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartRate):
		}
	}
}

// live runs one worker to its end.
func (s *supervisor) live(ctx context.Context, b birth) error {
	// Pdeathsig is sent when the thread that forked ends: it must be ours for as
	// long as the worker lives. A worker without its supervisor would hold on to
	// interfaces that the next supervisor's worker needs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var files []*os.File
	if s.store != nil {
		conn, err := s.store.Connect()
		if err != nil {
			return fmt.Errorf("connect the worker to the store: %w", err)
		}
		defer conn.Close()
		files = []*os.File{conn} // keeperFD
	}
	env, err := b.env()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", s.args...)
	cmd.Env = append(os.Environ(), env)
	cmd.ExtraFiles = files
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = stopTime
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", strings.Join(s.args, " "), err)
	}
	s.log.Info("worker started", "pid", cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		return err
	}
	return errors.New("it ended without being told to")
}
