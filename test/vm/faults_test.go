// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"regexp"
	"testing"

	"netio.dev/netio/test/vm"
)

// movedWithoutMemory: the kernel warns when it cannot rename an interface in
// sysfs that it moves to another network namespace, for want of memory.
var movedWithoutMemory = regexp.MustCompile(`WARNING: .*dev_change_net_namespace`)

// TestFaults has allocations fail, one after the other.
func TestFaults(t *testing.T) {
	found := false
	for _, series := range chosen(t) {
		if !series.UML {
			continue // of the kernels with fault injection the fast one
		}
		found = true
		t.Run(series.Name, func(t *testing.T) {
			tests := vm.GoTest(t, conformance)
			m := vm.Start(t, vm.Config{
				Series: series, Files: append(vm.ModuleFiles(vm.KernelModules(t, series)...), tests.Files...),
				Ignore: movedWithoutMemory,
			})
			if err := m.Insert(t.Context(), "/modules/netio.ko"); err != nil {
				t.Fatal(err)
			}
			m.MustRun(t, tests.Command("-test.run=^TestFaults$", "-faults"))
			if err := m.Remove(t.Context(), "netio"); err != nil {
				t.Error(err)
			}
		})
	}
	if !found {
		t.Skip("no kernel with fault injection among those chosen")
	}
}
