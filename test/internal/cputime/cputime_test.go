// SPDX-License-Identifier: Apache-2.0

package cputime

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       time.Duration
		wantErr    bool
	}{
		{"all fields", "cpu  100 20 30 4000 500 6 7 80 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n", 1630 * time.Millisecond, false},
		{"no guest fields", "cpu 1 1 1 9 9 1 1 9\n", 50 * time.Millisecond, false},
		{"empty", "", 0, true},
		{"another line first", "intr 1 2 3 4 5 6 7 8\n", 0, true},
		{"not a number", "cpu 1 x 1 9 9 1 1 9\n", 0, true},
	} {
		got, err := parseStat(c.text)
		if got != c.want || (err != nil) != c.wantErr {
			t.Errorf("%s: %v, %v; want %v, error %v", c.name, got, err, c.want, c.wantErr)
		}
	}
}

func TestTimeGrows(t *testing.T) {
	machine, err := Machine()
	if err != nil {
		t.Fatal(err)
	}
	own, err := Processes(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// Work until both clocks have seen it; a clock that stands still ends in
	// the test's deadline.
	for {
		machine2, err := Machine()
		if err != nil {
			t.Fatal(err)
		}
		own2, err := Processes(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if machine2 > machine && own2 > own {
			return
		}
	}
}

func TestNoSuchProcess(t *testing.T) {
	if _, err := Processes(1 << 30); err == nil {
		t.Error("no error")
	}
}
