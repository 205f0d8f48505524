// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// clock is a wall clock without a monotonic reading, which may jump.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock {
	return &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func open(t testing.TB, path string, o Options) *Allocator {
	t.Helper()
	a, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func lease(t testing.TB, a *Allocator, owner string, want ...string) []netip.Addr {
	t.Helper()
	l, err := a.Lease(context.Background(), owner, Request{Addresses: addrs(want...)})
	if err != nil {
		t.Fatal(err)
	}
	return l.Addresses
}

func release(t testing.TB, a *Allocator, owner string) {
	t.Helper()
	if _, err := a.Release(owner); err != nil {
		t.Fatal(err)
	}
}

// refused expects an error that is want and mentions each text.
func refused(t testing.TB, err, want error, texts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
}

func leaseError(a *Allocator, owner string, want ...string) error {
	_, err := a.Lease(context.Background(), owner, Request{Addresses: addrs(want...)})
	return err
}

func TestLeaseGivesOneAddressOfEachFamilyAndTheSameAgain(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{
		Pools:    prefixes("10.0.0.0/24", "fd00::/64"),
		Reserved: prefixes("10.0.0.1/32", "fd00::1/128"),
	})
	first := lease(t, a, "net/a/eth0")
	if want := addrs("10.0.0.2", "fd00::2"); !reflect.DeepEqual(first, want) {
		t.Errorf("leased %v, want %v", first, want)
	}
	if again := lease(t, a, "net/a/eth0"); !reflect.DeepEqual(again, first) {
		t.Errorf("second time %v, first time %v", again, first)
	}
	if other := lease(t, a, "net/b/eth0"); !reflect.DeepEqual(other, addrs("10.0.0.3", "fd00::3")) {
		t.Errorf("another owner got %v", other)
	}
}

func TestLeaseSpreads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	o := Options{Pools: prefixes("10.0.0.0/29"), CoolDown: -1}
	a := open(t, path, o)
	var got []string
	for i := range 8 {
		if i == 3 { // the place is kept across restarts
			a.Close()
			a = open(t, path, o)
		}
		got = append(got, lease(t, a, "x")[0].String())
		release(t, a, "x")
	}
	want := "[10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.1 10.0.0.2]"
	if fmt.Sprint(got) != want {
		t.Errorf("leased %v, want %v", got, want)
	}
}

func TestLeaseRequested(t *testing.T) {
	c := newClock()
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{
		Pools:    prefixes("10.0.0.0/24", "fd00::/64"),
		Reserved: prefixes("10.0.0.1/32", "10.0.0.128/25"),
		Now:      c.now,
	})
	if got := lease(t, a, "a", "10.0.0.7"); !reflect.DeepEqual(got, addrs("10.0.0.7", "fd00::1")) {
		t.Errorf("one family requested: %v", got)
	}
	if got := lease(t, a, "a", "10.0.0.7"); !reflect.DeepEqual(got, addrs("10.0.0.7", "fd00::1")) {
		t.Errorf("requested again: %v", got)
	}
	if got := lease(t, a, "b", "fd00::b", "::ffff:10.0.0.11", "10.0.0.12"); !reflect.DeepEqual(got, addrs("10.0.0.11", "10.0.0.12", "fd00::b")) {
		t.Errorf("three requested: %v", got)
	}
	refused(t, leaseError(a, "a", "10.0.0.8"), ErrOtherLease, "10.0.0.7", "10.0.0.8")
	refused(t, leaseError(a, "c", "10.0.0.7"), ErrInUse, "10.0.0.7 is leased by a")
	refused(t, leaseError(a, "c", "10.0.1.7"), ErrNotInPool, "10.0.1.7", "10.0.0.0/24, fd00::/64")
	for _, r := range []string{"10.0.0.0", "10.0.0.1", "10.0.0.200", "10.0.0.255", "fd00::"} {
		refused(t, leaseError(a, "c", r), ErrReserved, r)
	}
	refused(t, leaseError(a, "c", "fd00::5%eth0"), ErrInvalid, "zone")
	refused(t, leaseError(a, "c", "10.0.0.9", "10.0.0.9"), ErrInvalid, "twice")
	refused(t, leaseError(a, "c", "10.0.0.9", "10.0.0.7"), ErrInUse)
	refused(t, leaseError(a, "", "10.0.0.9"), ErrInvalid, "empty")
	refused(t, leaseError(a, strings.Repeat("x", OwnerMax+1)), ErrInvalid, "1025")
	lease(t, a, "d", "10.0.0.9") // what was refused left nothing

	release(t, a, "a")
	c.step(10 * time.Second)
	err := leaseError(a, "c", "10.0.0.7")
	refused(t, err, ErrCooling, "10.0.0.7", "free in 50 s")
	if wait, ok := RetryAfter(err); !ok || wait != 50*time.Second {
		t.Errorf("RetryAfter = %v, %v", wait, ok)
	}
	c.step(50 * time.Second)
	lease(t, a, "c", "10.0.0.7")
}

