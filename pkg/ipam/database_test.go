// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// closed makes a database with some leases.
func closed(t *testing.T, owners ...string) (path string, o Options) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "leases.db")
	o = Options{Pools: prefixes("10.0.0.0/24", "fd00::/64")}
	a := open(t, path, o)
	for _, owner := range owners {
		lease(t, a, owner)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return path, o
}

func TestEveryCommitIsSynced(t *testing.T) {
	path, o := closed(t)
	a := open(t, path, o)
	if a.db.NoSync || a.db.NoGrowSync {
		t.Error("the database skips fsync")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestSecondProcessIsLockedOut(t *testing.T) {
	path, o := closed(t)
	open(t, path, o)
	o.LockTimeout = time.Millisecond
	_, err := Open(path, o)
	refused(t, err, ErrLocked, path, "stop the other agent")
}

func TestUnreadableDatabase(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  error
		says  string
	}{
		{"garbage", func(t *testing.T, path string) {
			write(t, path, bytes.Repeat([]byte("garbage "), 4096))
		}, ErrCorrupt, "move it away"},
		{"short", func(t *testing.T, path string) {
			write(t, path, []byte("short"))
		}, ErrCorrupt, "move it away"},
		{"cut", func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, info.Size()/2)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt, "move it away"},
		{"zeros in the middle", func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			clear(data[2*os.Getpagesize():])
			write(t, path, data)
		}, ErrCorrupt, "move it away"},
		{"lease that does not parse", func(t *testing.T, path string) {
			edit(t, path, bucketLeases, "a", `{"addresses":["10.0.0"]}`)
		}, ErrCorrupt, `lease of "a"`},
		{"address leased twice", func(t *testing.T, path string) {
			edit(t, path, bucketLeases, "zz", `{"addresses":["10.0.0.1"]}`)
		}, ErrCorrupt, `10.0.0.1 is leased by both "a" and "zz"`},
		{"cooling address that does not parse", func(t *testing.T, path string) {
			edit(t, path, bucketCooling, "x", `{}`)
		}, ErrCorrupt, `cooling address "x"`},
		{"cursor that does not parse", func(t *testing.T, path string) {
			edit(t, path, bucketCursors, "10.0.0.0/24", `x`)
		}, ErrCorrupt, "cursor of 10.0.0.0/24"},
		{"newer version", func(t *testing.T, path string) {
			edit(t, path, bucketMeta, "version", "2")
		}, ErrVersion, `version "2", this program knows "1"`},
		{"another database", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			editDB(t, path, func(tx *bolt.Tx) error {
				_, err := tx.CreateBucket([]byte("other"))
				return err
			})
		}, ErrCorrupt, "not a lease database"},
	} {
		t.Run(c.name, func(t *testing.T) {
			owners := []string{"a"}
			for range 8 { // enough for a few pages
				owners = append(owners, owners[len(owners)-1]+string(bytes.Repeat([]byte("x"), 100)))
			}
			path, o := closed(t, owners...)
			c.spoil(t, path)
			_, err := Open(path, o)
			refused(t, err, c.want, path, c.says)
			o.LockTimeout = time.Millisecond
			_, err = Open(path, o)
			refused(t, err, c.want) // the failed Open let go of the lock
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, path string, bucket []byte, key, value string) {
	t.Helper()
	editDB(t, path, func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).Put([]byte(key), []byte(value))
	})
}

func editDB(t *testing.T, path string, f func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err == nil {
		err = db.Update(f)
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenErrorsNameThePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "leases.db")
	_, err := Open(path, Options{})
	refused(t, err, os.ErrNotExist, path)
}

func TestHalfMadeDatabaseIsClearedAway(t *testing.T) {
	path, o := closed(t, "a")
	write(t, path+strayInfix+"123", []byte("half"))
	a := open(t, path, o)
	if left, _ := filepath.Glob(path + "*"); !reflect.DeepEqual(left, []string{path}) {
		t.Errorf("left are %v", left)
	}
	if l, ok, err := a.Lookup("a"); !ok || err != nil {
		t.Errorf("Lookup = %v, %v, %v", l, ok, err)
	}
}

