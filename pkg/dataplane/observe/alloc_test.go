// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestEmitDoesNotAllocate(t *testing.T) {
	e := newTestEvents(nil)
	w := e.Worker(0)
	emit := func() {
		r := sampleRecord
		w.Emit(&r)
	}
	if n := testing.AllocsPerRun(1000, emit); n != 0 {
		t.Errorf("%v allocations with nobody watching", n)
	}
	// The hub has nothing to do with records that the filter keeps out, and
	// its own allocations are not counted as the worker's.
	s := mustSubscribe(t, e, &dataplanev1.Filter{Verdict: "audit"})
	g := w.ring.Load()
	s.Close()
	w.ring.Store(g)
	if n := testing.AllocsPerRun(10000, emit); n != 0 {
		t.Errorf("%v allocations while somebody watches", n)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	m, err := CompileFilter(&dataplanev1.Filter{
		Port: "p2", Address: "10.0.0.2/32", Protocol: 6, L4Port: 80, Verdict: "deny", Reason: "policy",
	}, fixedNames{}, fakeReasons)
	if err != nil {
		t.Fatal(err)
	}
	r := sampleRecord
	if n := testing.AllocsPerRun(1000, func() {
		if !m.Match(&r) || m.MatchFlow(&r.Tuple, &r.Tuple, 1, 2) {
			t.Error("wrong match")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// fixedNames names ports without making strings.
type fixedNames struct{}

func (fixedNames) Port(id uint32) string { return [...]string{"", "p1", "p2"}[id] }
func (fixedNames) Rule(*Record) string   { return "rule" }

func TestDeliverDoesNotAllocate(t *testing.T) {
	c := newTestCaptures(nil)
	tap := c.Tap(0)
	payload := make([]byte, 1856)
	var chain [34][]byte
	for i := range chain {
		chain[i] = payload
	}
	deliver := func() {
		if tap.Want(1) {
			tap.Deliver(1, true, 1, uint32(len(chain)*len(payload)), chain[:]...)
		}
		tap.Deliver(1, false, 1, 1856, payload)
	}
	if n := testing.AllocsPerRun(1000, deliver); n != 0 {
		t.Errorf("%v allocations with nobody capturing", n)
	}
	s := mustOpen(t, c, "p1", 0)
	if n := testing.AllocsPerRun(1000, deliver); n != 0 {
		t.Errorf("%v allocations into a full ring", n)
	}
	g := s.rings[0]
	if n := testing.AllocsPerRun(1000, func() {
		g.head.Store(g.tail.Load())
		deliver()
	}); n != 0 {
		t.Errorf("%v allocations into a ring with room", n)
	}
}