func TestCanceledLeaseLeavesNothing(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/24")})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := a.Lease(ctx, "a", Request{})
	refused(t, err, context.Canceled, "lease for a")
	if _, ok, err := a.Lookup("a"); ok || err != nil {
		t.Errorf("Lookup = %v, %v", ok, err)
	}
}

func TestExhaustion(t *testing.T) {
	c := newClock()
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/30", "fd00::/64"), Now: c.now})
	lease(t, a, "a")
	lease(t, a, "b")
	err := leaseError(a, "c")
	refused(t, err, ErrExhausted, "IPv4", "10.0.0.0/30", "2 in use")
	if _, ok := RetryAfter(err); ok {
		t.Error("RetryAfter gives hope where nothing cools down")
	}
	release(t, a, "a")
	c.step(time.Second)
	release(t, a, "b")
	c.step(9500 * time.Millisecond)
	err = leaseError(a, "c")
	refused(t, err, ErrExhausted, "2 cooling", "next free in 50 s")
	if wait, ok := RetryAfter(err); !ok || wait != 49500*time.Millisecond {
		t.Errorf("RetryAfter = %v, %v", wait, ok)
	}
	// The other family's pool was not touched by what failed.
	if got := usage(t, a)[1]; got.Used != 0 || got.Cooling != 2 {
		t.Errorf("IPv6 usage %+v", got)
	}
	c.step(49500 * time.Millisecond)
	if got := lease(t, a, "c"); got[0] != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("leased %v", got)
	}
	refused(t, leaseError(open(t, filepath.Join(t.TempDir(), "db"), Options{}), "a"), ErrExhausted, "no pools")
}

func TestSeveralPoolsOfAFamilyFillInOrder(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.1.0/31", "10.0.0.0/30")})
	var got []string
	for i := range 4 {
		got = append(got, lease(t, a, fmt.Sprint(i))[0].String())
	}
	if want := "[10.0.1.1 10.0.1.0 10.0.0.1 10.0.0.2]"; fmt.Sprint(got) != want {
		t.Errorf("leased %v, want %v", got, want)
	}
	refused(t, leaseError(a, "x"), ErrExhausted, "10.0.1.0/31, 10.0.0.0/30", "4 in use")
}

func usage(t testing.TB, a *Allocator) []PoolUsage {
	t.Helper()
	u, err := a.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUsage(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{
		Pools:    prefixes("10.0.0.0/24", "fd00::/64", "fd01::5/128"),
		Reserved: prefixes("10.0.0.1/32", "10.0.0.16/28", "10.0.0.20/32", "192.168.0.0/16"),
	})
	lease(t, a, "a")
	lease(t, a, "b")
	release(t, a, "a")
	want := []PoolUsage{
		{Pool: netip.MustParsePrefix("10.0.0.0/24"), Size: 254 - 17, Used: 1, Cooling: 1},
		{Pool: netip.MustParsePrefix("fd00::/64"), Size: 1<<64 - 1, Used: 1, Cooling: 1},
		{Pool: netip.MustParsePrefix("fd01::5/128"), Size: 1},
	}
	if got := usage(t, a); !reflect.DeepEqual(got, want) {
		t.Errorf("usage %+v\n want %+v", got, want)
	}
}

