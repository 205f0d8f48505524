// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const crashEnv = "NETIO_IPAM_CRASH_DB"

func crashOptions() Options {
	return Options{Pools: prefixes("10.0.0.0/26", "fd00::/64"), CoolDown: -1}
}

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		leaseUntilKilled(path)
	}
	os.Exit(m.Run())
}

// leaseUntilKilled leases and releases at random and says on stdout what it is
// about to do, and what has been done.
func leaseUntilKilled(path string) {
	a, err := Open(path, crashOptions())
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for {
		owner := fmt.Sprintf("o%d", rand.IntN(40))
		if rand.IntN(2) == 0 {
			fmt.Println("lease", owner)
			l, err := a.Lease(context.Background(), owner, Request{})
			if err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			fmt.Println("leased", owner, l.Addresses[0], l.Addresses[1])
		} else {
			fmt.Println("release", owner)
			if _, err := a.Release(owner); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			fmt.Println("released", owner)
		}
	}
}

// A process is killed while it leases, many times over one database: all that
// it acknowledged is there, and only what it was doing may differ.
func TestKilledWhileLeasing(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "db")
	acked := make(map[string][]netip.Addr)
	for round := range rounds {
		doing := runUntilKilled(t, path, acked, rand.IntN(40))
		a, err := Open(path, crashOptions())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		leases, err := a.Leases()
		if err != nil {
			t.Fatal(err)
		}
		there := make(map[string][]netip.Addr)
		holder := make(map[netip.Addr]string)
		for _, l := range leases {
			there[l.Owner] = l.Addresses
			for _, addr := range l.Addresses {
				if other, taken := holder[addr]; taken {
					t.Errorf("round %d: %s is leased by %s and %s", round, addr, other, l.Owner)
				}
				holder[addr] = l.Owner
			}
		}
		for owner, want := range acked {
			if got := there[owner]; fmt.Sprint(got) != fmt.Sprint(want) && owner != doing {
				t.Errorf("round %d: %s has %v, was told %v", round, owner, got, want)
			}
		}
		for owner := range there {
			if _, ok := acked[owner]; !ok && owner != doing {
				t.Errorf("round %d: %s has a lease that it never asked for or gave back", round, owner)
			}
		}
		acked = there
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runUntilKilled kills a leasing process after a number of its lines, records
// in acked what it acknowledged, and returns the owner of its open operation.
func runUntilKilled(t *testing.T, path string, acked map[string][]netip.Addr, lines int) (doing string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(out)
	for n := 0; scan.Scan(); n++ {
		if n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			// What is in the pipe was still said: read on to its end.
		}
		f := strings.Fields(scan.Text())
		switch {
		case len(f) == 2 && (f[0] == "lease" || f[0] == "release"):
			doing = f[1]
		case len(f) == 4 && f[0] == "leased":
			acked[f[1]] = addrs(f[2], f[3])
			doing = ""
		case len(f) == 2 && f[0] == "released":
			delete(acked, f[1])
			doing = ""
		default:
			t.Errorf("the leasing process says %q", scan.Text())
		}
	}
	cmd.Wait() // "signal: killed"
	return doing
}
