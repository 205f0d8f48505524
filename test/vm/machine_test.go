// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"errors"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"netio.dev/netio/test/vm"
)

// TestMachine is about test/vm itself: programs run in a real kernel, their ends
// are told apart, and what the kernel complains of is seen.
func TestMachine(t *testing.T) {
	series := chosen(t)[0]
	ring := vm.GoTest(t, "./pkg/dataplane/ring")
	busybox, err := vm.Program("sh")
	if err != nil {
		t.Fatal(err)
	}
	sleep, err := vm.Program("sleep")
	if err != nil {
		t.Fatal(err)
	}
	m := vm.Start(t, vm.Config{
		Series: series,
		Files:  append(append(ring.Files, busybox...), sleep...),
		Ignore: regexp.MustCompile("planted"),
	})
	ctx := t.Context()

	result := m.MustRun(t, ring.Command())
	if !strings.Contains(result.Output, "PASS") {
		t.Errorf("the ring's tests did not say PASS:\n%s", result.Output)
	}

	for _, test := range []struct {
		script   string
		timeout  time.Duration
		code     int
		output   string
		timedOut bool
	}{
		{script: "echo $NAME; pwd", output: "value\n/tmp\n"},
		{script: "echo no >&2; exit 3", output: "no\n", code: 3},
		{script: "kill -9 $$", code: 137},
		{script: "exec sleep 1000", timeout: 100 * time.Millisecond, code: 128 + int(syscall.SIGQUIT), timedOut: true},
	} {
		result, err := m.Run(ctx, vm.Command{
			Args: []string{"sh", "-c", test.script}, Env: []string{"NAME=value"}, Dir: "/tmp", Timeout: test.timeout,
		})
		if err != nil {
			t.Errorf("%s: %v", test.script, err)
		}
		if result.Code != test.code || result.Output != test.output || result.TimedOut != test.timedOut {
			t.Errorf("%s: got %+v", test.script, result)
		}
	}
	if _, err := m.Run(ctx, vm.Command{Args: []string{"no-such-program"}}); err == nil {
		t.Error("a program that is not there could be run")
	}

	sleeper, err := m.Start(vm.Command{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Signal(ctx, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if result, err := sleeper.Wait(ctx); err != nil || result.Code != 137 {
		t.Errorf("killed: got %+v, %v", result, err)
	}

	if err := m.Check(); err != nil {
		t.Errorf("before anything was planted: %v", err)
	}
	if err := m.Write(ctx, "/dev/kmsg", "<4>planted WARNING: not a real one"); err != nil {
		t.Error(err)
	}
	if err := m.Write(ctx, "/proc/no-such-file", "1"); err == nil {
		t.Error("a file that is not there could be written")
	}
}

// TestStuck is about a machine whose CPUs do nothing: it is started once more, and
// then said to be stuck, and where.
func TestStuck(t *testing.T) {
	var output strings.Builder
	_, err := vm.Boot(t.Context(), vm.Config{
		Series: chosen(t)[0], Init: vm.Build(t, "./test/vm/guest"), BootTimeout: 3 * time.Second,
		QEMU: []string{"-S"}, Output: &output,
	})
	if !errors.Is(err, vm.ErrStuck) {
		t.Fatalf("got %v", err)
	}
	// The reset vector.
	for what, text := range map[string]string{"at first": output.String(), "in the end": err.Error()} {
		for _, want := range []string{"(CPU 0/TCG)", "CPU#0", "EIP=0000fff0"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s no word of %s:\n%s", what, want, text)
			}
		}
	}
}
