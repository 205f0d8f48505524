// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"testing"

	"netio.dev/netio/pkg/dataplane/packet"
)

// TestDeletePort: a port's connections go oldest first, and nobody else's.
func TestDeletePort(t *testing.T) {
	tab := open(t, Options{Capacity: 64})
	want := map[Key]Key{}
	for n := range uint32(20) {
		orig := flowKey(n, packet.ProtoUDP)
		reply := orig.Reply()
		if _, err := tab.Insert(&orig, &reply, 1+n%2, n, 1000); err != nil {
			t.Fatal(err)
		}
		want[orig] = reply
	}
	check(t, tab, want)
	forget := func(numbers ...uint32) {
		for _, n := range numbers {
			delete(want, flowKey(n, packet.ProtoUDP))
		}
	}
	if n := tab.DeletePort(1, 3); n != 3 {
		t.Errorf("%d deleted, want 3", n)
	}
	forget(0, 2, 4)
	check(t, tab, want)
	if n := tab.DeletePort(1, 100); n != 7 {
		t.Errorf("%d deleted, want 7", n)
	}
	forget(6, 8, 10, 12, 14, 16, 18)
	check(t, tab, want)
	for _, port := range []uint32{0, 1, 3, 1 << 20} {
		if n := tab.DeletePort(port, 100); n != 0 {
			t.Errorf("port %d: %d deleted, want none", port, n)
		}
	}
	check(t, tab, want)
}
