// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecord(t *testing.T) {
	d := Dir(t.TempDir())
	if _, err := d.Load(); !errors.Is(err, ErrNone) {
		t.Errorf("before the first: %v", err)
	}
	want := &Record{Nodes: 3, Pid: 7, Started: "99", Cgroups: []string{"/c"}, Sysctls: map[string]Sysctl{"a/b": {"1", "2"}}}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(d.record(), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("half a record: %v", err)
	}
}

func TestAlive(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started, err := StartTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Pid: cmd.Process.Pid, Started: started}
	if !r.Alive() {
		t.Error("a process that runs")
	}
	if other := (&Record{Pid: r.Pid, Started: started + "0"}); other.Alive() {
		t.Error("another process with the same number")
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if r.Alive() || (&Record{}).Alive() {
		t.Error("a process that has ended")
	}
}

func TestLock(t *testing.T) {
	d := Dir(t.TempDir())
	first, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lock(); !errors.Is(err, ErrBusy) {
		t.Errorf("locked twice: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	_ = second.Close()
}
