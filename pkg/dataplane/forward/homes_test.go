// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// homeKey is the n-th of many tuples that differ as those of real flows do: in
// few bits.
func homeKey(n int) *conntrack.Key {
	k := &conntrack.Key{
		Src: packet.Addr4(0x0a000001 + uint32(n>>14)), Dst: packet.Addr4(0x0a600001),
		L4: conntrack.L4Word(uint16(1024+n&0x3fff), 80, packet.ProtoTCP),
	}
	if n&1 != 0 {
		k.Src = packet.Addr{Hi: 0xfd00 << 48, Lo: uint64(n)}
		k.Dst = packet.Addr{Hi: 0xfd00 << 48, Lo: 0x96}
	}
	return k
}

// home is the lane that has a tuple, -1: none.
func (h *homes) home(k *conntrack.Key) int {
	if lane, ok := h.find(k); ok {
		return lane
	}
	return -1
}

func (h *homes) used() int {
	n := 0
	for i := range h.slots {
		if h.slots[i].Load() != 0 {
			n++
		}
	}
	return n
}

func TestHomes(t *testing.T) {
	type op struct {
		do   string
		key  int
		lane int
		want bool // of add
	}
	for name, c := range map[string]struct {
		ops  []op
		want map[int]int // lanes by key, -1: none
	}{
		"nothing is known at first":           {nil, map[int]int{0: -1, 1: -1}},
		"lane 0":                              {[]op{{"add", 1, 0, true}}, map[int]int{1: 0, 2: -1}},
		"the highest lane":                    {[]op{{"add", 1, 63, true}}, map[int]int{1: 63}},
		"a tuple per lane":                    {[]op{{"add", 1, 0, true}, {"add", 2, 1, true}}, map[int]int{1: 0, 2: 1}},
		"another lane's tuple":                {[]op{{"add", 1, 0, true}, {"add", 1, 1, false}}, map[int]int{1: 0}},
		"its own tuple once more":             {[]op{{"add", 1, 1, true}, {"add", 1, 1, false}}, map[int]int{1: 1}},
		"removed":                             {[]op{{"add", 1, 0, true}, {"remove", 1, 0, false}}, map[int]int{1: -1}},
		"removed, and another's":              {[]op{{"add", 1, 0, true}, {"remove", 1, 0, false}, {"add", 1, 1, true}}, map[int]int{1: 1}},
		"another's is not removed":            {[]op{{"add", 1, 0, true}, {"remove", 1, 1, false}}, map[int]int{1: 0}},
		"what there is not is not removed":    {[]op{{"add", 1, 0, true}, {"remove", 2, 0, false}}, map[int]int{1: 0, 2: -1}},
		"a refused claim leaves nothing":      {[]op{{"add", 1, 0, true}, {"add", 1, 1, false}, {"remove", 1, 0, false}}, map[int]int{1: -1}},
		"removed twice, between it another's": {[]op{{"add", 1, 0, true}, {"remove", 1, 0, false}, {"add", 1, 1, true}, {"remove", 1, 0, false}}, map[int]int{1: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHomes(64)
			for i, o := range c.ops {
				if o.do == "remove" {
					h.remove(homeKey(o.key), o.lane)
				} else if got := h.add(homeKey(o.key), o.lane); got != o.want {
					t.Errorf("operation %d: add says %v, want %v", i, got, o.want)
				}
			}
			known := 0
			for key, want := range c.want {
				if got := h.home(homeKey(key)); got != want {
					t.Errorf("tuple %d is of lane %d, want %d", key, got, want)
				}
				if want >= 0 {
					known++
				}
			}
			if n := h.used(); n != known {
				t.Errorf("%d slots are used, want %d", n, known)
			}
		})
	}
}

// TestHomesLoad: as many connections as the tables take are all known, and gone
// when they end.
func TestHomesLoad(t *testing.T) {
	for _, conns := range []int{1, 2, 3, 64, 1000, 4096, 20_000} {
		t.Run(fmt.Sprint(conns), func(t *testing.T) {
			h := newHomes(conns)
			if n := len(h.slots); n < 4*conns || n > max(16*conns, 16) {
				t.Errorf("%d slots", n)
			}
			for n := range 2 * conns {
				if !h.add(homeKey(n), n%5) {
					t.Fatalf("tuple %d is refused", n)
				}
			}
			for n := range 2 * conns {
				if got := h.home(homeKey(n)); got != n%5 {
					t.Fatalf("tuple %d is of lane %d, want %d", n, got, n%5)
				}
				if got := h.home(homeKey(n + 2*conns)); got != -1 {
					t.Fatalf("tuple %d, which nobody has, is of lane %d", n+2*conns, got)
				}
			}
			for n := range 2 * conns {
				h.remove(homeKey(n), n%5)
			}
			if n := h.used(); n != 0 {
				t.Errorf("%d slots are used in the end", n)
			}
		})
	}
}

// TestHomesFull: what finds no room is not noted, and does no harm.
func TestHomesFull(t *testing.T) {
	h := newHomes(16)
	known := map[int]bool{}
	for n := range 4 * len(h.slots) {
		if !h.add(homeKey(n), 1) {
			t.Fatalf("tuple %d is refused", n)
		}
		known[n] = h.home(homeKey(n)) == 1
	}
	if n := h.used(); n != len(h.slots) {
		t.Errorf("%d of %d slots are used", n, len(h.slots))
	}
	for n, was := range known {
		if now := h.home(homeKey(n)) == 1; now != was {
			t.Errorf("tuple %d: known %v, was %v", n, now, was)
		}
		h.remove(homeKey(n), 1)
	}
	if n := h.used(); n != 0 {
		t.Errorf("%d slots are used in the end", n)
	}
}

