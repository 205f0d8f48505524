// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
)

// big is a UDP packet between the pods of a bed with jumbo frames.
func big(src, dst string, size int) spec {
	return spec{src: src, dst: dst, sport: 1, dport: 2, size: size}
}

func TestChains(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		for name, room := range map[string]int{"full nbufs": abi.NbufRoom, "small pieces": 300, "as many entries as a chain may have": 5000/(chainMax-1) + 1} {
			t.Run(name, func(t *testing.T) {
				b := newBed(t, jumboNet())
				s := big(ip("a"), ip("b"), 5000)
				for range 2 { // a first packet, and one of a known flow
					sent := b.receive(b.rx("a", s).in(room))
					if len(sent) != 1 {
						t.Fatalf("%d packets came out, want one", len(sent))
					}
					b.same(sent[0], "b", s.hop())
					if want := (len(s.bytes()) + room - 1) / room; sent[0].Nbufs != want {
						t.Errorf("it came in %d nbufs, want the %d that it was received in", sent[0].Nbufs, want)
					}
				}
			})
		}
		t.Run("dropped whole", func(t *testing.T) {
			b := newBed(t, jumboNet())
			s := big(ip("b"), ip("a"), 5000)
			if sent := b.dropped(b.rx("a", s).in(1000), ReasonSpoofed); len(sent) != 0 {
				t.Errorf("%d packets came out", len(sent))
			}
			if freed := b.dev.Counts().Freed; freed != (len(s.bytes())+999)/1000 {
				t.Errorf("%d nbufs were freed", freed)
			}
		})
	})
	t.Run("at the vector's edge, whatever is before it", func(t *testing.T) {
		for lead := vectorSize - chainMax - 2; lead <= vectorSize+2; lead++ {
			b := newBedOn(t, jumboNet(), memdev.Config{Nbufs: 1024}, 1024)
			small := b.rx("a", udp("10.0.0.1", "10.0.0.2"))
			s := big("10.0.0.1", "10.0.0.2", 5000)
			var in []memdev.Rx
			for range lead {
				in = append(in, small.Rx)
			}
			in = append(in, b.rx("a", s).in(500).Rx, small.Rx)
			b.dev.Receive(in...)
			b.settle()
			sent := b.dev.Sent()
			if len(sent) != len(in) {
				t.Fatalf("%d packets came out, want %d", len(sent), len(in))
			}
			b.same(sent[lead], "b", s.hop())
			b.same(sent[lead+1], "b", udp("10.0.0.1", "10.0.0.2").hop())
		}
	})
	t.Run("in two batches", func(t *testing.T) {
		b := newBed(t, jumboNet())
		s := big("10.0.0.1", "10.0.0.2", 5000)
		idx := b.lay("a", s.bytes(), 1000)
		for i, x := range idx {
			e := abi.Entry(abi.InRX, x)
			if i < len(idx)-1 {
				e |= abi.EntMore
			}
			if sent := b.dev.Sent(); len(sent) != 0 {
				t.Fatalf("sent with %d of %d entries there", i, len(idx))
			}
			b.dev.Publish(0, e)
			b.settle()
		}
		b.same(b.dev.Sent()[0], "b", s.hop())
	})
}

