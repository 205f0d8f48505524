// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/packet"
)

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Dir{}); n != 64 {
		t.Errorf("Dir is %d bytes, want a cache line", n)
	}
	if n := unsafe.Sizeof(Conn{}); n != 192 {
		t.Errorf("Conn is %d bytes, want three cache lines", n)
	}
}

func flowKey(n uint32, proto uint8) Key {
	return MakeKey(packet.Tuple{Src: packet.Addr4(10<<24 | n), Dst: packet.Addr4(10<<24 | 200<<16 | 1),
		SrcPort: uint16(n * 7), DstPort: 80, Proto: proto})
}

func open(t testing.TB, o Options) *Table {
	t.Helper()
	tab, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tab.Close() })
	return tab
}

// check compares a table with what it should hold.
func check(t *testing.T, tab *Table, want map[Key]Key) {
	t.Helper()
	if tab.Len() != len(want) {
		t.Fatalf("%d connections, want %d", tab.Len(), len(want))
	}
	ports := map[uint32]int{}
	for orig, reply := range want {
		o, r := tab.Lookup(&orig), tab.Lookup(&reply)
		if o == NoRef || r == NoRef || o.Index() != r.Index() || o.Dir() != Original || orig != reply && r.Dir() != Reply {
			t.Fatalf("%v: original %v, reply %v", orig, o, r)
		}
		ports[tab.Conn(o).Owner]++
	}
	for p, n := range ports {
		listed, prev := 0, nilConn
		for i := tab.ports[p].first; i != nilConn; i = tab.slab[i].next {
			if tab.slab[i].prev != prev {
				t.Fatalf("port %d: list broken at %d", p, i)
			}
			prev = i
			listed++
		}
		if listed != n || tab.PortLen(p) != n || tab.ports[p].last != prev {
			t.Fatalf("port %d: %d listed, %d counted, want %d", p, listed, tab.PortLen(p), n)
		}
	}
	slots := 0
	for _, s := range tab.index.slots {
		if s != 0 {
			slots++
		}
	}
	need := 0
	for o, r := range want {
		if need++; o != r {
			need++
		}
	}
	if slots != need {
		t.Fatalf("%d index slots in use, want %d", slots, need)
	}
}

// TestAgainstMap does random insertions, deletions and sweeps on a small table
// and a map, closes and opens again in between.
func TestAgainstMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conn")
	o := Options{Capacity: 200, Path: path}
	tab, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { tab.Close() }()
	want := map[Key]Key{}
	rnd := rand.New(rand.NewPCG(3, 4))
	now := uint32(1<<32 - 5000)
	for step := range 20000 {
		now++
		k := flowKey(rnd.Uint32N(300), 17)
		switch rnd.IntN(10) {
		case 0, 1, 2, 3, 4:
			if len(want) >= 150 {
				break
			}
			r := k.Reply()
			if rnd.IntN(4) == 0 { // NAT: the answer comes from elsewhere
				n := rnd.Uint32N(300) + 1000
				x := flowKey(n, 17)
				r = x.Reply()
			}
			ref, err := tab.Insert(&k, &r, rnd.Uint32N(4)+1, now, 1000)
			exists := false
			for o, rep := range want {
				exists = exists || o == k || rep == k || o == r || rep == r
			}
			if exists != errors.Is(err, ErrClash) || !exists && err != nil {
				t.Fatalf("step %d: insert: %v, exists %v", step, err, exists)
			}
			if err == nil {
				tab.Conn(ref).SetState(StateNew)
				want[k] = r
			}
		case 5, 6, 7:
			if ref := tab.Lookup(&k); ref != NoRef {
				if orig := tab.Conn(ref).Dirs[0].Key(); want[orig] == (Key{}) {
					t.Fatalf("step %d: found a connection that was deleted", step)
				}
				delete(want, tab.Conn(ref).Dirs[0].Key())
				tab.Delete(ref)
			}
		case 8:
			for o := range want {
				if ref := tab.Lookup(&o); tab.Conn(ref).Expired(now + 800) {
					delete(want, o)
				}
			}
			tab.Sweep(now+800, 1000)
		case 9:
			if step%50 == 0 {
				check(t, tab, want)
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
				if tab, err = Open(o); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	check(t, tab, want)
}

// TestDamagedFile opens files that a crash, or another version, may have left.
func TestDamagedFile(t *testing.T) {
	for name, damage := range map[string]func([]byte){
		"magic":        func(b []byte) { b[0]++ },
		"valid word":   func(b []byte) { b[storeHdrSize+128] = 7 },
		"state":        func(b []byte) { b[storeHdrSize+128+4] = 200 },
		"protocol":     func(b []byte) { b[storeHdrSize+36] = 9 },
		"high too big": func(b []byte) { binary.LittleEndian.PutUint32(b[unsafe.Offsetof(storeHdr{}.high):], 1<<31) },
		"same key":     func(b []byte) { copy(b[storeHdrSize+192:], b[storeHdrSize:storeHdrSize+192]) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "conn")
			tab, err := Open(Options{Capacity: 8, Path: path})
			if err != nil {
				t.Fatal(err)
			}
			for n := range uint32(2) {
				k := flowKey(n, 6)
				r := k.Reply()
				ref, err := tab.Insert(&k, &r, 1, 0, 1000)
				if err != nil {
					t.Fatal(err)
				}
				tab.Conn(ref).SetState(StateEstablished)
			}
			tab.Close()
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			damage(raw)
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			tab = open(t, Options{Capacity: 8, Path: path})
			if tab.Len() > 2 || name != "high too big" && tab.Len() == 2 {
				t.Errorf("%d connections survived", tab.Len())
			}
			for n := range uint32(10) {
				k := flowKey(n+10, 6)
				r := k.Reply()
				if _, err := tab.Insert(&k, &r, 1, 0, 1000); err != nil {
					return // full is fine
				}
			}
		})
	}
}

