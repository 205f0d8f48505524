// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
)

// FuzzVector gives the worker InQ entries and nbufs of any content. It must
// not panic, and every nbuf that it was given must be in one place afterwards, as
// often as it was given: on its way to the OutQ, in the stock, or carried over.
//
// The input is a program: entries and bytes to put in nbufs, between runs.
func FuzzVector(f *testing.F) {
	const more = abi.EntMore >> 24
	entry := func(action, idx byte) []byte { return []byte{0, action, idx} }
	program := func(parts ...[]byte) (p []byte) {
		for _, x := range parts {
			p = append(p, x...)
		}
		return p
	}
	run := []byte{4}
	f.Add(program(entry(abi.InRX, 0), entry(abi.InRX, 1), run, entry(abi.InRX, 2), run))
	f.Add(program(entry(abi.InRX|more, 0), entry(abi.InRX|more, 1), run, entry(abi.InRX, 2), run))
	f.Add(program(entry(abi.InRX|more, 0), entry(abi.InGrant, 1), entry(abi.InDenied, 1), entry(abi.InDrops, 9), run))
	f.Add(program(entry(abi.InRX, 0), entry(abi.InRX, 0), entry(abi.InRX, 70), entry(abi.InOwner, 0), run, run))
	f.Add(program([]byte{1, 0, 8, 0xff, 0xff, 0xff, 0xff}, entry(abi.InRX, 0), run))        // off, len
	f.Add(program([]byte{1, 0, 12, 0xff, 0xff, 0xff, 0x00}, entry(abi.InRX, 0), run))       // total
	f.Add(program([]byte{1, 0, 16, 0x01, 0x00, 0x01, 0x00}, entry(abi.InRX, 0), run))       // partial, GSO
	f.Add(program([]byte{1, 3, abi.NbufData, 0x46, 0, 5, 220}, entry(abi.InRX, 3), run))    // options
	f.Add(program([]byte{1, 4, abi.NbufData + 4, 0, 0, 0x20, 0}, entry(abi.InRX, 4), run))  // first fragment
	f.Add(program([]byte{2}, entry(abi.InRX, 5), run, []byte{3}, entry(abi.InRX, 6), run))  // other tables, time
	f.Add(program(entry(abi.InRX, 8), entry(abi.InRX, 9), entry(abi.InRX, 10), run))        // errors
	f.Add(program(entry(abi.InRX, 11), entry(abi.InRX, 12), entry(abi.InFetched, 13), run)) // too big, cut
	f.Add(program(entry(abi.InRX|more, 14), entry(abi.InRX|more, 15), entry(abi.InRX, 16), run))

	area := memdev.New(f, memdev.Config{Nbufs: 64, Lenient: true})
	small := fullSnapshot()
	small.Ports[1].Mtu = 1280
	open := podNet(func(s *dataplanev1.Snapshot) {
		s.Settings.MaxConnectionsPerPort = 4
		s.SourceNats = []*dataplanev1.SourceNat{{Name: "masq", Source: "10.0.0.0/24", Addresses: []string{"192.0.2.1"}, FirstPort: 2000, LastPort: 2001}}
	})
	var lead []byte
	for _, s := range []spec{
		udp("10.0.0.1", "10.0.0.2"), udp("fd00::1", "fd00::2"), tcp("10.0.0.1", "10.0.0.2", 2), tcp("fd00::1", "fd00::2", 2),
		udp("10.0.0.1", "10.96.0.1").with(func(s *spec) { s.dport, s.partial = 80, true }),
		udp("10.0.0.1", "198.51.100.7"), udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.off, s.id = 8, 3 }),
		echo("10.0.0.1", "10.0.0.254", 1), udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.ttl = 1 }),
		icmpError(udp("10.0.0.1", "10.0.0.2"), 0, 0).with(func(s *spec) { s.src, s.dst = "10.0.0.1", "10.0.0.2" }),
		udp("10.0.0.1", "10.0.77.1"), udp("fd00::1", "fd00::2").with(func(s *spec) { s.size = 1500 }),
		udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.size = 1500 }), udp("10.0.0.1", "10.0.0.2"),
	} {
		b := s.bytes()
		lead = binary.BigEndian.AppendUint16(lead, uint16(len(b)))
		lead = append(lead, b...)
	}

	fw, err := New(Options{Device: area, MaxConnections: 16})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(fw.Close)
	fw.apply(f, open)
	// Somebody watches and captures.
	events, err := fw.Events.Subscribe(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(events.Close)
	capture, err := fw.Captures.Open("a", 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(capture.Close)

	f.Fuzz(func(t *testing.T, program []byte) {
		b, w := area, fw.workers[0]
		w.conns.Each(0, w.conns.Cap(), func(r conntrack.Ref, _ *conntrack.Conn) { w.conns.Delete(r) })
		w.frags, w.carry, w.overlong, w.lost = fragments{}, 0, false, false
		w.queue, w.stock = w.queue[:0], w.stock[:0]
		clear(w.ports)
		now := time.Hour
		w.clock = func() time.Duration { return now }
		w.swept, w.tapped = now, true
		fw.apply(t, small)
		// Nbufs hold packets to begin with, one kind after the other.
		for i, rest := uint32(0), lead; i < 64; i++ {
			n := int(binary.BigEndian.Uint16(rest))
			copy(b.Area().NbufBytes(i)[abi.NbufData:], rest[2:2+n])
			*b.Area().Nbuf(i) = abi.Nbuf{IPort: 1, Off: abi.NbufData, Len: uint16(n), Total: uint32(n)}
			if rest = rest[2+n:]; len(rest) == 0 {
				rest = lead
			}
		}
		// have counts how often the worker was given an nbuf.
		have := map[uint32]int{}
		for i := range uint32(8) {
			w.stock = append(w.stock, 63-i)
			have[63-i]++
		}
		n := 0 // entries in w.ents behind those that are carried over
		run := func() {
			if n == 0 {
				return
			}
			w.tick()
			w.vector(w.carry + n)
			n = 0
			left := map[uint32]int{}
			for _, e := range w.queue {
				left[abi.Param(e)]++
				if a := abi.Action(e); a != abi.OutTX && a != abi.OutFree {
					t.Fatalf("action %d on the OutQ", a)
				}
				have[abi.Param(e)]--
			}
			if k := len(w.queue); k > 0 && w.queue[k-1]&abi.EntMore != 0 {
				t.Fatal("a chain without its end was sent")
			}
			w.queue = w.queue[:0]
			held := map[uint32]int{}
			for _, i := range w.stock {
				held[i]++
			}
			for _, e := range w.ents[:w.carry] {
				if abi.Param(e) < 64 {
					held[abi.Param(e)]++
				}
			}
			for i := range uint32(128) {
				if have[i] != held[i] {
					t.Fatalf("nbuf %d: %d are held, want %d; %d were handed in", i, held[i], have[i], left[i])
				}
			}
		}
		for len(program) > 0 {
			op := program[0]
			program = program[1:]
			switch op % 6 {
			case 0: // an entry
				if len(program) < 2 {
					return
				}
				a, idx := uint32(program[0]&^0x80), uint32(program[1]%72)
				program = program[2:]
				if w.carry+n == vectorSize {
					run()
				}
				switch a &^ (abi.EntMore >> 24) {
				case abi.InRX, abi.InFetched, abi.InGrant:
					if idx < 64 {
						have[idx]++
					}
				}
				w.ents[w.carry+n] = a<<24 | idx
				n++
			case 1: // four bytes of an nbuf
				if len(program) < 6 {
					return
				}
				at := int(program[1])
				copy(b.Area().NbufBytes(uint32(program[0] % 64))[at:], program[2:6])
				program = program[6:]
			case 2:
				fw.apply(t, open)
			case 3:
				now += 20 * time.Second
			case 4:
				run()
			case 5:
				fw.apply(t, small)
			}
		}
		run()
	})
}
