// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"testing"

	"netio.dev/netio/pkg/kmod"
)

// TestKernelModule: what the init container has noted is told, and is a problem where pods
// lack something by it.
func TestKernelModule(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kernel-module.json")
	a := &agent{Options: Options{KernelModule: file}}
	if o, err := a.kernelModule(); o != nil || err == nil {
		t.Errorf("nothing noted: %+v, %v", o, err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o, err := a.kernelModule(); o != nil || err == nil {
		t.Errorf("half a file: %+v, %v", o, err)
	}
	why := &kmod.Problem{Reason: kmod.NoHeaders, Message: "none"}
	inUse := &kmod.Problem{Reason: kmod.InUse, Message: "in use"}
	for _, tt := range []struct {
		name     string
		outcome  kmod.Outcome
		problems int
	}{
		{"loaded", kmod.Outcome{State: kmod.StateLoaded}, 0},
		{"fallen back", kmod.Outcome{State: kmod.StateMissing, Problem: why}, 0},
		{"required", kmod.Outcome{State: kmod.StateMissing, Problem: why, Required: true}, 1},
		{"another ABI that stays", kmod.Outcome{State: kmod.StateOtherABI, Problem: inUse}, 1},
		{"loaded again", kmod.Outcome{State: kmod.StateLoaded, Required: true}, 0},
	} {
		if err := tt.outcome.Write(file); err != nil {
			t.Fatal(err)
		}
		o, err := a.kernelModule()
		if err != nil || o.State != tt.outcome.State {
			t.Errorf("%s: %+v, %v", tt.name, o, err)
		}
		if got := a.problems.All(); len(got) != tt.problems {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if o, err := (&agent{}).kernelModule(); o != nil || err != nil {
		t.Errorf("not delivered: %+v, %v", o, err)
	}
}

// TestMayTakeOver: not before the file is there.
func TestMayTakeOver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "forwarding")
	may := (&agent{Options: Options{After: file}}).mayTakeOver()
	if may() {
		t.Error("before the forwarder forwards")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !may() {
		t.Error("not when the forwarder forwards")
	}
	if (&agent{}).mayTakeOver() != nil {
		t.Error("without a file there is nothing to wait for")
	}
}
