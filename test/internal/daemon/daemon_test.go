// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/test/internal/netlab"
)

func start(t *testing.T, script string) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("entering a network namespace needs root")
	}
	here, err := netlab.Here()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Start(here, filepath.Join(t.TempDir(), "log"), "/bin/sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	return d
}

func TestWaitSocket(t *testing.T) {
	d := start(t, "sleep 1000")
	path := filepath.Join(t.TempDir(), "sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := d.WaitSocket(path, time.Minute); err != nil {
		t.Error(err)
	}
	if err := d.WaitSocket(path+"2", time.Millisecond); err == nil || !strings.Contains(err.Error(), "does not listen") {
		t.Errorf("nobody listens: %v", err)
	}
	if !d.Running() {
		t.Error("not running")
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	if d.Running() {
		t.Error("still running")
	}
}

func TestFailureShowsTheLog(t *testing.T) {
	d := start(t, "echo what went wrong >&2; exit 3")
	err := d.WaitSocket(filepath.Join(t.TempDir(), "sock"), time.Minute)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "what went wrong") {
		t.Errorf("got %v", err)
	}
	if err := d.Stop(); err == nil {
		t.Error("Stop after status 3: no error")
	}
}

func TestChildren(t *testing.T) {
	d := start(t, "sleep 1000 & wait")
	for {
		children, err := Children(d.Pid())
		if err != nil {
			t.Fatal(err)
		}
		if len(children) == 1 {
			proc, err := os.FindProcess(children[0])
			if err == nil {
				err = proc.Kill()
			}
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func TestInstances(t *testing.T) {
	pids, err := Instances("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(pids, os.Getpid()) {
		t.Errorf("%v without this process, %d", pids, os.Getpid())
	}
	if _, err := Instances(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a program that is not there: no error")
	}
}

func TestParseStat(t *testing.T) {
	pid, parent, state, err := parseStat("42 (a) b (c) S 7 42 42 0 -1")
	if pid != 42 || parent != 7 || state != "S" || err != nil {
		t.Errorf("got %d %d %q %v", pid, parent, state, err)
	}
	for _, bad := range []string{"", "42", "42 (a", "42 (a)", "x (a) S 7", "42 (a) S x"} {
		if _, _, _, err := parseStat(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
