// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// udp makes an IPv4 or IPv6 packet with a UDP datagram and a partial checksum.
func udp(v6 bool, id uint16, df bool, dport uint16, payload []byte) []byte {
	u16 := binary.BigEndian.PutUint16
	n := 8 + len(payload)
	var b []byte
	var pseudo uint32
	if v6 {
		b = make([]byte, 48)
		b[0], b[6], b[7] = 0x60, 17, 64
		u16(b[4:], uint16(n))
		b[8], b[23], b[24], b[39] = 0xfd, 1, 0xfd, 2
		pseudo = onesSum(b[8:40])
	} else {
		b = make([]byte, 28)
		b[0], b[8], b[9] = 0x45, 64, 17
		u16(b[2:], uint16(20+n))
		u16(b[4:], id)
		if df {
			b[6] = 0x40
		}
		copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		u16(b[10:], ^foldSum(onesSum(b[:20])))
		pseudo = onesSum(b[12:20])
	}
	u := b[len(b)-8:]
	u16(u, 1000)
	u16(u[2:], dport)
	u16(u[4:], uint16(n))
	u16(u[6:], foldSum(pseudo+17+uint32(n)))
	return append(b, payload...)
}

func onesSum(b []byte) (s uint32) {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	return s
}

func foldSum(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// segment is the oracle: it cuts a UDP_L4 packet up as the kernel does, into
// complete packets with partial checksums.
func segmentUDP(t testing.TB, v vnetHdr, b []byte) [][]byte {
	t.Helper()
	if v.gsoType == abi.GSONone {
		return [][]byte{b}
	}
	h := int(v.csumStart) + 8
	if v.gsoType != abi.GSOUDPL4 || v.flags != vnetNeedsCsum || v.csumOffset != 6 || int(v.hdrLen) != h {
		t.Fatalf("header %+v", v)
	}
	payload := b[h:]
	if h == 28 && onesSum(b[:20])%0xffff != 0 {
		t.Fatal("wrong IP checksum")
	}
	pseudo := onesSum(b[v.csumStart-8:v.csumStart]) + 17 + uint32(len(payload)+8)
	if h == 48 {
		pseudo = onesSum(b[8:40]) + 17 + uint32(len(payload)+8)
	}
	if got := binary.BigEndian.Uint16(b[h-2:]); uint32(got)%0xffff != uint32(foldSum(pseudo))%0xffff {
		t.Fatalf("pseudo header sum %#x, want %#x", got, foldSum(pseudo))
	}
	if int(binary.BigEndian.Uint16(b[h-4:])) != len(payload)+8 {
		t.Fatal("wrong UDP length")
	}
	var list [][]byte
	for i := 0; len(payload) > 0; i++ {
		n := min(len(payload), int(v.gsoSize))
		list = append(list, udp(h == 48, binary.BigEndian.Uint16(b[4:])+uint16(i), b[6]&0x40 != 0,
			binary.BigEndian.Uint16(b[h-6:]), payload[:n]))
		payload = payload[n:]
	}
	if len(list) > maxSegments {
		t.Fatalf("%d segments", len(list))
	}
	return list
}

type datagram struct {
	b       []byte
	partial bool
}

// deliver sends datagrams in one batch and returns the packets written, and what
// they are after segmentation.
func deliver(t testing.TB, w *driver, f *fakeTUN, list []datagram) (written int, segs [][]byte) {
	t.Helper()
	grants := w.turn(abi.Entry(abi.OutWant, uint32(len(list))))
	var tx []uint32
	for i, g := range append([]uint32(nil), grants...) {
		idx := abi.Param(g)
		nb := w.d.area.Nbuf(idx)
		b := list[i].b
		copy(w.d.area.NbufBytes(idx)[abi.NbufData:], b)
		nb.EPort, nb.Len, nb.Total = f.id, uint16(len(b)), uint32(len(b))
		if list[i].partial {
			nb.Flags, nb.CsumOffset = abi.NbCsumPartial, 6
			nb.CsumStart = 20
			if b[0]>>4 == 6 {
				nb.CsumStart = 40
			}
		}
		tx = append(tx, abi.Entry(abi.OutTX, idx))
	}
	w.turn(tx...)
	for {
		v, b := f.pull()
		if b == nil {
			return written, segs
		}
		written++
		segs = append(segs, segmentUDP(t, v, b)...)
	}
}

func TestCoalesce(t *testing.T) {
	d := testDevice(t, Config{})
	w := drive(t, d, 0)
	f := addFake(t, d, device.PortConfig{})
	payload := func(n int, seed byte) []byte { return bytes.Repeat([]byte{seed}, n) }
	same := func(v6 bool, sizes ...int) (list []datagram) {
		for i, n := range sizes {
			list = append(list, datagram{udp(v6, uint16(100+i), false, 53, payload(n, byte(i))), true})
		}
		return list
	}
	ones := make([]int, 100)
	for i := range ones {
		ones[i] = 64
	}
	big := make([]int, 60)
	for i := range big {
		big[i] = 1472
	}
	change := func(i int, at int, v byte) []datagram {
		list := same(false, 64, 64, 64)
		list[i].b[at] ^= v
		return list
	}
	// An IPv4 header that differs has a checksum of its own.
	sound := func(list []datagram) []datagram {
		for _, d := range list {
			binary.BigEndian.PutUint16(d.b[10:], 0)
			binary.BigEndian.PutUint16(d.b[10:], ^foldSum(onesSum(d.b[:20])))
		}
		return list
	}
	for _, tc := range []struct {
		name string
		list []datagram
		want int // writes
	}{
		{"one", same(false, 64), 1},
		{"equal sizes", same(false, 64, 64, 64), 1},
		{"equal sizes, IPv6", same(true, 64, 64, 64), 1},
		{"a shorter last", same(false, 64, 64, 10), 1},
		{"nothing after a shorter one", same(false, 64, 10, 10, 64), 3},
		{"longer and longer", same(false, 10, 20, 30), 3},
		{"empty datagrams", same(false, 0, 0), 2},
		{"64 segments at most", same(false, ones...), 2},
		{"64 segments at most, IPv6", same(true, ones...), 2},
		{"65535 bytes at most", same(false, big...), 2},
		{"other port", []datagram{{udp(false, 1, false, 53, payload(9, 1)), true}, {udp(false, 2, false, 54, payload(9, 2)), true}}, 2},
		{"gap in the ids", []datagram{{udp(false, 1, false, 53, payload(9, 1)), true}, {udp(false, 3, false, 53, payload(9, 2)), true}}, 2},
		{"equal ids without DF", []datagram{{udp(false, 1, false, 53, payload(9, 1)), true}, {udp(false, 1, false, 53, payload(9, 2)), true}}, 2},
		{"other family", append(same(false, 9), same(true, 9)...), 2},
		{"complete checksum", []datagram{{udp(false, 1, false, 53, payload(9, 1)), false}, {udp(false, 2, false, 53, payload(9, 2)), true}}, 2},
		{"other TOS", sound(change(1, 1, 8)), 3},
		{"other TTL", sound(change(1, 8, 3)), 3},
		{"other source", sound(change(1, 15, 1)), 3},
		{"a fragment", sound(change(1, 6, 0x20)), 3},
		{"wrong IP checksum", change(1, 10, 1), 3},
		{"wrong UDP checksum", change(1, 26, 1), 3},
		{"wrong UDP length", change(1, 25, 1), 3},
		{"wrong IP length", sound(change(1, 3, 1)), 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			written, segs := deliver(t, w, f, tc.list)
			if written != tc.want {
				t.Errorf("%d writes, want %d", written, tc.want)
			}
			if len(segs) != len(tc.list) {
				t.Fatalf("%d packets arrive, want %d", len(segs), len(tc.list))
			}
			for i, b := range segs {
				if !bytes.Equal(b, tc.list[i].b) {
					t.Errorf("packet %d: % x, want % x", i, b, tc.list[i].b)
				}
			}
			invariants(t, d)
		})
	}
	// With DF set identifications do not matter; everything else does.
	list := []datagram{{udp(false, 0, true, 53, payload(9, 1)), true}, {udp(false, 0, true, 53, payload(9, 2)), true}}
	if written, segs := deliver(t, w, f, list); written != 1 || len(segs) != 2 || !bytes.Equal(segs[1][28:], list[1].b[28:]) {
		t.Errorf("DF: %d writes, %d packets", written, len(segs))
	}
	// A port that takes no UDP_L4.
	d.ports[f.id].Load().uso = false
	if written, _ := deliver(t, w, f, same(false, 64, 64, 64)); written != 3 {
		t.Errorf("without USO: %d writes, want 3", written)
	}
}