// TestTally: no packet is lost when a direction's tally is full, however large packets
// are, and also not when the tally is read just before.
func TestTally(t *testing.T) {
	tab := open(t, Options{Capacity: 1})
	k := flowKey(1, 6)
	r := k.Reply()
	ref, err := tab.Insert(&k, &r, 1, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	c := tab.Conn(ref)
	for dir, size := range [2]uint32{0: 1<<32 - 1, 1: 60} {
		spills := 0
		for n := uint64(1); spills < 3; n++ {
			if c.Dirs[dir].Count(size, 7) {
				if packets, bytes := c.Counts(dir); packets != n || bytes != n*uint64(size) {
					t.Fatalf("before packet %d of %d bytes is spilled: %d packets, %d bytes", n, size, packets, bytes)
				}
				c.Spill(dir)
				spills++
				if packets, bytes := c.Counts(dir); packets != n || bytes != n*uint64(size) {
					t.Fatalf("after packet %d of %d bytes was spilled: %d packets, %d bytes", n, size, packets, bytes)
				}
			}
		}
	}
}

// TestSteady: a direction is steady if and only if none of its packets but TCP's SYN, FIN
// and RST changes state, timeout or what becomes of later packets.
func TestSteady(t *testing.T) {
	to := &Timeouts{TCPOpening: 1, TCPEstablished: 2, TCPClosing: 3, UDP: 4, UDPStream: 5, ICMP: 6, Other: 7}
	for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP} {
		for state := StateNew; state < stateCount; state++ {
			if (proto == packet.ProtoTCP) == (state == StateNew) || proto != packet.ProtoTCP && state > StateEstablished {
				continue
			}
			for dir := range 2 {
				c := Conn{Timeout: 2}
				if proto != packet.ProtoTCP {
					c.Timeout = to.UDP
				}
				k := flowKey(1, proto)
				c.Dirs[0].setKey(&k)
				c.SetState(state)
				changed := false
				for _, flags := range []uint8{0, packet.TCPAck} {
					after := c
					if proto == packet.ProtoTCP {
						after.TCPUpdate(dir, flags, to)
					} else {
						after.DatagramUpdate(dir, to)
					}
					changed = changed || after != c
				}
				if steady := c.Dirs[dir].Flags&FlagSteady != 0; steady && changed {
					t.Errorf("protocol %d, %s, direction %d: steady, but a packet changes the connection", proto, state, dir)
				} else if !steady && !changed && (state == StateEstablished || state == StateNew) {
					t.Errorf("protocol %d, %s, direction %d: no packet changes the connection, but it is not steady", proto, state, dir)
				}
			}
		}
	}
}

