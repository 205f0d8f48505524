// SPDX-License-Identifier: Apache-2.0

// Package daemon starts and stops long-running programs with a log file and a
// unix socket, for tests and measurements.
package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"netio.dev/netio/test/internal/netlab"
)

// tailLines of its log are shown when a daemon fails.
const tailLines = 15

// Daemon is a program that has been started.
type Daemon struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Start starts a program in a namespace, with both outputs in the log file,
// which is appended to.
func Start(ns *netlab.Namespace, log, path string, args ...string) (*Daemon, error) {
	d := &Daemon{name: filepath.Base(path), log: log, done: make(chan struct{})}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", d.name, err)
	}
	defer out.Close()
	d.cmd = exec.Command(path, args...)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	if err := ns.Start(d.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.name, err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// WaitSocket waits until somebody listens on the unix socket.
func (d *Daemon) WaitSocket(path string, patience time.Duration) error {
	deadline := time.After(patience)
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-d.done:
			return d.failure("ended: " + d.cmd.ProcessState.String())
		case <-deadline:
			return d.failure(fmt.Sprintf("does not listen after %v: %v", patience, err))
		case <-retry.C:
		}
	}
}

// failure is an error with the end of the log.
func (d *Daemon) failure(what string) error {
	return fmt.Errorf("%s %s; %s", d.name, what, d.Log())
}

// Log is the end of the log, for people.
func (d *Daemon) Log() string {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return "its log: " + err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	tail := bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n\t"))
	return fmt.Sprintf("the end of %s:\n\t%s", d.log, tail)
}

// Pid of the program.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Running tells whether the program has not ended.
func (d *Daemon) Running() bool {
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// Freeze stops the program where it is (SIGSTOP), until it is killed.
func (d *Daemon) Freeze() error {
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze process %d: %w", d.Pid(), err)
	}
	return nil
}

// Kill ends the program with SIGKILL and waits for that.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

// Stop ends the program with SIGTERM, or SIGKILL if it has not ended after 10
// seconds, which is an error, as is a status other than 0. Stopping a program
// that was killed is none.
func (d *Daemon) Stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		d.Kill()
		return d.failure("does not end on SIGTERM")
	}
	status := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() && (status.Signal() == syscall.SIGKILL || status.Signal() == syscall.SIGTERM) {
		return nil
	}
	if !d.cmd.ProcessState.Success() {
		return d.failure("ended: " + d.cmd.ProcessState.String())
	}
	return nil
}

// Children lists the child processes of a process.
func Children(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var children []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		child, parent, state, err := parseStat(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if parent == pid && state != "Z" {
			children = append(children, child)
		}
	}
	return children, nil
}

// Instances lists the processes that run the program with this path.
func Instances(program string) ([]int, error) {
	want, err := os.Stat(program)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, link := range links {
		got, err := os.Stat(link)
		if err != nil || !os.SameFile(got, want) {
			continue // the kernel's own, a zombie, or ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// parseStat reads "PID (COMM) STATE PPID ..."; COMM may hold anything.
func parseStat(text string) (pid, parent int, state string, err error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0, 0, "", errors.New("no command name in parentheses")
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 2 {
		return 0, 0, "", errors.New("ends after the command name")
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(text[:open])); err != nil {
		return 0, 0, "", fmt.Errorf("process id: %w", err)
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return 0, 0, "", fmt.Errorf("parent's process id: %w", err)
	}
	return pid, parent, fields[0], nil
}