// TestHomesContention: lanes that claim the same few tuples at the same time
// never have one together, and nobody removes what is another's.
func TestHomesContention(t *testing.T) {
	const lanes, keys = 4, 8
	rounds := 30_000
	if testing.Short() {
		rounds = 3000
	}
	h := newHomes(keys)
	var owners [keys]atomic.Int32 // lane+1, by what add and remove have said
	var claimed atomic.Int64
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(lane)))
			var mine [keys]bool
			for range rounds {
				n := rnd.IntN(keys)
				k := homeKey(n)
				switch {
				case mine[n]:
					if is := h.home(k); is != lane {
						t.Errorf("tuple %d of lane %d is of lane %d", n, lane, is)
					}
					if rnd.IntN(2) == 0 {
						if !owners[n].CompareAndSwap(int32(lane+1), 0) {
							t.Errorf("tuple %d of lane %d had another owner", n, lane)
						}
						h.remove(k, lane)
						mine[n] = false
					}
				case rnd.IntN(4) == 0:
					h.remove(k, lane) // another's, if anybody's
				case h.add(k, lane):
					if !owners[n].CompareAndSwap(0, int32(lane+1)) {
						t.Errorf("lanes %d and %d have tuple %d", lane, owners[n].Load()-1, n)
					}
					mine[n] = true
					claimed.Add(1)
				}
			}
			for n := range keys {
				if mine[n] {
					owners[n].Store(0)
					h.remove(homeKey(n), lane)
				}
			}
		})
	}
	wg.Wait()
	if n := h.used(); n != 0 {
		t.Errorf("%d slots are used in the end", n)
	}
	if claimed.Load() == 0 {
		t.Error("nobody ever got a tuple")
	}
}

// TestHomesOneWins: of lanes that claim a tuple at the same time exactly one has it, and
// the others see which at once.
func TestHomesOneWins(t *testing.T) {
	const lanes = 4
	rounds := 5000
	if testing.Short() {
		rounds = 500
	}
	h := newHomes(rounds)
	for n := range rounds {
		k := homeKey(n)
		var wins atomic.Int32
		var saw [lanes]int
		var ready, wg sync.WaitGroup
		ready.Add(lanes)
		for lane := range lanes {
			wg.Go(func() {
				ready.Done()
				ready.Wait()
				if h.add(k, lane) {
					wins.Add(1)
				}
				saw[lane] = h.home(k)
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("tuple %d: %d lanes have it", n, wins.Load())
		}
		for lane, is := range saw {
			if is != h.home(k) {
				t.Fatalf("tuple %d: lane %d saw it with lane %d, and lane %d has it", n, lane, is, h.home(k))
			}
		}
	}
}

// TestHomesParallel: lanes that have nothing in common do not disturb each other,
// however full the table is on the way.
func TestHomesParallel(t *testing.T) {
	const lanes, each = 4, 1000
	h := newHomes(lanes * each / 2)
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for round := range 5 {
				for n := range each {
					if !h.add(homeKey(n*lanes+lane), lane) {
						t.Errorf("lane %d, round %d: tuple %d is refused", lane, round, n)
					}
				}
				for n := range each {
					k := homeKey(n*lanes + lane)
					if got := h.home(k); got != lane {
						t.Errorf("lane %d: tuple %d is of lane %d", lane, n, got)
					}
					h.remove(k, lane)
				}
			}
		})
	}
	wg.Wait()
	if n := h.used(); n != 0 {
		t.Errorf("%d slots are used in the end", n)
	}
}

// FuzzHomes compares homes with a map. Two bytes are an operation: what, lane and
// tuple.
func FuzzHomes(f *testing.F) {
	f.Add([]byte{0, 1, 0x40, 1, 0x80, 1})
	f.Add([]byte{0, 1, 1, 1, 0x81, 1, 0x80, 1, 1, 1})
	f.Add([]byte("the tuples of many connections come and go in the order of these letters"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		h := newHomes(256) // room for more than the tuples that there are
		model := map[byte]int{}
		for i := 0; i+1 < len(ops); i += 2 {
			n, lane := ops[i+1], int(ops[i]&0x3f)
			k := homeKey(int(n))
			was, known := model[n]
			switch {
			case ops[i]&0x80 != 0:
				h.remove(k, lane)
				if known && was == lane {
					delete(model, n)
				}
			case h.add(k, lane) == known:
				t.Fatalf("operation %d: add says %v of a tuple that is known: %v", i/2, !known, known)
			case !known:
				model[n] = lane
			}
			if h.used() != len(model) {
				t.Fatalf("operation %d: %d slots are used, want %d", i/2, h.used(), len(model))
			}
		}
		for n := range 256 {
			want, ok := model[byte(n)]
			if !ok {
				want = -1
			}
			if got := h.home(homeKey(n)); got != want {
				t.Errorf("tuple %d is of lane %d, want %d", n, got, want)
			}
		}
	})
}
