// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/packet"
)

// contents are the bytes of a table that an overlay must leave alone.
func contents(t *Table) []byte {
	b := slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&t.slab[0])), len(t.slab)*int(unsafe.Sizeof(Conn{}))))
	b = append(b, t.index.bytes()...)
	return fmt.Appendf(b, "%v %d %d %v %d %v", t.free, t.high, t.live, t.ports, t.sampler, t.store.high())
}

// TestOverlay makes, finds and forgets connections over a table as a packet does,
// and then does the same to the table itself: both have the same outcome, and the
// first leaves nothing behind.
func TestOverlay(t *testing.T) {
	for _, limit := range []int{64, 20} {
		for seed := range uint64(12) {
			rnd := rand.New(rand.NewPCG(seed, uint64(limit)))
			tab := open(t, Options{Capacity: 64, PerPort: limit})
			for now := range uint32(400) {
				k := flowKey(rnd.Uint32N(120), 6)
				r := k.Reply()
				if rnd.IntN(3) == 0 { // NAT
					r = MakeKey(packet.Tuple{Src: packet.Addr4(rnd.Uint32N(40)), SrcPort: 7, Proto: 6})
				}
				owner, state, remove := rnd.Uint32N(4)+1, []State{StateEstablished, StateSynSent}[rnd.IntN(2)], rnd.IntN(4) == 0
				// packet does what one packet does: it may forget the connection that it
				// finds, and make one.
				packet := func(tab *Table) (out []any) {
					ref := tab.Lookup(&k)
					out = append(out, ref, tab.Has(&k), tab.Has(&r))
					if ref != NoRef {
						c := tab.Conn(ref)
						c.Touch(now)
						out = append(out, c.Dirs, c.State(), c.Owner)
						if !remove {
							return out
						}
						tab.Delete(ref)
						out = append(out, tab.Lookup(&k), tab.Has(&r))
					}
					ref, err := tab.Insert(&k, &r, owner, now, 1000)
					if err == nil {
						c := tab.Conn(ref)
						c.SetState(state)
						out = append(out, tab.Lookup(&k), tab.Lookup(&r), c.Dirs, tab.Has(&k))
					}
					return append(out, ref, errors.Is(err, ErrFull), errors.Is(err, ErrPortFull), errors.Is(err, ErrClash))
				}
				before := contents(tab)
				over, err := tab.Overlay()
				if err != nil {
					t.Fatal(err)
				}
				got := fmt.Sprint(packet(over))
				if err := over.Close(); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(contents(tab), before) {
					t.Fatalf("limit %d seed %d step %d: the table below has changed", limit, seed, now)
				}
				if want := fmt.Sprint(packet(tab)); got != want {
					t.Fatalf("limit %d seed %d step %d:\nover  %s\nreal  %s", limit, seed, now, got, want)
				}
			}
		}
	}
}
