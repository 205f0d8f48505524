// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"netio.dev/netio/test/vm"
)

var (
	hostileFlag = flag.Duration("hostile", 5*time.Second, "how long TestSoak has a hostile process on the device")
	killsFlag   = flag.Int("kills", 0, "how often TestSoak kills the owner of an instance under load, which TestSeries does ten times")
	cyclesFlag  = flag.Int("cycles", 10, "how often TestUnload loads and unloads netio.ko")
)

// TestSoak has a process that means ill on the device, and then owners that are
// killed while they forward, for as long as one likes.
func TestSoak(t *testing.T) {
	for _, series := range chosen(t) {
		t.Run(series.Name, func(t *testing.T) {
			kills := time.Duration(*killsFlag) * time.Minute
			tests := vm.GoTest(t, conformance)
			m := vm.Start(t, vm.Config{
				Series: series, Files: append(vm.ModuleFiles(vm.KernelModules(t, series)...), tests.Files...),
				Timeout: 20*time.Minute + *hostileFlag + kills,
			})
			if err := m.Insert(t.Context(), "/modules/netio.ko"); err != nil {
				t.Fatal(err)
			}
			run := func(limit time.Duration, args ...string) {
				c := tests.Command(append(args, "-test.timeout="+limit.String())...)
				c.Timeout = limit + time.Minute
				began := time.Now()
				m.MustRun(t, c)
				t.Logf("%v in %.1f s", args, time.Since(began).Seconds())
			}
			run(5*time.Minute+*hostileFlag, "-test.run=^TestHostile$", "-hostile="+hostileFlag.String())
			if *killsFlag > 0 {
				run(5*time.Minute+kills, "-test.run=^TestConformance$/^OwnerDeath$", fmt.Sprint("-kills=", *killsFlag))
			}
			if err := m.Remove(t.Context(), "netio"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnload loads and unloads the module many times, as soon as it is not in use.
func TestUnload(t *testing.T) {
	for _, series := range chosen(t) {
		t.Run(series.Name, func(t *testing.T) {
			tests := vm.GoTest(t, conformance)
			m := vm.Start(t, vm.Config{Series: series, Files: append(vm.ModuleFiles(vm.KernelModules(t, series)...), tests.Files...)})
			c := tests.Command("-test.run=^TestUnload$", "-module=/modules/netio.ko", fmt.Sprint("-cycles=", *cyclesFlag))
			m.MustRun(t, c)
			if err := m.Exists(t.Context(), "/sys/module/netio"); err == nil {
				t.Error("the module is loaded still")
			}
		})
	}
}
