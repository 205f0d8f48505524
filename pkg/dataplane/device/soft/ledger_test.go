// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestReadLedger(t *testing.T) {
	c := Config{Name: "ledger", Lanes: 1, Nbufs: 64, Ports: 8, ParkedSlots: 4}
	m, err := newMemory(c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	s, err := initState(m.state, c)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want Ledger) {
		t.Helper()
		if got, err := ReadLedger(m.stateFile); got != want || err != nil {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	check(Ledger{})
	s.nbufs[3].owner = ownProcess
	s.nbufs[63].owner, s.nbufs[63].slot = ownTaken, 1
	s.nbufs[7].slot = 2 // of before
	s.ports[5].phase = phaseRemoving
	check(Ledger{Nbufs: 2, Slots: 1, Ports: 1})
}

func TestReadLedgerOfSomethingElse(t *testing.T) {
	for _, text := range []string{"", "short", string(make([]byte, 3*4096))} {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := ReadLedger(f); !errors.Is(err, ErrState) {
			t.Errorf("%d bytes: %v, want ErrState", len(text), err)
		}
	}
}
