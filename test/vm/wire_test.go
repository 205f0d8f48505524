// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"fmt"
	"slices"
	"testing"

	"netio.dev/netio/test/vm"
)

// TestWire has two machines reach each other on a wire, with frames as large
// as its MTU.
func TestWire(t *testing.T) {
	all := chosen(t)
	all = slices.DeleteFunc(all, func(s vm.Series) bool { return s.UML })
	if len(all) == 0 {
		t.Skip("User Mode Linux has no wires")
	}
	var files []vm.File
	for _, name := range []string{"ip", "ping"} {
		program, err := vm.Program(name)
		if err != nil {
			t.Skip(err)
		}
		files = append(files, program...)
	}
	one, other := vm.NewWire(t.TempDir())
	config := func(series vm.Series, wire vm.Wire) vm.Config {
		return vm.Config{Series: series, CPUs: 1, Modules: []string{"virtio_pci", "virtio_net"}, Files: files, Wires: []vm.Wire{wire}}
	}
	// Of two series, where there are two.
	machines := vm.StartAll(t, config(all[0], one), config(all[len(all)-1], other))

	const mtu = 9000
	for i, m := range machines {
		for _, args := range [][]string{
			{"ip", "link", "set", "eth0", "mtu", fmt.Sprint(mtu), "up"},
			{"ip", "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0"},
			{"ip", "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "eth0", "nodad"},
		} {
			m.MustRun(t, vm.Command{Args: args})
		}
	}
	for _, peer := range []string{"192.0.2.2", "2001:db8::2"} {
		for _, size := range []int{56, mtu - 40 - 8} {
			// All answered, or it fails after ten seconds.
			machines[0].MustRun(t, vm.Command{Args: []string{"ping", "-c", "3", "-i", "0.2", "-w", "10", "-M", "do", "-s", fmt.Sprint(size), peer}})
		}
	}
}
