// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
)

// BenchmarkLease is a lease of both families and its release, each with its
// fsync, beside 10,000 others: what an ADD and a DEL cost on this disk.
func BenchmarkLease(b *testing.B) {
	a := open(b, filepath.Join(b.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/16", "fd00::/64")})
	a.db.NoSync = true
	for i := range 10000 {
		lease(b, a, Owner("net", fmt.Sprint("filler", i), "eth0"))
	}
	a.db.NoSync = false
	for n := 0; b.Loop(); n++ {
		owner := Owner("net", fmt.Sprint(n), "eth0")
		if _, err := a.Lease(context.Background(), owner, Request{}); err != nil {
			b.Fatal(err)
		}
		if _, err := a.Release(owner); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen reads and checks a database of 50,000 leases: what a restart
// of the agent waits for.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "db")
	o := Options{Pools: prefixes("10.0.0.0/16", "fd00::/64")}
	a := open(b, path, o)
	a.db.NoSync = true
	for i := range 50000 {
		lease(b, a, Owner("net", fmt.Sprint("container", i), "eth0"))
	}
	a.Close()
	for b.Loop() {
		a, err := Open(path, o)
		if err != nil {
			b.Fatal(err)
		}
		a.Close()
	}
}
