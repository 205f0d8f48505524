// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// flowPacket is an IP packet with ports, from one end to the other or back.
func flowPacket(v6, back bool, src, dst uint32, sport, dport uint16, proto byte) []byte {
	if back {
		src, dst, sport, dport = dst, src, dport, sport
	}
	b := make([]byte, 20, 80)
	if v6 {
		b = make([]byte, 40, 80)
		b[0], b[6] = 0x60, proto
		b[8], b[24] = 0xfd, 0xfd
		binary.BigEndian.PutUint32(b[20:], src)
		binary.BigEndian.PutUint32(b[36:], dst)
	} else {
		b[0], b[9] = 0x45, proto
		binary.BigEndian.PutUint32(b[12:], src)
		binary.BigEndian.PutUint32(b[16:], dst)
	}
	b = binary.BigEndian.AppendUint16(b, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	return append(b, make([]byte, 16)...)
}

// icmpError quotes a packet, from a router.
func icmpError(v6 bool, quoted []byte) []byte {
	b := flowPacket(v6, false, 99, 98, 0, 0, 1)
	if v6 {
		b[6] = 58
		b = append(b[:40], 3, 0, 0, 0, 0, 0, 0, 0)
	} else {
		b = append(b[:20], 11, 0, 0, 0, 0, 0, 0, 0)
	}
	return append(b, quoted...)
}

func TestFlowHash(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, v6 := range []bool{false, true} {
		for _, proto := range []byte{6, 17} {
			for range 200 {
				src, dst, sport, dport := rnd.Uint32(), rnd.Uint32(), uint16(rnd.Uint32()), uint16(rnd.Uint32())
				there, back := flowPacket(v6, false, src, dst, sport, dport, proto), flowPacket(v6, true, src, dst, sport, dport, proto)
				h := flowHash(there)
				if flowHash(back) != h {
					t.Fatalf("the two directions differ: % x", there)
				}
				if flowHash(icmpError(v6, there)) != h || flowHash(icmpError(v6, back)) != h {
					t.Fatalf("an error about it differs: % x", there)
				}
			}
		}
	}
	// Fragments, with and without ports, are one flow.
	first := flowPacket(false, false, 1, 2, 3, 4, 17)
	first[6] = 0x20
	later := flowPacket(false, false, 1, 2, 0xaaaa, 0xbbbb, 17)
	later[7] = 185
	if flowHash(first) != flowHash(later) {
		t.Error("fragments differ")
	}
	// Echo and its answer.
	echo, reply := flowPacket(false, false, 1, 2, 0x0800, 0, 1), flowPacket(false, true, 1, 2, 0, 0, 1)
	binary.BigEndian.PutUint16(echo[24:], 77)
	binary.BigEndian.PutUint16(reply[24:], 77)
	if flowHash(echo) != flowHash(reply) {
		t.Error("echo and its answer differ")
	}
}

// TestFlowHashSpread sees that flows which differ little use all lanes.
func TestFlowHashSpread(t *testing.T) {
	for name, packet := range map[string]func(i uint32) []byte{
		"ports":     func(i uint32) []byte { return flowPacket(false, false, 0x0a000001, 0x0a000002, uint16(32768+i), 80, 6) },
		"addresses": func(i uint32) []byte { return flowPacket(false, false, 0x0a000000+i, 0x0a010001, 1000, 80, 6) },
		"both": func(i uint32) []byte {
			return flowPacket(false, false, 0x0a000000+i, 0x0a000000+i*3, uint16(i), uint16(i), 17)
		},
		"IPv6 address": func(i uint32) []byte { return flowPacket(true, false, i, 7, 1000, 80, 6) },
	} {
		for _, lanes := range []uint32{2, 3, 4, 8} {
			const flows = 4000
			use := make([]int, lanes)
			for i := range uint32(flows) {
				use[laneOf(flowHash(packet(i)), lanes)]++
			}
			for lane, n := range use {
				if want := flows / int(lanes); n < want*7/10 || n > want*13/10 {
					t.Errorf("%s over %d lanes: %d flows on lane %d, want about %d", name, lanes, n, lane, want)
				}
			}
		}
	}
}

func FuzzFlowHash(f *testing.F) {
	f.Add(flowPacket(false, false, 1, 2, 3, 4, 6))
	f.Add(flowPacket(true, false, 1, 2, 3, 4, 17))
	f.Add(icmpError(false, flowPacket(false, false, 1, 2, 3, 4, 6)))
	f.Add(icmpError(true, flowPacket(true, false, 1, 2, 3, 4, 6)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h := flowHash(b); laneOf(h, 64) > 63 {
			t.Errorf("hash %#x", h)
		}
	})
}

func BenchmarkFlowHash(b *testing.B) {
	p := flowPacket(false, false, 1, 2, 3, 4, 6)
	for b.Loop() {
		flowHash(p)
	}
}
