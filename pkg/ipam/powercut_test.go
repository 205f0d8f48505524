// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// A power cut inside a commit leaves, up to the sync between them, any part of
// its data pages and none of its meta page; and then all data and a meta
// page of which any part has reached the disk. Whatever it is: the database
// holds the state before the commit or, only with the whole meta page, after it.
func TestPowerCutInsideACommit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	o := Options{Pools: prefixes("10.0.0.0/24", "fd00::/64"), Now: newClock().now}
	a := open(t, path, o)
	a.db.NoSync = true
	image := func() []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	state := func(a *Allocator) []any {
		leases, err := a.Leases()
		if err != nil {
			t.Fatal(err)
		}
		return []any{leases, usage(t, a)}
	}
	after := func(data []byte) []any {
		t.Helper()
		cut := filepath.Join(dir, "cut")
		if err := os.WriteFile(cut, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(cut, o)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		return state(a)
	}

	pageSize := os.Getpagesize()
	before, old := image(), state(a)
	for step := range 80 {
		owner := fmt.Sprintf("owner-with-a-name-that-fills-pages-%d", r.IntN(60))
		if r.IntN(3) == 0 {
			release(t, a, owner)
		} else {
			lease(t, a, owner)
		}
		now, whole := state(a), image()
		if reflect.DeepEqual(old, now) {
			continue // nothing was written
		}
		if got := after(whole); !reflect.DeepEqual(got, now) {
			t.Fatalf("step %d: whole: %v, want %v", step, got, now)
		}
		for cut := range 4 {
			torn := append([]byte(nil), before...)
			if r.IntN(2) == 0 { // the file has grown already
				torn = append(torn, make([]byte, max(0, len(whole)-len(torn)))...)
			}
			metaToo := cut == 3
			for at := 0; at < len(whole); at += pageSize {
				meta := at < 2*pageSize
				switch {
				case meta && metaToo:
					// All but the checksum, which is last.
					copy(torn[at:at+72], whole[at:at+72])
				case !meta && (metaToo || r.IntN(2) == 0):
					if at+pageSize > len(torn) {
						torn = append(torn, make([]byte, at+pageSize-len(torn))...)
					}
					copy(torn[at:at+pageSize], whole[at:])
				}
			}
			if got := after(torn); !reflect.DeepEqual(got, old) {
				t.Fatalf("step %d, cut %d: %v\nwant %v", step, cut, got, old)
			}
		}
		before, old = whole, now
	}
}