func TestReleaseAndGC(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/24")})
	for _, o := range []string{Owner("net", "a", "eth0"), Owner("net", "b", "eth0"), Owner("net", "b", "eth1"), Owner("net2", "a", "eth0")} {
		lease(t, a, o)
	}
	removed, err := a.GC(NetworkPrefix("net"), []string{Owner("net", "b", "eth0"), Owner("net", "gone", "eth0")})
	if err != nil {
		t.Fatal(err)
	}
	if len(removed) != 2 || removed[0].Owner != "net/a/eth0" || removed[1].Owner != "net/b/eth1" {
		t.Errorf("removed %v", removed)
	}
	if removed, err = a.GC(NetworkPrefix("net"), []string{Owner("net", "b", "eth0")}); len(removed) != 0 || err != nil {
		t.Errorf("second GC removed %v, %v", removed, err)
	}
	l, err := a.Release("net2/a/eth0")
	if err != nil || !reflect.DeepEqual(l.Addresses, addrs("10.0.0.4")) {
		t.Errorf("released %v, %v", l, err)
	}
	if l, err = a.Release("net2/a/eth0"); err != nil || l.Owner != "" {
		t.Errorf("second release %v, %v", l, err)
	}
	if u := usage(t, a)[0]; u.Used != 1 || u.Cooling != 3 {
		t.Errorf("usage %+v", u)
	}
}

func TestFailedWriteChangesNothing(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/16"), CoolDown: -1})
	lease(t, a, "a")
	full := errors.New("no space left on device")
	a.mu.Lock()
	err := a.update(func(tx *bolt.Tx) error {
		if err := putJSON(tx.Bucket(bucketLeases), "b", leaseRecord{Addresses: addrs("10.0.0.2")}); err != nil {
			return err
		}
		return full
	})
	a.mu.Unlock()
	refused(t, err, full, "write lease database")
	if _, ok, err := a.Lookup("b"); ok || err != nil {
		t.Errorf("Lookup of the failed lease = %v, %v", ok, err)
	}
	if got := lease(t, a, "c"); !reflect.DeepEqual(got, addrs("10.0.0.2")) {
		t.Errorf("next lease %v", got)
	}
}

// A commit that fails late may be on disk all the same.
func TestFailedWriteThatReachedTheDisk(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/24")})
	err := a.db.Update(func(tx *bolt.Tx) error {
		return putJSON(tx.Bucket(bucketLeases), "a", leaseRecord{Addresses: addrs("10.0.0.1")})
	})
	if err != nil {
		t.Fatal(err)
	}
	a.stale = true
	if got := lease(t, a, "b"); !reflect.DeepEqual(got, addrs("10.0.0.2")) {
		t.Errorf("b leased %v", got)
	}
	if got := lease(t, a, "a"); !reflect.DeepEqual(got, addrs("10.0.0.1")) {
		t.Errorf("a leased %v", got)
	}
}

func TestClosed(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/24")})
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	_, errLease := a.Lease(context.Background(), "a", Request{})
	_, errRelease := a.Release("a")
	_, errGC := a.GC("", nil)
	_, errUsage := a.Usage()
	_, errLeases := a.Leases()
	_, errOrphans := a.Orphans()
	_, _, errLookup := a.Lookup("a")
	for i, err := range []error{errLease, errRelease, errGC, errUsage, errLeases, errOrphans, errLookup} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func TestConcurrentLeases(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "db"), Options{Pools: prefixes("10.0.0.0/24"), CoolDown: -1})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				owner := fmt.Sprintf("%d-%d", i, j)
				if _, err := a.Lease(context.Background(), owner, Request{}); err != nil {
					t.Error(err)
				}
				if j%2 == 0 {
					if _, err := a.Release(owner); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if u := usage(t, a)[0]; u.Used != 40 {
		t.Errorf("usage %+v", u)
	}
}

func TestOwner(t *testing.T) {
	n, c, i, ok := ParseOwner(Owner("net", "abc", "eth0"))
	if !ok || n != "net" || c != "abc" || i != "eth0" {
		t.Errorf("ParseOwner = %q %q %q %v", n, c, i, ok)
	}
	for _, bad := range []string{"", "a", "a/b", "a/b/c/d", "/b/c", "a//c", "a/b/"} {
		if _, _, _, ok := ParseOwner(bad); ok {
			t.Errorf("ParseOwner(%q) is ok", bad)
		}
	}
}
