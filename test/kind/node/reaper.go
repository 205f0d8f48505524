// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

// reaper waits for all children of the node's first process: those that it
// started, and orphans that the kernel gives to it, such as shims of containers
// whose containerd has ended.
type reaper struct {
	mu    sync.Mutex
	ended map[int]chan syscall.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{ended: map[int]chan syscall.WaitStatus{}}
	signals := make(chan os.Signal, 1) // one that waits stands for all
	signal.Notify(signals, syscall.SIGCHLD)
	go func() {
		for range signals {
			for r.reap() {
			}
		}
	}()
	return r
}

// reap waits for a child that has ended, and tells whether there was one.
func (r *reaper) reap() bool {
	// Not between the start of a child and its being known here.
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if err == syscall.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if ended, ok := r.ended[pid]; ok {
		delete(r.ended, pid)
		ended <- status
	}
	return true
}

// start starts a command, whose outputs must be files, and says when it ends.
func (r *reaper) start(cmd *exec.Cmd) (<-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan syscall.WaitStatus, 1)
	r.ended[cmd.Process.Pid] = ended
	return ended, cmd.Process.Release()
}

// output runs a command and returns what it printed on both outputs; an error has
// it too.
func (r *reaper) output(cmd *exec.Cmd) (string, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("make pipe: %w", err)
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	ended, err := r.start(cmd)
	_ = write.Close()
	if err != nil {
		return "", fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	var out bytes.Buffer
	_, err = out.ReadFrom(read)
	status := <-ended
	if err == nil && status != 0 {
		err = fmt.Errorf("%s: %s", strings.Join(cmd.Args, " "), describe(status))
	}
	if err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "ended by signal: " + s.Signal().String()
	}
	return fmt.Sprintf("ended with status %d", s.ExitStatus())
}