// TestBadChains: what a device should never say costs its packets, and nothing else.
func TestBadChains(t *testing.T) {
	const more = abi.EntMore
	good := udp("10.0.0.1", "10.0.0.2")
	// chain makes entries of a chain of n nbufs with good in each of them.
	for name, c := range map[string]struct {
		entries func(nb []uint32) []uint32
		sent    int    // of good packets
		bad     uint64 // 0: any number
	}{
		"broken off by an event": {func(nb []uint32) []uint32 {
			return []uint32{abi.Entry(abi.InRX, nb[0]) | more, abi.Entry(abi.InDrops, 3), abi.Entry(abi.InRX, nb[1])}
		}, 1, 1},
		"broken off by a grant": {func(nb []uint32) []uint32 {
			return []uint32{abi.Entry(abi.InRX, nb[0]) | more, abi.Entry(abi.InGrant, nb[1])}
		}, 0, 1},
		"an event with the mark of a chain": {func(nb []uint32) []uint32 {
			return []uint32{abi.Entry(abi.InPort, 1) | more, abi.Entry(abi.InRX, nb[0])}
		}, 1, 0},
		"an nbuf that is none in the middle": {func(nb []uint32) []uint32 {
			return []uint32{abi.Entry(abi.InRX, nb[0]) | more, abi.Entry(abi.InRX, 1<<20) | more, abi.Entry(abi.InRX, nb[1]), abi.Entry(abi.InRX, nb[2])}
		}, 1, 1},
		"an nbuf that is none at the beginning": {func(nb []uint32) []uint32 {
			return []uint32{abi.Entry(abi.InRX, 1<<20) | more, abi.Entry(abi.InRX, nb[0]), abi.Entry(abi.InRX, nb[1])}
		}, 1, 1},
		"an nbuf that is none alone": {func(nb []uint32) []uint32 {
			return []uint32{abi.Entry(abi.InRX, 1<<20), abi.Entry(abi.InRX, nb[0])}
		}, 1, 1},
		"too long": {func(nb []uint32) []uint32 {
			var ents []uint32
			for _, x := range nb[:chainMax+1] {
				ents = append(ents, abi.Entry(abi.InRX, x)|more)
			}
			ents[chainMax] &^= more
			return append(ents, abi.Entry(abi.InRX, nb[chainMax+1]))
		}, 1, 2},
		"longer than a vector": {func(nb []uint32) []uint32 {
			var ents []uint32
			for _, x := range nb[:2*vectorSize+7] {
				ents = append(ents, abi.Entry(abi.InRX, x)|more)
			}
			return append(ents, abi.Entry(abi.InRX, nb[2*vectorSize+7]), abi.Entry(abi.InRX, nb[2*vectorSize+8]))
		}, 1, 0},
		"too long, and ended by an event": {func(nb []uint32) []uint32 {
			var ents []uint32
			for _, x := range nb[:chainMax+1] {
				ents = append(ents, abi.Entry(abi.InRX, x)|more)
			}
			return append(ents, abi.Entry(abi.InPort, 1), abi.Entry(abi.InRX, nb[chainMax+1]))
		}, 1, 2},
		"unknown actions": {func(nb []uint32) []uint32 {
			return []uint32{abi.Entry(abi.InNone, 0), abi.Entry(33, 5), abi.Entry(abi.InRX, nb[0])}
		}, 1, 2},
		"a grant of an nbuf that is none": {func(nb []uint32) []uint32 {
			return []uint32{abi.Entry(abi.InGrant, 1<<20), abi.Entry(abi.InRX, nb[0])}
		}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBedOn(t, podNet(), memdev.Config{Nbufs: 1024}, 1024)
			// Number the nbufs that the entries take, and give the others back.
			nb := b.dev.Alloc(nil, 2*vectorSize+9)
			used := map[uint32]bool{}
			ents := c.entries(nb)
			for _, e := range ents {
				if a := abi.Action(e); a == abi.InRX || a == abi.InGrant {
					used[abi.Param(e)] = true
				}
			}
			for _, x := range nb {
				if used[x] {
					b.fill("a", x, good.bytes())
				} else {
					ents = append(ents, abi.Entry(abi.InGrant, x))
				}
			}
			for len(ents) > 0 { // as much as the InQ takes
				k := min(len(ents), 200)
				b.dev.Publish(0, ents[:k]...)
				ents = ents[k:]
				turn(b, b.w)
			}
			b.settle()
			if sent := b.dev.Sent(); len(sent) != c.sent {
				t.Errorf("%d packets came out, want %d", len(sent), c.sent)
			} else if c.sent > 0 {
				b.same(sent[0], "b", good.hop())
			}
			if got := b.w.Stats.BadEntries; got != c.bad && c.bad != 0 {
				t.Errorf("%d bad entries were counted, want %d", got, c.bad)
			}
		})
	}
}

// TestBadNbufs: an nbuf whose bytes lie outside of it.
func TestBadNbufs(t *testing.T) {
	for name, tune := range map[string]func(*abi.Nbuf){
		"offset in the header":  func(nb *abi.Nbuf) { nb.Off = abi.NbufHdr - 1 },
		"offset beyond the end": func(nb *abi.Nbuf) { nb.Off = abi.NbufSize + 1 },
		"length beyond the end": func(nb *abi.Nbuf) { nb.Len = abi.NbufSize - abi.NbufData + 1 },
		"both at their largest": func(nb *abi.Nbuf) { nb.Off, nb.Len = 0xffff, 0xffff },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, podNet())
			rx := b.rx("a", udp("10.0.0.1", "10.0.0.2")).Rx
			rx.Tune = tune
			b.dev.Receive(rx)
			b.settle()
			if sent := b.dev.Sent(); len(sent) != 0 || b.w.Stats.BadEntries != 1 {
				t.Errorf("%d packets came out, %d bad entries", len(sent), b.w.Stats.BadEntries)
			}
		})
	}
}
