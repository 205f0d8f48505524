// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"sync/atomic"
	"syscall"
	"testing"
)

// TestRepair: interfaces that were busy become ports as soon as they are not.
func TestRepair(t *testing.T) {
	r := run(t, memdevConfig, Options{})
	var busy atomic.Bool
	busy.Store(true)
	r.dev.FailPorts(func(op, name string) error {
		if op == "add" && name != "a" && busy.Load() {
			return syscall.EBUSY
		}
		return nil
	})
	missing := func() (n int) {
		ports, err := r.f.Ports(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ports {
			if p.Error != "" {
				n++
			}
			if up := p.Error == ""; p.Up != up {
				t.Errorf("port %s is up: %v, error %q", p.Config.Name, p.Up, p.Error)
			}
		}
		return n
	}
	r.apply(podNet())
	if n := missing(); n != len(podNet().Ports)-1 {
		t.Fatalf("%d ports are missing, want all but a", n)
	}
	before := r.f.tables.Load().Generation
	busy.Store(false)
	r.eventually("every port is there", func() bool { return missing() == 0 })
	if r.f.tables.Load().Generation == before {
		t.Error("the workers have not been told")
	}
}
