// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// fullSnapshot has two pods with a policy each that allows them to talk, NAT
// rules that do not apply, and the host: all stages are on.
func fullSnapshot() *dataplanev1.Snapshot {
	allow := func(name, set string) []*dataplanev1.Rule {
		return []*dataplanev1.Rule{
			{Name: name + "-other", Action: dataplanev1.Action_DENY, Peers: []string{"others"}},
			{Name: name, Action: dataplanev1.Action_ALLOW, Peers: []string{set}, L4: []*dataplanev1.L4Match{{Protocol: 6, FirstPort: 1, LastPort: 65535}, {Protocol: 17}}},
		}
	}
	return &dataplanev1.Snapshot{
		Revision: 1,
		Settings: &dataplanev1.Settings{Ipv4: "10.255.0.1", Ipv6: "fd00:ff::1", MaxConnectionsPerPort: 1 << 21},
		Ports: []*dataplanev1.Port{
			{Name: "a", Kind: dataplanev1.Port_POD, Ifname: "eth0", Addresses: []string{"10.0.0.1", "fd00::1"}, Policies: []string{"p"}},
			{Name: "b", Kind: dataplanev1.Port_POD, Ifname: "eth0", Addresses: []string{"10.0.0.2", "fd00::2"}, Policies: []string{"p"}},
			{Name: "host", Kind: dataplanev1.Port_HOST, Ifname: "netio0"},
		},
		Routes: []*dataplanev1.Route{{Prefix: "0.0.0.0/0", Port: "host"}, {Prefix: "::/0", Port: "host"}},
		AddressSets: []*dataplanev1.AddressSet{
			{Name: "pods", Prefixes: []string{"10.0.0.0/24", "fd00::/64"}},
			{Name: "others", Prefixes: []string{"172.16.0.0/12"}, Except: []string{"172.16.1.0/24"}},
		},
		Policies: []*dataplanev1.Policy{{
			Name: "p", IsolatesIngress: true, IsolatesEgress: true,
			Ingress: allow("in", "pods"), Egress: allow("out", "pods"),
		}},
		SourceNats:      []*dataplanev1.SourceNat{{Name: "masq", Source: "10.0.0.0/24", DestinationsExcept: []string{"10.0.0.0/8"}, Addresses: []string{"192.0.2.1"}}},
		DestinationNats: []*dataplanev1.DestinationNat{{Name: "svc", Address: "10.96.0.1", Protocol: 17, Port: 80, Backends: []*dataplanev1.Backend{{Address: "10.0.0.2", Port: 8080}}}},
	}
}

// testForwarder makes a forwarder on a memDevice; its worker is driven by hand.
func testForwarder(tb testing.TB, snap *dataplanev1.Snapshot, nbufs uint32, conns int) (*memDevice, *Worker, *Forwarder) {
	tb.Helper()
	dev := newMemDevice(tb, nbufs)
	f, err := New(Options{Device: dev, MaxConnections: conns})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(f.Close)
	w := f.workers[0]
	f.apply(tb, snap)
	return dev, w, f
}

// apply applies a snapshot to a forwarder whose worker is driven by hand.
func (f *Forwarder) apply(tb testing.TB, snap *dataplanev1.Snapshot) []*dataplanev1.PortState {
	tb.Helper()
	states, err := f.Apply(tb.Context(), snap, nil)
	if err != nil {
		tb.Fatal(err)
	}
	f.workers[0].adopt(f.tables.Load())
	return states
}

// udp4 writes an IPv4 UDP packet of size bytes with partial checksum.
func udp4(b []byte, src, dst uint32, sport, dport uint16, size int) []byte {
	b = b[:size]
	clear(b[:28])
	b[0], b[8], b[9] = 0x45, 64, packet.ProtoUDP
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	binary.BigEndian.PutUint32(b[12:], src)
	binary.BigEndian.PutUint32(b[16:], dst)
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20], 0))
	binary.BigEndian.PutUint16(b[20:], sport)
	binary.BigEndian.PutUint16(b[22:], dport)
	binary.BigEndian.PutUint16(b[24:], uint16(size-20))
	binary.BigEndian.PutUint16(b[26:], packet.PseudoSum(packet.Addr4(src), packet.Addr4(dst), packet.ProtoUDP, size-20))
	return b
}

func udp6(b []byte, src, dst packet.Addr, sport, dport uint16, size int) []byte {
	b = b[:size]
	clear(b[:48])
	b[0], b[6], b[7] = 0x60, packet.ProtoUDP, 64
	binary.BigEndian.PutUint16(b[4:], uint16(size-40))
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	binary.BigEndian.PutUint16(b[40:], sport)
	binary.BigEndian.PutUint16(b[42:], dport)
	binary.BigEndian.PutUint16(b[44:], uint16(size-40))
	binary.BigEndian.PutUint16(b[46:], packet.PseudoSum(src, dst, packet.ProtoUDP, size-40))
	return b
}