// FuzzRecover opens a slab of arbitrary content and uses the table.
func FuzzRecover(f *testing.F) {
	f.Add(make([]byte, 192*3), uint32(3))
	f.Fuzz(func(t *testing.T, slab []byte, high uint32) {
		st, err := openStore("", 8)
		if err != nil {
			t.Fatal(err)
		}
		copy(st.mem[storeHdrSize:], slab)
		st.hdr.high = high
		x, err := newIndex(8)
		if err != nil {
			t.Fatal(err)
		}
		tab := &Table{slab: st.conns(), index: x, secret: st.secret(), store: st, limit: 8}
		defer tab.Close()
		tab.recover()
		for n := range uint32(12) {
			k := flowKey(n, 6)
			r := k.Reply()
			if ref, err := tab.Insert(&k, &r, n%3, 0, 1000); err == nil && tab.Lookup(&r) != ref.Other() {
				t.Fatal("inserted connection not found")
			}
		}
		tab.Sweep(1<<30, 100)
	})
}

func TestPortLimit(t *testing.T) {
	tab := open(t, Options{Capacity: 100, PerPort: 10})
	for n := range uint32(10) {
		k := flowKey(n, 6)
		r := k.Reply()
		ref, err := tab.Insert(&k, &r, 1, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		tab.Conn(ref).SetState(StateEstablished)
	}
	k := flowKey(10, 6)
	r := k.Reply()
	if _, err := tab.Insert(&k, &r, 1, 0, 1000); !errors.Is(err, ErrPortFull) {
		t.Fatalf("eleventh connection: %v", err)
	}
	first := flowKey(3, 6)
	tab.Conn(tab.Lookup(&first)).SetState(StateSynSent)
	if _, err := tab.Insert(&k, &r, 1, 0, 1000); err != nil {
		t.Fatalf("with a half-open connection to evict: %v", err)
	}
	if tab.Lookup(&first) != NoRef {
		t.Error("the half-open connection is still there")
	}
}

// TestFairEviction: one port fills the table, another one still gets its share,
// and its established connections are never evicted for the first one.
func TestFairEviction(t *testing.T) {
	tab := open(t, Options{Capacity: 1000})
	insert := func(n, owner uint32) error {
		k := flowKey(n, 6)
		r := k.Reply()
		ref, err := tab.Insert(&k, &r, owner, n, 1<<20)
		if err == nil {
			tab.Conn(ref).SetState(StateEstablished)
		}
		return err
	}
	for n := range uint32(1000) {
		if err := insert(n, 1); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint32(400) {
		if err := insert(10000+n, 2); err != nil {
			t.Fatalf("connection %d of the quiet port: %v", n, err)
		}
	}
	for n := range uint32(5000) {
		_ = insert(20000+n, 1)
	}
	if got := tab.PortLen(2); got != 400 {
		t.Errorf("quiet port has %d connections, want 400", got)
	}
}

func TestTCPStates(t *testing.T) {
	to := &Timeouts{TCPOpening: 1, TCPEstablished: 2, TCPClosing: 3}
	type seg struct {
		dir   int
		flags uint8
		want  State
	}
	const o, r = Original, Reply
	for name, segs := range map[string][]seg{
		"open and close":     {{o, packet.TCPSyn, StateSynSent}, {r, packet.TCPSyn | packet.TCPAck, StateSynReceived}, {o, packet.TCPAck, StateEstablished}, {r, packet.TCPAck, StateEstablished}, {o, packet.TCPFin | packet.TCPAck, StateFinWait}, {r, packet.TCPAck, StateFinWait}, {r, packet.TCPFin | packet.TCPAck, StateClosing}, {o, packet.TCPAck, StateClosing}},
		"refused":            {{o, packet.TCPSyn, StateSynSent}, {r, packet.TCPRst | packet.TCPAck, StateReset}},
		"simultaneous open":  {{o, packet.TCPSyn, StateSynSent}, {r, packet.TCPSyn, StateSynReceived}, {o, packet.TCPSyn | packet.TCPAck, StateEstablished}},
		"picked up":          {{o, packet.TCPAck, StateEstablished}, {r, packet.TCPAck, StateEstablished}},
		"blind reset":        {{o, packet.TCPAck, StateEstablished}, {r, packet.TCPRst, StateReset}, {r, packet.TCPAck, StateEstablished}},
		"repeated SYN":       {{o, packet.TCPSyn, StateSynSent}, {o, packet.TCPSyn, StateSynSent}, {r, packet.TCPSyn | packet.TCPAck, StateSynReceived}, {r, packet.TCPSyn | packet.TCPAck, StateSynReceived}},
		"half-closed stream": {{o, packet.TCPAck, StateEstablished}, {o, packet.TCPFin | packet.TCPAck, StateFinWait}, {r, packet.TCPAck, StateFinWait}, {r, packet.TCPAck, StateFinWait}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Conn{}
			for i, s := range segs {
				if i == 0 {
					c.TCPStart(s.flags, to)
				} else {
					c.TCPUpdate(s.dir, s.flags, to)
				}
				if c.State() != s.want {
					t.Fatalf("segment %d: %v, want %v", i, c.State(), s.want)
				}
			}
		})
	}
}

// TestGuess: a guess is right for what the table holds, and Is tells of one that
// was and is no more.
func TestGuess(t *testing.T) {
	tab := open(t, Options{Capacity: 64})
	var keys []Key
	for n := range uint32(64) {
		k := flowKey(n, 17)
		r := k.Reply()
		if _, err := tab.Insert(&k, &r, 1, 0, 1000); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k, r)
	}
	for i := range keys {
		if r := tab.Guess(tab.Hash(&keys[i])); r != tab.Lookup(&keys[i]) || !tab.Is(r, &keys[i]) || tab.Is(r.Other(), &keys[i]) {
			t.Errorf("key %d: guessed %d", i, r)
		}
	}
	gone := tab.Lookup(&keys[0])
	tab.Delete(gone)
	if tab.Is(gone, &keys[0]) {
		t.Error("a connection that was deleted is still the one")
	}
	unknown := flowKey(999, 17)
	if r := tab.Guess(tab.Hash(&unknown)); r != NoRef {
		t.Errorf("guessed %d for a key that nobody has", r)
	}
}

