// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/test/vm"
)

var (
	seriesFlag = flag.String("series", "", "kernel series to test in, separated by commas; empty: 6.1 if it is there")
	testsFlag  = flag.String("tests", "", "expression: of the conformance tests, only these")
)

// chosen are the kernels to test in. One that was asked for by name must be
// there; without a choice the test is skipped on a machine that has none.
func chosen(t *testing.T) []vm.Series {
	t.Helper()
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	names := *seriesFlag
	if names == "" {
		names = "6.1"
	}
	_, noQEMU := exec.LookPath("qemu-system-x86_64")
	var all []vm.Series
	for name := range strings.SplitSeq(names, ",") {
		series, err := vm.Find(name)
		if err == nil && !series.UML {
			err = noQEMU
		}
		switch {
		case err == nil:
			all = append(all, series)
		case *seriesFlag == "" && (errors.Is(err, vm.ErrNoKernel) || errors.Is(err, exec.ErrNotFound)):
			t.Skipf("%v; to have it: make vm-bootstrap", err)
		default:
			t.Fatal(err)
		}
	}
	return all
}

// needSeries skips a test unless kernels were chosen: go test ./... boots one
// machine, not all of them.
func needSeries(t *testing.T) {
	t.Helper()
	if *seriesFlag == "" {
		t.Skip("no -series; see make test-vm")
	}
}

// conformance is the package whose tests the device must pass.
const conformance = "./pkg/dataplane/device/kernel"

// TestSeries loads netio.ko into real kernels, has it pass the conformance suite
// that the soft device passes too, and unloads it.
func TestSeries(t *testing.T) {
	for _, series := range chosen(t) {
		t.Run(series.Name, func(t *testing.T) {
			modules := vm.KernelModules(t, series)
			config := vm.Config{Series: series, Files: vm.ModuleFiles(modules...)}
			var tests *vm.TestBinary
			if found, _ := filepath.Glob(filepath.Join("../..", conformance, "*_test.go")); found != nil {
				b := vm.GoTest(t, conformance)
				tests = &b
				config.Files = append(config.Files, b.Files...)
			}
			m := vm.Start(t, config)
			ctx := t.Context()

			if err := m.Insert(ctx, "/modules/netio.ko"); err != nil {
				t.Fatal(err)
			}
			if err := m.Exists(ctx, "/dev/netio"); err != nil {
				t.Error(err)
			}
			if tests != nil {
				began := time.Now()
				result, err := m.Run(ctx, tests.Command("-test.run="+*testsFlag))
				if err == nil {
					err = result.Err()
				}
				switch {
				case err != nil:
					t.Error(err)
				case !strings.Contains(result.Output, "\n--- PASS: TestConformance"):
					t.Error("TestConformance did not run")
				}
				t.Logf("%s in %.1f s", conformance, time.Since(began).Seconds())
			}
			if err := m.Remove(ctx, "netio"); err != nil {
				t.Error(err)
			}
			if err := m.Exists(ctx, "/dev/netio"); err == nil {
				t.Error("/dev/netio is there without its module")
			}
			if err := m.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}
