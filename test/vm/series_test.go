// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"flag"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/test/vm"
)

var (
	seriesFlag = flag.String("series", "", "kernel series to test in, separated by commas; without it tests that boot machines are skipped")
	briefFlag  = flag.Bool("brief", false, "test NICs in the first series alone: it takes most of the time")
	testsFlag  = flag.String("tests", "", "expression: of the conformance tests, only these")
)

// chosen are the kernels to test in, which must be there.
func chosen(t *testing.T) []vm.Series {
	t.Helper()
	if *seriesFlag == "" {
		t.Skip("boots virtual machines: make test-vm")
	}
	var all []vm.Series
	for name := range strings.SplitSeq(*seriesFlag, ",") {
		series, err := vm.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, series)
	}
	return all
}

// chosenForNICs are the kernels to test NICs in.
func chosenForNICs(t *testing.T) []vm.Series {
	t.Helper()
	all := chosen(t)
	if *briefFlag {
		return all[:1]
	}
	return all
}

// conformance is the package whose tests the device must pass.
const conformance = "./pkg/dataplane/device/kernel"

// TestSeries loads netio.ko into real kernels, has it pass the conformance suite
// that the soft device passes too, and unloads it.
func TestSeries(t *testing.T) {
	for _, series := range chosen(t) {
		t.Run(series.Name, func(t *testing.T) {
			modules := vm.KernelModules(t, series)
			tests := vm.GoTest(t, conformance)
			m := vm.Start(t, vm.Config{Series: series, Files: append(vm.ModuleFiles(modules...), tests.Files...)})
			ctx := t.Context()

			if err := m.Insert(ctx, "/modules/netio.ko"); err != nil {
				t.Fatal(err)
			}
			if err := m.Exists(ctx, "/dev/netio"); err != nil {
				t.Error(err)
			}
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