// BenchmarkFind looks up keys in random order, in vectors as the forwarder does.
func BenchmarkFind(b *testing.B) {
	for _, flows := range []uint32{1000, 65536, 1 << 20} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) {
			tab := open(b, Options{Capacity: int(flows)})
			keys := make([]Key, flows)
			for n := range flows {
				keys[n] = flowKey(n, 6)
				r := keys[n].Reply()
				if _, err := tab.Insert(&keys[n], &r, 1, 0, 1000); err != nil {
					b.Fatal(err)
				}
			}
			const vector = 64
			var hashes, lines [vector]uint64
			x := uint32(1)
			b.ReportAllocs()
			for b.Loop() {
				var at [vector]uint32
				for i := range vector {
					x = x*1664525 + 1013904223
					at[i] = uint32(uint64(x) * uint64(flows) >> 32)
					hashes[i] = tab.Hash(&keys[at[i]])
					lines[i] = tab.SlotLine(hashes[i])
				}
				tab.PrefetchSlots(lines[:])
				var refs [vector]Ref
				for i := range vector {
					refs[i] = tab.Guess(hashes[i])
					lines[i] = tab.DirLine(refs[i])
				}
				tab.PrefetchDirs(lines[:])
				for i := range vector {
					if !tab.Is(refs[i], &keys[at[i]]) && tab.Find(&keys[at[i]], hashes[i]) == NoRef {
						b.Fatal("lost")
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/vector, "ns/key")
		})
	}
}
