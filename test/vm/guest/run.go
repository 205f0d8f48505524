// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"netio.dev/netio/test/vm/control"
)

// killAfter is how long a program has to show its stacks.
const killAfter = 5 * time.Second

// output sends what a program writes to the host.
type output struct {
	s  *server
	id int
}

func (o output) Write(p []byte) (int, error) {
	o.s.send(control.Event{ID: o.id, Kind: control.Output, Data: string(p)})
	return len(p), nil
}

func (s *server) run(r control.Request, started func(), exit *control.Event) error {
	cmd := exec.Command(r.Args[0], r.Args[1:]...)
	cmd.Env = append(os.Environ(), r.Env...)
	cmd.Dir = r.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	out := output{s, r.ID}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A child of the program's that keeps its output open is not waited for.
	cmd.WaitDelay = killAfter
	if err := cmd.Start(); err != nil {
		return err
	}
	s.mu.Lock()
	s.groups[r.ID] = cmd.Process.Pid
	s.mu.Unlock()
	started()
	defer func() {
		s.mu.Lock()
		delete(s.groups, r.ID)
		s.mu.Unlock()
	}()

	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		exit.TimedOut = watch(cmd.Process.Pid, time.Duration(r.TimeoutMS)*time.Millisecond, done)
		close(watched)
	}()
	err := cmd.Wait()
	close(done)
	<-watched
	var failed *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
	case errors.As(err, &failed):
		exit.Code = failed.ExitCode()
		if status, ok := failed.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			exit.Code = 128 + int(status.Signal())
		}
	default:
		return err
	}
	return nil
}

// watch ends the process group when timeout, unless that is 0, is over before
// done is closed, and returns whether it was.
func watch(group int, timeout time.Duration, done <-chan struct{}) bool {
	var over <-chan time.Time
	if timeout > 0 {
		over = time.After(timeout)
	}
	select {
	case <-done:
		return false
	case <-over:
	}
	syscall.Kill(-group, syscall.SIGQUIT)
	select {
	case <-done:
	case <-time.After(killAfter):
		syscall.Kill(-group, syscall.SIGKILL)
	}
	return true
}

func (s *server) signal(r control.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	group, ok := s.groups[r.Target]
	if !ok {
		return errors.New("that program does not run")
	}
	return syscall.Kill(-group, syscall.Signal(r.Number))
}

const kmemleak = "/sys/kernel/debug/kmemleak"

// leaks returns kmemleak's report. An object counts as lost when it was so
// in two scans, and is five seconds old.
func leaks() (string, error) {
	if _, err := os.Stat(kmemleak); errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	for range 2 {
		time.Sleep(6 * time.Second)
		if err := os.WriteFile(kmemleak, []byte("scan"), 0); err != nil {
			return "", fmt.Errorf("kmemleak: %w", err)
		}
	}
	report, err := os.ReadFile(kmemleak)
	return strings.TrimSpace(string(report)), err
}