const (
	addrA = 10<<24 | 1
	addrB = 10<<24 | 2
)

// BenchmarkForward measures the worker alone: from the InQ through the flow
// lookup, with policy, connection tracking, NAT and counters on, to the OutQ.
// Flows are hit in random order. ns/packet includes the rings.
func BenchmarkForward(b *testing.B) {
	for _, version := range []string{"ipv4", "ipv6"} {
		for _, flows := range []uint32{1000, 65536, 1 << 20} {
			b.Run(fmt.Sprintf("%s/flows=%d", version, flows), func(b *testing.B) { benchForward(b, version, flows) })
		}
	}
}

// loader refills the InQ of a memDevice with packets of random flows, touching
// as little as it can: ports and checksum of packets that lie ready.
type loader struct {
	dev   *memDevice
	flows uint32
	v6    bool
	x     uint32
	ents  []uint32
}

func newLoader(dev *memDevice, v6 bool, flows uint32) *loader {
	l := &loader{dev: dev, flows: flows, v6: v6, x: 1}
	for i := range dev.area.NbufCount() {
		b := dev.area.NbufBytes(i)[abi.NbufData:]
		size := 64
		if v6 {
			udp6(b, packet.Addr{Hi: 0xfd00 << 48, Lo: 1}, packet.Addr{Hi: 0xfd00 << 48, Lo: 2}, 0, 0, size)
		} else {
			udp4(b, addrA, addrB, 0, 0, size)
		}
		*dev.area.Nbuf(i) = abi.Nbuf{IPort: 1, Off: abi.NbufData, Len: uint16(size), Total: uint32(size), Flags: abi.NbCsumPartial, CsumOffset: 6}
	}
	return l
}

func (l *loader) fill(n int, next func() uint32) {
	l.ents = l.ents[:0]
	for range n {
		i := l.dev.free[len(l.dev.free)-1]
		l.dev.free = l.dev.free[:len(l.dev.free)-1]
		flow := next()
		b := l.dev.area.NbufBytes(i)[abi.NbufData:]
		nb := l.dev.area.Nbuf(i)
		nb.Flags, nb.EPort, nb.IPort = abi.NbCsumPartial, 0, 1
		off := 20
		if l.v6 {
			off, b[7] = 40, 64
		} else {
			// Undo the hop that the last turn took.
			if b[8] != 64 {
				b[8] = 64
				binary.BigEndian.PutUint16(b[10:], binary.BigEndian.Uint16(b[10:])-0x100)
			}
		}
		binary.BigEndian.PutUint32(b[off:], flow*2654435761)
		l.ents = append(l.ents, abi.Entry(abi.InRX, i))
	}
	l.dev.in.Publish(l.ents)
}

func (l *loader) random() uint32 {
	l.x = l.x*1664525 + 1013904223
	return uint32(uint64(l.x) * uint64(l.flows) >> 32)
}

func benchForward(b *testing.B, version string, flows uint32) {
	dev, w, _ := testForwarder(b, fullSnapshot(), 1024, int(flows)+1024)
	dev.keep = false
	l := newLoader(dev, version == "ipv6", flows)
	seq := uint32(0)
	for seq < flows {
		l.fill(min(vectorSize, int(flows-seq)), func() uint32 { seq++; return seq - 1 })
		if _, err := w.turn(); err != nil {
			b.Fatal(err)
		}
		dev.serve()
	}
	for range 2 { // what granted nbufs have pushed back
		if _, err := w.turn(); err != nil {
			b.Fatal(err)
		}
	}
	if w.conns.Len() != int(flows) {
		b.Fatalf("%d connections, want %d", w.conns.Len(), flows)
	}
	slow := w.Stats.SlowPath
	b.ReportAllocs()
	// The clock is read around the turn alone: the benchmark's own timer would
	// stop the world each time, and with it empty the caches.
	var busy time.Duration
	for b.Loop() {
		l.fill(vectorSize, l.random)
		start := time.Now()
		_, err := w.turn()
		busy += time.Since(start)
		if err != nil {
			b.Fatal(err)
		}
	}
	if w.Stats.SlowPath != slow {
		b.Fatalf("%d packets took the slow path", w.Stats.SlowPath-slow)
	}
	b.ReportMetric(float64(busy.Nanoseconds())/float64(b.N)/vectorSize, "ns/packet")
}