func TestPoolsChangeBetweenRuns(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "db")
	reopen := func(o Options) *Allocator {
		o.Now = c.now
		return open(t, path, o)
	}
	a := reopen(Options{Pools: prefixes("10.0.0.0/24", "fd00::/64")})
	lease(t, a, "a", "10.0.0.5")
	lease(t, a, "b", "10.0.0.200")
	lease(t, a, "c", "10.0.0.201")
	release(t, a, "c")
	a.Close()

	// Shrunk, and an address in use became the router's.
	a = reopen(Options{Pools: prefixes("10.0.0.0/29"), Reserved: prefixes("10.0.0.5/32")})
	orphans, err := a.Orphans()
	if err != nil || len(orphans) != 2 || orphans[0].Owner != "a" || orphans[1].Owner != "b" {
		t.Fatalf("orphans %v, %v", orphans, err)
	}
	if u := usage(t, a); u[0].Used != 0 || u[0].Size != 5 {
		t.Errorf("usage %+v", u)
	}
	if got := lease(t, a, "b"); !reflect.DeepEqual(got, addrs("10.0.0.200", "fd00::2")) {
		t.Errorf("b has %v", got)
	}
	for _, o := range []string{"p", "q", "r", "s", "t"} {
		if got := lease(t, a, o)[0]; got == addrs("10.0.0.5")[0] {
			t.Errorf("%s got an orphan's address", o)
		}
	}
	refused(t, leaseError(a, "u"), ErrExhausted, "5 in use")
	release(t, a, "a")
	refused(t, leaseError(a, "u"), ErrExhausted)
	a.Close()

	// Grown again: what was leased or cooled meanwhile is still known.
	a = reopen(Options{Pools: prefixes("10.0.0.0/16")})
	if orphans, _ := a.Orphans(); len(orphans) != 1 || orphans[0].Owner != "b" {
		t.Errorf("orphans %v", orphans) // its IPv6 address has no pool
	}
	refused(t, leaseError(a, "u", "10.0.0.200"), ErrInUse, "b")
	refused(t, leaseError(a, "u", "10.0.0.201"), ErrCooling)
	refused(t, leaseError(a, "u", "10.0.0.5"), ErrCooling)
	c.step(DefaultCoolDown)
	lease(t, a, "u", "10.0.0.201")
	lease(t, a, "v", "10.0.0.5")
}

func TestCoolDownRecordsAreCleared(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "db")
	a := open(t, path, Options{Pools: prefixes("10.0.0.0/24"), Now: c.now})
	for _, o := range []string{"a", "b", "c"} {
		lease(t, a, o)
		release(t, a, o)
	}
	c.step(DefaultCoolDown)
	lease(t, a, "d")
	records := 0
	err := a.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketCooling).ForEach(func(k, v []byte) error {
			records++
			return nil
		})
	})
	if err != nil || records != 0 {
		t.Errorf("%d records of cooled addresses are left, %v", records, err)
	}
}

func TestClockJumps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		name    string
		reopen  bool
		jump    time.Duration
		then    time.Duration
		cooling bool
	}{
		{"no jump, before the end", false, 0, 59 * time.Second, true},
		{"no jump, at the end", false, 0, 60 * time.Second, false},
		{"back while running", false, -year, 59 * time.Second, true},
		{"back while running, then a cool-down", false, -year, 60 * time.Second, false},
		{"back across a restart", true, -year, 59 * time.Second, true},
		{"back across a restart, then a cool-down", true, -year, 60 * time.Second, false},
		{"restart, before the end", true, 0, 59 * time.Second, true},
		{"restart, at the end", true, 0, 60 * time.Second, false},
		{"forward across a restart", true, year, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := newClock()
			path := filepath.Join(t.TempDir(), "db")
			o := Options{Pools: prefixes("10.0.0.0/24"), Now: now.now}
			a := open(t, path, o)
			lease(t, a, "a")
			release(t, a, "a")
			if c.reopen {
				a.Close()
			}
			now.step(c.jump)
			if c.reopen {
				a = open(t, path, o)
			} else {
				usage(t, a) // sees the jump
			}
			now.step(c.then)
			err := leaseError(a, "b", "10.0.0.1")
			if c.cooling {
				refused(t, err, ErrCooling)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMonotonicClockWins(t *testing.T) {
	start := time.Now()
	now := start
	k := newTicker(func() time.Time { return now })
	now = start.Add(time.Second)
	if elapsed, wall := k.read(); elapsed != time.Second || wall != now.Round(0).UTC() {
		t.Errorf("read = %v, %v", elapsed, wall)
	}
}

func TestShorterCoolDownAppliesToOldReleases(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "db")
	o := Options{Pools: prefixes("10.0.0.0/24"), Now: c.now, CoolDown: time.Hour}
	a := open(t, path, o)
	lease(t, a, "a")
	release(t, a, "a")
	a.Close()
	o.CoolDown = time.Second
	a = open(t, path, o)
	refused(t, leaseError(a, "b", "10.0.0.1"), ErrCooling, "in 1 s")
	a.Close()
	o.CoolDown = -1
	a = open(t, path, o)
	lease(t, a, "b", "10.0.0.1")
}
