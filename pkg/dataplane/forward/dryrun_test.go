// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
)

var digestSeed = maphash.MakeSeed()

// digest is a number for all that a worker remembers and counts.
func (w *Worker) digest() uint64 {
	var h maphash.Hash
	h.SetSeed(digestSeed)
	w.conns.Each(0, w.conns.Cap(), func(r conntrack.Ref, c *conntrack.Conn) {
		maphash.WriteComparable(&h, r)
		maphash.WriteComparable(&h, *c)
	})
	h.Write(unsafe.Slice((*byte)(unsafe.Pointer(&w.frags)), unsafe.Sizeof(w.frags)))
	for _, c := range w.ports {
		if c != nil {
			maphash.WriteComparable(&h, *c)
		}
	}
	w.affinity.mu.Lock()
	defer w.affinity.mu.Unlock()
	for _, k := range slices.SortedFunc(maps.Keys(w.affinity.known), func(a, b affinityKey) int {
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}) {
		maphash.WriteComparable(&h, k)
		maphash.WriteComparable(&h, w.affinity.known[k])
	}
	if w.peers != nil {
		for i := range w.peers.homes.slots {
			maphash.WriteComparable(&h, w.peers.homes.slots[i].Load())
		}
		for i := range w.peers.rings {
			for j := range w.peers.rings[i] {
				maphash.WriteComparable(&h, w.peers.rings[i][j].put)
			}
		}
	}
	st := w.Stats
	st.Kicks = 0 // of turns without a packet, too
	fmt.Fprint(&h, st, w.stock, w.queue, w.conns.Len(), w.ipID, w.told, w.asked, w.carry)
	return h.Sum64()
}

// rehearsed is a packet as a test's device gives it to the forwarder.
func rehearsed(rx memdev.Rx) rehearsal {
	n := min(cmp.Or(rx.Room, abi.NbufRoom), abi.NbufRoom, len(rx.Data))
	var nb abi.Nbuf
	if rx.Park > 0 && rx.Park < len(rx.Data) {
		n = min(n, rx.Park)
		nb.Flags |= abi.NbParked
	}
	if rx.Tune != nil {
		rx.Tune(&nb)
	}
	return rehearsal{port: rx.Port, nb: nb, data: rx.Data[:n], total: len(rx.Data)}
}

// try rehearses a packet at a lane, to which another one may have handed it over, and
// wants nothing changed by it.
func (b *bed) try(w *Worker, rx memdev.Rx, handed bool) outcome {
	b.Helper()
	if b.area == nil {
		var err error
		if b.area, err = newRehearsalArea(); err != nil {
			b.Fatal(err)
		}
	}
	before := w.digest()
	r := rehearsed(rx)
	r.handed = handed
	o, err := w.rehearse(b.area, r)
	if err != nil {
		b.Fatal(err)
	}
	if w.digest() != before {
		b.Fatalf("a dry run has changed something:\n%s", o)
	}
	return o
}

// foretold wants that what a dry run has said is what then became of the packet.
func (b *bed) foretold(o outcome, sent []memdev.Packet, reasons []string) {
	b.Helper()
	var want []string
	if o.reason != ReasonNone {
		want = []string{o.reason.String()}
	}
	if !slices.Equal(reasons, want) {
		b.Fatalf("dropped for %v, the dry run said %v:\n%s", reasons, want, o)
	}
	if last := slices.IndexFunc(o.steps, func(s step) bool { return s.verdict == "drop" }); (last >= 0) != (o.reason != ReasonNone) {
		b.Fatalf("dropped for %v, and the steps say\n%s", reasons, o)
	}
	if len(sent) != len(o.sent) {
		b.Fatalf("%d packets were sent, the dry run said %d:\n%s", len(sent), len(o.sent), o)
	}
	for i, s := range o.sent {
		got := sent[i].Data
		if sent[i].Port != s.nb.EPort || len(got) < len(s.data) || !bytes.Equal(got[:len(s.data)], s.data) ||
			sent[i].Nbuf.Flags != s.nb.Flags || sent[i].Nbuf.Total != s.nb.Total {
			b.Fatalf("sent to port %d\n%s\nthe dry run said port %d\n%s\n%s", sent[i].Port, describePacket(got), s.nb.EPort, describePacket(s.data), o)
		}
	}
}

func (o outcome) String() string {
	var s strings.Builder
	for _, st := range o.steps {
		fmt.Fprintln(&s, "  "+st.String())
	}
	return s.String()
}

func (s step) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", s.stage, s.verdict, s.rule)) + ": " + s.detail
}