// TestCoalesceRandom mixes flows at random: whatever is merged, the packets that
// arrive are those that were sent, in the same order.
func TestCoalesceRandom(t *testing.T) {
	d := testDevice(t, Config{})
	w := drive(t, d, 0)
	f := addFake(t, d, device.PortConfig{})
	rnd := rand.New(rand.NewPCG(7, 7))
	writes, packets := 0, 0
	for range 300 {
		var list []datagram
		id, size := uint16(rnd.Uint32()), 1+rnd.IntN(1000)
		port := uint16(1)
		for range 1 + rnd.IntN(120) {
			id++
			switch rnd.IntN(10) {
			case 0:
				port = uint16(rnd.IntN(3))
			case 1:
				size = 1 + rnd.IntN(1000)
			case 2:
				id += uint16(rnd.IntN(2))
			}
			b := []byte(fmt.Sprintf("%0*d", size, packets+len(list)))
			list = append(list, datagram{udp(port == 2, id, false, port, b), rnd.IntN(20) > 0})
		}
		n, segs := deliver(t, w, f, list)
		if len(segs) != len(list) {
			t.Fatalf("%d packets arrive, want %d", len(segs), len(list))
		}
		for i, b := range segs {
			if !bytes.Equal(b, list[i].b) {
				t.Fatalf("packet %d: % x, want % x", i, b, list[i].b)
			}
		}
		writes, packets = writes+n, packets+len(list)
	}
	if writes > packets/2 {
		t.Errorf("%d packets took %d writes", packets, writes)
	}
	invariants(t, d)
}
