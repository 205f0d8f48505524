// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"netio.dev/netio/test/kind/state"
)

// downPatience is how long the kernel may take to end a cluster.
const downPatience = time.Minute

// Down ends the cluster, or clears away what one left that ended by itself. The
// logs stay. Errors: state.ErrNone if there was neither, ErrMachine.
func Down(ctx context.Context, dir state.Dir) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: what belongs to root can only be ended by root; run as root", ErrMachine)
	}
	lock, err := dir.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	record, err := dir.Load()
	if err != nil {
		return err
	}
	return down(ctx, dir, record)
}

func down(ctx context.Context, dir state.Dir, r *state.Record) error {
	ctx, cancel := context.WithTimeout(ctx, downPatience)
	defer cancel()
	if err := kill(ctx, r); err != nil {
		return err
	}
	for _, cgroup := range r.Cgroups {
		if err := removeCgroup(ctx, cgroup); err != nil {
			return err
		}
	}
	if err := restoreSysctls(r.Sysctls); err != nil {
		return err
	}
	// The record goes with the folder: what fails before can be tried again.
	if err := os.RemoveAll(dir.Run()); err != nil {
		return fmt.Errorf("remove the cluster's state: %w", err)
	}
	return nil
}

// kill ends the supervisor, and with it every process of the cluster.
func kill(ctx context.Context, r *state.Record) error {
	if r.Pid == 0 {
		return nil
	}
	// A handle first, then the look whether it is the right one.
	pidfd, err := unix.PidfdOpen(r.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the cluster's supervisor: %w", err)
	}
	defer unix.Close(pidfd)
	if !r.Alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the cluster's supervisor: %w", err)
	}
	// It ends after all others of its PID namespace.
	return poll(ctx, func() (bool, error) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
		if errors.Is(err, unix.EINTR) {
			return false, nil
		}
		return n > 0, err
	})
}

// removeCgroup removes a cgroup and those below it, inner ones first. One whose
// last process has just ended may be busy for a moment.
func removeCgroup(ctx context.Context, top string) error {
	var last error
	err := poll(ctx, func() (bool, error) {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			return false, err
		}
		last = nil
		for _, dir := range slices.Backward(dirs) {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				last = &fs.PathError{Op: "rmdir", Path: dir, Err: err}
			}
		}
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", top, errors.Join(err, last))
	}
	return nil
}
