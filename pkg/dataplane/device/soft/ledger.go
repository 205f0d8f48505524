// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Ledger is what an instance has handed out, by its private records: those that
// decide, whatever the owner's counters say.
type Ledger struct {
	// Nbufs that the device does not hold: with the owner or on a ring.
	Nbufs int
	// Slots of parked payload that such nbufs have.
	Slots int
	// Ports that are there, being added or being removed.
	Ports int
}

// ReadLedger reads the ledger of a running instance from its state, the file
// that the Keeper has under the name "state". Nothing is changed. While packets
// flow the numbers are those of no one moment. Errors: ErrState.
func ReadLedger(state *os.File) (Ledger, error) {
	info, err := state.Stat()
	if err != nil {
		return Ledger{}, fmt.Errorf("size of the device's state: %w", err)
	}
	if info.Size() == 0 {
		return Ledger{}, fmt.Errorf("%w: %s is empty", ErrState, state.Name())
	}
	mem, err := unix.Mmap(int(state.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return Ledger{}, fmt.Errorf("map the device's state: %w", err)
	}
	defer unix.Munmap(mem)
	s, err := openState(mem)
	if err != nil {
		return Ledger{}, err
	}
	return s.ledger(), nil
}

func (s *state) ledger() Ledger {
	var l Ledger
	for i := range s.nbufs {
		if atomic.LoadUint32(&s.nbufs[i].owner) == ownDevice {
			continue
		}
		l.Nbufs++
		if atomic.LoadUint32(&s.nbufs[i].slot) != 0 {
			l.Slots++
		}
	}
	for i := range s.ports {
		if atomic.LoadUint32(&s.ports[i].phase) != phaseFree {
			l.Ports++
		}
	}
	return l
}
