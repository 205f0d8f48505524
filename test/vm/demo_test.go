// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"path/filepath"
	"testing"
	"time"

	"netio.dev/netio/test/vm"
)

// TestDemo plays the demo (make demo DEVICE=kernel) where the module is loaded.
func TestDemo(t *testing.T) {
	for _, series := range chosen(t) {
		if series.UML {
			continue // one CPU, and no CNI's worth of time
		}
		t.Run(series.Name, func(t *testing.T) {
			files := vm.ModuleFiles(vm.KernelModules(t, series)...)
			for _, pkg := range []string{"./cmd/netio-agent", "./cmd/netio-cni", "./cmd/netioctl", "./test/demo"} {
				files = append(files, vm.File{Guest: "/netio/" + filepath.Base(pkg), Host: vm.Build(t, pkg)})
			}
			for _, name := range []string{"ip", "nft", "ping", "sysctl"} {
				program, err := vm.Program(name)
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, program...)
			}
			m := vm.Start(t, vm.Config{Series: series, Memory: 1536, Files: files})
			if err := m.Insert(t.Context(), "/modules/netio.ko"); err != nil {
				t.Fatal(err)
			}
			m.MustRun(t, vm.Command{Args: []string{"/netio/demo", "-bin", "/netio", "-device", "kernel"}, Timeout: 5 * time.Minute})
		})
	}
}
