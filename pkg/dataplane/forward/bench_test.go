// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// fullSnapshot has two pods with a policy each that allows them to talk, a
// service in front of one of them, masquerade towards the world, and the host: all
// stages are on.
func fullSnapshot() *dataplanev1.Snapshot {
	allow := func(name, set string) []*dataplanev1.Rule {
		return []*dataplanev1.Rule{
			{Name: name + "-other", Action: dataplanev1.Action_DENY, Peers: []string{"others"}},
			{Name: name, Action: dataplanev1.Action_ALLOW, Peers: []string{set}, L4: []*dataplanev1.L4Match{{Protocol: 6, FirstPort: 1, LastPort: 65535}, {Protocol: 17}}},
		}
	}
	return &dataplanev1.Snapshot{
		Revision: 1,
		Settings: &dataplanev1.Settings{Ipv4: "10.255.0.1", Ipv6: "fd00:ff::1", MaxConnections: 1 << 22, MaxConnectionsPerPort: 1 << 21},
		Ports: []*dataplanev1.Port{
			{Name: "a", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/a", Addresses: []string{"10.0.0.1", "fd00::1"}, Policies: []string{"p"}},
			{Name: "b", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/b", Addresses: []string{"10.0.0.2", "fd00::2"}, Policies: []string{"p"}},
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
		SourceNats: []*dataplanev1.SourceNat{{Name: "masq", Source: "10.0.0.0/24", DestinationsExcept: []string{"10.0.0.0/8"}, Addresses: []string{"192.0.2.1"}}},
		DestinationNats: []*dataplanev1.DestinationNat{
			{Name: "svc", Address: "10.96.0.1", Protocol: 17, Port: 80, Backends: []*dataplanev1.Backend{{Address: "10.0.0.2", Port: 8080}}},
			{Name: "svc6", Address: "fd00:96::1", Protocol: 17, Port: 80, Backends: []*dataplanev1.Backend{{Address: "fd00::2", Port: 8080}}},
		},
	}
}

// testForwarder makes a forwarder on a device of its own; its worker is driven by
// hand.
func testForwarder(tb testing.TB, snap *dataplanev1.Snapshot, cfg memdev.Config, conns int) (*memdev.Device, *Worker, *Forwarder) {
	tb.Helper()
	dev := memdev.New(tb, cfg)
	f, err := New(Options{Device: dev, MaxConnections: conns})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(f.Close)
	f.apply(tb, snap)
	return dev, f.workers[0], f
}

// apply applies a snapshot to a forwarder whose workers are driven by hand.
func (f *Forwarder) apply(tb testing.TB, snap *dataplanev1.Snapshot) []*dataplanev1.PortState {
	tb.Helper()
	states, err := f.Apply(tb.Context(), snap, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for _, w := range f.workers {
		w.adopt(f.tables.Load())
	}
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

// load is a kind of traffic for loader: from pod a to pod b, or, with nat, to
// the service whose backend b is.
type load struct {
	name    string
	v6, nat bool
}

var loads = []load{{name: "ipv4"}, {name: "ipv6", v6: true}, {name: "ipv4-nat", nat: true}, {name: "ipv6-nat", v6: true, nat: true}}

// BenchmarkForward measures the worker alone: from the InQ through the flow
// lookup, with policy, connection tracking, NAT and counters on, to the OutQ.
// Flows are hit in random order. ns/packet includes the rings, and not the device
// behind them.
func BenchmarkForward(b *testing.B) {
	for _, load := range loads {
		for _, flows := range []uint32{1000, 65536, 1 << 20} {
			if load.nat && flows > 65536 {
				continue // a client has no more ports
			}
			b.Run(fmt.Sprintf("%s/flows=%d", load.name, flows), func(b *testing.B) { benchForward(b, load, flows) })
		}
	}
}

// BenchmarkRehearse measures how long a trace holds up a worker's packets: a dry run
// of a first packet through a service, beside so many connections.
func BenchmarkRehearse(b *testing.B) {
	for _, flows := range []uint32{1000, 1 << 20} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			dev, w, _ := testForwarder(b, fullSnapshot(), memdev.Config{Nbufs: 1024, Forget: true, Deferred: true}, int(flows)+1024)
			newLoader(dev, loads[0], flows).open(b, w)
			area, err := newRehearsalArea()
			if err != nil {
				b.Fatal(err)
			}
			var data [loadSize]byte
			r := rehearsal{port: 1, data: udp4(data[:], addr("10.0.0.1").V4(), addr("10.96.0.1").V4(), 7, 80, loadSize), total: loadSize}
			for b.Loop() {
				if o, err := w.rehearse(area, r); err != nil || o.reason != ReasonNone {
					b.Fatal(o, err)
				}
			}
		})
	}
}

// loader refills the InQ of a device with packets of random flows, touching as
// little as it can: the headers of packets that lie ready.
type loader struct {
	load
	dev       *memdev.Device
	flows     uint32
	x         uint32
	idx, ents []uint32
	header    [48]byte // of a packet as it is sent
}

const loadSize = 64 // bytes of a packet

func newLoader(dev *memdev.Device, load load, flows uint32) *loader {
	l := &loader{load: load, dev: dev, flows: flows, x: 1}
	var first [loadSize]byte
	switch {
	case load.v6 && load.nat:
		udp6(first[:], addr("fd00::1"), addr("fd00:96::1"), 0, 80, loadSize)
	case load.v6:
		udp6(first[:], addr("fd00::1"), addr("fd00::2"), 0, 0, loadSize)
	case load.nat:
		udp4(first[:], addr("10.0.0.1").V4(), addr("10.96.0.1").V4(), 0, 80, loadSize)
	default:
		udp4(first[:], addr("10.0.0.1").V4(), addr("10.0.0.2").V4(), 0, 0, loadSize)
	}
	copy(l.header[:], first[:])
	for i := range dev.Area().NbufCount() {
		copy(dev.Area().NbufBytes(i)[abi.NbufData:], first[:])
		off := uint16(20)
		if load.v6 {
			off = 40
		}
		*dev.Area().Nbuf(i) = abi.Nbuf{IPort: 1, Off: abi.NbufData, Len: loadSize, Total: loadSize, CsumStart: off, CsumOffset: 6}
	}
	return l
}

// fill puts n packets of the flows that next names on the InQ.
func (l *loader) fill(n int, next func() uint32) {
	off, size := 20, 28
	if l.v6 {
		off, size = 40, 48
	}
	l.idx = l.dev.Alloc(l.idx[:0], n)
	l.ents = l.ents[:0]
	for _, i := range l.idx {
		b := l.dev.Area().NbufBytes(i)[abi.NbufData:]
		copy(b[:size], l.header[:size])
		if flow := next(); l.nat {
			binary.BigEndian.PutUint16(b[off:], uint16(flow))
		} else {
			binary.BigEndian.PutUint32(b[off:], flow*2654435761)
		}
		nb := l.dev.Area().Nbuf(i)
		nb.Flags, nb.EPort = abi.NbCsumPartial, 0
		l.ents = append(l.ents, abi.Entry(abi.InRX, i))
	}
	l.dev.Publish(0, l.ents...)
}

func (l *loader) random() uint32 {
	l.x = l.x*1664525 + 1013904223
	return uint32(uint64(l.x) * uint64(l.flows) >> 32)
}

// open makes all flows known.
func (l *loader) open(tb testing.TB, w *Worker) {
	tb.Helper()
	seq := uint32(0)
	for seq < l.flows {
		l.fill(min(vectorSize, int(l.flows-seq)), func() uint32 { seq++; return seq - 1 })
		turn(tb, w)
		l.dev.Serve(0)
	}
	for range 2 { // what granted nbufs have pushed back
		turn(tb, w)
		l.dev.Serve(0)
	}
	if w.conns.Len() != int(l.flows) {
		tb.Fatalf("%d connections, want %d", w.conns.Len(), l.flows)
	}
}

func turn(tb testing.TB, w *Worker) int {
	n, err := w.turn()
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func benchForward(b *testing.B, load load, flows uint32) {
	dev, w, _ := testForwarder(b, fullSnapshot(), memdev.Config{Nbufs: 1024, Forget: true, Deferred: true}, int(flows)+1024)
	l := newLoader(dev, load, flows)
	l.open(b, w)
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
		dev.Serve(0)
		if err != nil {
			b.Fatal(err)
		}
	}
	if w.Stats.SlowPath != slow {
		b.Fatalf("%d packets took the slow path", w.Stats.SlowPath-slow)
	}
	b.ReportMetric(float64(busy.Nanoseconds())/float64(b.N)/vectorSize, "ns/packet")
}
