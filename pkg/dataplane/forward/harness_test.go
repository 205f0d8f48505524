// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

// bed is a forwarder whose worker the test drives by hand, with a clock of the
// test's.
//
//	pod a 10.0.0.1 fd00::1 ──┐            ┌── host: all else, the world
//	pod b 10.0.0.2 fd00::2 ──┤ forwarder ─┤
//	pod c 10.0.0.3 fd00::3 ──┘            └── 10.0.0.0/16, fd00::/64: unreachable
type bed struct {
	*testing.T
	dev *memdev.Device
	f   *Forwarder
	w   *Worker
	now time.Duration
	// blind: there are no dry runs, to save time or because the device does not look
	// at what is sent.
	blind bool
	area  *abi.Area // for dry runs
}

// podNet is the configuration of a bed before a test changes it.
func podNet(change ...func(*dataplanev1.Snapshot)) *dataplanev1.Snapshot {
	pod := func(name, v4, v6 string) *dataplanev1.Port {
		return &dataplanev1.Port{Name: name, Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/" + name, Addresses: []string{v4, v6}}
	}
	s := &dataplanev1.Snapshot{
		Revision: 1,
		Settings: &dataplanev1.Settings{Ipv4: "10.0.0.254", Ipv6: "fd00::fe"},
		Ports: []*dataplanev1.Port{
			pod("a", "10.0.0.1", "fd00::1"), pod("b", "10.0.0.2", "fd00::2"), pod("c", "10.0.0.3", "fd00::3"),
			{Name: "host", Kind: dataplanev1.Port_HOST, Ifname: "netio0"},
		},
		Routes: []*dataplanev1.Route{
			{Prefix: "0.0.0.0/0", Port: "host"}, {Prefix: "::/0", Port: "host"},
			{Prefix: "10.0.0.0/16"}, {Prefix: "fd00::/64"},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// jumboNet is podNet with interfaces for packets of any size.
func jumboNet(change ...func(*dataplanev1.Snapshot)) *dataplanev1.Snapshot {
	return podNet(append(change, func(s *dataplanev1.Snapshot) {
		for _, p := range s.Ports {
			p.Mtu = 65535
		}
	})...)
}

// newBed makes a bed. At the test's end every nbuf must be where it belongs.
func newBed(t *testing.T, snap *dataplanev1.Snapshot) *bed {
	t.Helper()
	return newBedOn(t, snap, memdev.Config{}, 1024)
}

func newBedOn(t *testing.T, snap *dataplanev1.Snapshot, cfg memdev.Config, conns int) *bed {
	t.Helper()
	b := &bed{T: t, now: time.Hour, blind: cfg.Forget}
	checkValid(t, snap)
	b.dev, b.w, b.f = testForwarder(t, snap, cfg, conns)
	b.w.clock, b.w.swept = func() time.Duration { return b.now }, b.now
	b.w.tick()
	b.settle() // asks for the stock of empty nbufs
	t.Cleanup(func() {
		b.settle()
		b.dev.CheckNoLeak(b.w.stock)
		if len(b.w.queue) != 0 || b.w.carry != 0 {
			t.Errorf("%d entries are left for the OutQ, %d are carried over", len(b.w.queue), b.w.carry)
		}
	})
	return b
}

func checkValid(t testing.TB, snap *dataplanev1.Snapshot) {
	t.Helper()
	if err := config.Validate(snap); err != nil {
		t.Fatalf("the test's own configuration is wrong: %v", err)
	}
}

// apply puts a configuration in force; checkValid keeps the test honest.
func (b *bed) apply(snap *dataplanev1.Snapshot) []*dataplanev1.PortState {
	b.Helper()
	checkValid(b, snap)
	states := b.f.apply(b, snap)
	turn(b, b.w) // forgets what is of removed ports
	return states
}

// port is the number of a port.
func (b *bed) port(name string) uint32 {
	b.Helper()
	p := b.f.tables.Load().PortByName(name)
	if p == nil {
		b.Fatalf("no port %q", name)
	}
	return p.ID
}

// settle turns the worker's loop until nothing is left to do.
func (b *bed) settle() {
	b.Helper()
	for idle := 0; idle < 2; idle++ { // one turn may ask for what the next one gets
		if turn(b, b.w) > 0 {
			idle = 0
		}
	}
}

// sleep lets time pass, long enough for the sweep to see the whole table.
func (b *bed) sleep(d time.Duration) {
	b.Helper()
	for range sweepTurns + 1 {
		b.now += d / (sweepTurns + 1)
		b.w.tick()
		b.w.conns.Sweep(b.w.ms, b.w.conns.Cap())
	}
	b.settle()
}

// received is a packet that comes from a port.
type received struct{ memdev.Rx }

// in cuts it into nbufs of so many bytes.
func (r received) in(room int) received { r.Room = room; return r }

// parked leaves all but the first bytes with the device.
func (r received) parked(first int) received { r.Park = first; return r }

// gso makes it a packet of many segments.
func (r received) gso(kind uint8, size int) received {
	tune := r.Tune
	r.Tune = func(nb *abi.Nbuf) {
		tune(nb)
		nb.GSOType, nb.GSOSize, nb.HdrLen = kind, uint16(size), 77
	}
	return r
}

// rx makes a packet of s to be received from a port.
func (b *bed) rx(from string, s spec) received {
	b.Helper()
	return received{memdev.Rx{Port: b.port(from), Data: s.bytes(), Tune: s.tune}}
}

// fill writes a packet from a port into an nbuf.
func (b *bed) fill(from string, idx uint32, data []byte) {
	b.Helper()
	area := b.dev.Area()
	n := copy(area.NbufBytes(idx)[abi.NbufData:], data)
	*area.Nbuf(idx) = abi.Nbuf{IPort: b.port(from), Off: abi.NbufData, Len: uint16(n), Total: uint32(n)}
}

// lay writes a packet into nbufs of so many bytes, for entries that the test makes.
func (b *bed) lay(from string, data []byte, room int) (idx []uint32) {
	b.Helper()
	total := len(data)
	for len(data) > 0 {
		idx = b.dev.Alloc(idx, 1)
		x := idx[len(idx)-1]
		b.fill(from, x, data[:min(room, len(data))])
		b.dev.Area().Nbuf(x).Total = uint32(total)
		data = data[min(room, len(data)):]
	}
	return idx
}

// receive lets packets in and returns what comes out. What a dry run says of a packet
// must be what becomes of it.
func (b *bed) receive(packets ...received) []memdev.Packet {
	b.Helper()
	before := b.total()
	rx := make([]memdev.Rx, len(packets))
	for i, p := range packets {
		rx[i] = p.Rx
	}
	var told *outcome
	if len(rx) == 1 && !b.blind {
		o := b.try(b.w, rx[0], false)
		told = &o
	}
	b.dev.Receive(rx...)
	b.settle()
	after := b.total()
	if got := after.RxPackets - before.RxPackets; got != uint64(len(packets)) {
		b.Errorf("%d packets were counted as received, want %d", got, len(packets))
	}
	sent := b.dev.Sent()
	if told != nil {
		b.foretold(*told, sent, b.reasons(before))
	}
	return sent
}

// total sums the counters of all ports. A tunnel's packets count as those of the port
// that carries it.
func (b *bed) total() PortCounters {
	var sum PortCounters
	for id, c := range b.w.ports {
		if c == nil {
			continue
		}
		if uint32(id) >= b.w.tunnels {
			c = &PortCounters{Drops: c.Drops}
		}
		sum.add(c)
	}
	return sum
}

func (c *PortCounters) add(o *PortCounters) {
	c.RxPackets += o.RxPackets
	c.RxBytes += o.RxBytes
	c.TxPackets += o.TxPackets
	c.TxBytes += o.TxBytes
	for r, n := range o.Drops {
		c.Drops[r] += n
	}
}

// send lets one packet in and returns what comes out.
func (b *bed) send(from string, s spec) []memdev.Packet {
	b.Helper()
	return b.receive(b.rx(from, s))
}

// pass sends a packet and wants it forwarded to port to, as want says.
func (b *bed) pass(from string, s spec, to string, want spec) memdev.Packet {
	b.Helper()
	before := b.total()
	sent := b.send(from, s)
	if r := b.reasons(before); len(r) != 0 {
		b.Fatalf("dropped: %v", r)
	}
	if len(sent) != 1 {
		b.Fatalf("%d packets came out, want one", len(sent))
	}
	b.same(sent[0], to, want)
	return sent[0]
}

// forward is pass for a packet that only loses a hop.
func (b *bed) forward(from string, s spec, to string) memdev.Packet {
	b.Helper()
	return b.pass(from, s, to, s.hop())
}

// same compares a packet that was sent with what it should be, its checksum
// completed as the device would.
func (b *bed) same(got memdev.Packet, to string, want spec) {
	b.Helper()
	if id := b.port(to); got.Port != id {
		b.Errorf("sent to port %d, want %d (%s)", got.Port, id, to)
	}
	if partial := got.Nbuf.Flags&abi.NbCsumPartial != 0; partial != (want.partial && want.off == 0) {
		b.Errorf("partial checksum %v, want %v", partial, want.partial)
	}
	want.partial = false
	if data := completed(got); !bytes.Equal(data, want.bytes()) {
		b.Errorf("sent %s\nwant %s", describePacket(data), describePacket(want.bytes()))
	}
}

// completed is what a packet looks like on the wire.
func completed(p memdev.Packet) []byte {
	data := slices.Clone(p.Data)
	start, offset := int(p.Nbuf.CsumStart), int(p.Nbuf.CsumOffset)
	switch {
	case p.Nbuf.Flags&abi.NbCsumPartial == 0:
	case offset == 8: // SCTP's is of another kind
		binary.LittleEndian.PutUint32(data[start+offset:], packet.SCTPChecksum(data[start:]))
	default:
		packet.CompleteChecksum(data, start, offset)
	}
	return data
}

// drop sends a packet and wants it dropped, with this reason and no other, and
// nothing sent.
func (b *bed) drop(from string, s spec, want Reason) {
	b.Helper()
	if sent := b.dropped(b.rx(from, s), want); len(sent) != 0 {
		b.Fatalf("sent %s", describePacket(sent[0].Data))
	}
}

// refuse sends a packet and wants it dropped and answered with an ICMP error.
func (b *bed) refuse(from string, s spec, want Reason, answer spec) {
	b.Helper()
	sent := b.dropped(b.rx(from, s), want)
	if len(sent) != 1 {
		b.Fatalf("%d packets came out, want an ICMP error", len(sent))
	}
	b.same(sent[0], from, answer)
}

// dropped lets a packet in, wants it dropped for a reason, and returns what came
// out all the same.
func (b *bed) dropped(rx received, want Reason) []memdev.Packet {
	b.Helper()
	before := b.total()
	at := b.w.counters(rx.Port).Drops[want]
	sent := b.receive(rx)
	if got := b.reasons(before); !slices.Equal(got, []string{want.String()}) {
		b.Fatalf("dropped for %q, want %q", strings.Join(got, " "), want)
	}
	if b.w.counters(rx.Port).Drops[want] != at+1 {
		b.Errorf("the drop was counted for another port")
	}
	return sent
}

// reasons are those of the packets dropped since before.
func (b *bed) reasons(before PortCounters) []string {
	var list []string
	now := b.total()
	for r := range now.Drops {
		for range now.Drops[r] - before.Drops[r] {
			list = append(list, Reason(r).String())
		}
	}
	return list
}

// conns is the number of connections.
func (b *bed) conns(want int) {
	b.Helper()
	if n := b.w.conns.Len(); n != want {
		b.Errorf("%d connections, want %d", n, want)
	}
}

// icmpError is the error that the router sends about s, quoting its bytes as they
// came in.
func icmpError(s spec, kind packet.ErrorKind, mtu uint32) spec {
	e := spec{src: "10.0.0.254", dst: s.src, proto: packet.ProtoICMP, tos: 0xc0, df: true, rest: mtu}
	limit := 576 - 28
	if !s.is4() {
		e = spec{src: "fd00::fe", dst: s.src, proto: packet.ProtoICMPv6, rest: mtu}
		limit = 1280 - 48
	}
	quote := s.bytes()
	e.data = quote[:min(len(quote), limit)]
	codes := map[packet.ErrorKind][4]uint8{ // RFC 792, RFC 4443
		packet.TimeExceeded:    {11, 0, 3, 0},
		packet.NetUnreachable:  {3, 0, 1, 0},
		packet.PortUnreachable: {3, 3, 1, 4},
		packet.PacketTooBig:    {3, 4, 2, 0},
	}
	c := codes[kind]
	if e.typ, e.code = c[0], c[1]; !s.is4() {
		e.typ, e.code = c[2], c[3]
	}
	return e
}

// families runs a test for both versions of IP. ip gives an address of the
// version: pods are a, b and c, anything else is in the world.
func families(t *testing.T, f func(t *testing.T, ip func(string) string)) {
	v4 := map[string]string{"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3", "world": "198.51.100.7", "router": "10.0.0.254", "nobody": "10.0.0.99", "svc": "10.96.0.1", "snat": "192.0.2.1"}
	v6 := map[string]string{"a": "fd00::1", "b": "fd00::2", "c": "fd00::3", "world": "2001:db8::7", "router": "fd00::fe", "nobody": "fd00::99", "svc": "fd00:96::1", "snat": "2001:db8:1::1"}
	for name, m := range map[string]map[string]string{"ipv4": v4, "ipv6": v6} {
		t.Run(name, func(t *testing.T) {
			f(t, func(s string) string {
				if m[s] == "" {
					t.Fatalf("no address for %q", s)
				}
				return m[s]
			})
		})
	}
}

func v4(ip string) bool { return addr(ip).Is4() }

// echo is an echo request.
func echo(src, dst string, id uint16) spec {
	s := spec{src: src, dst: dst, proto: packet.ProtoICMP, typ: 8, sport: id, size: 56}
	if !v4(src) {
		s.proto, s.typ = packet.ProtoICMPv6, 128
	}
	return s
}

// tcp is a TCP segment from port 40000 to port 80.
func tcp(src, dst string, flags uint8) spec {
	return spec{src: src, dst: dst, proto: packet.ProtoTCP, sport: 40000, dport: 80, tcp: flags}
}

// udp is a UDP packet from port 40000 to port 53.
func udp(src, dst string) spec {
	return spec{src: src, dst: dst, sport: 40000, dport: 53, size: 20}
}

// connOf is a copy of a packet's connection.
// connOf is a copy of the connection that a packet is of.
func (b *bed) connOf(s spec) *conntrack.Conn {
	b.Helper()
	var info packet.Info
	data := s.bytes()
	if r := packet.Parse(data, len(data), &info); r != packet.OK {
		b.Fatalf("parse: %s", r)
	}
	return b.connOfTuple(info.Tuple)
}

func (b *bed) connOfTuple(t packet.Tuple) *conntrack.Conn {
	b.Helper()
	key := conntrack.MakeKey(t)
	ref := b.w.conns.Lookup(&key)
	if ref == conntrack.NoRef {
		b.Fatal("the packet has no connection")
	}
	c := *b.w.conns.Conn(ref)
	return &c
}

// packetsOf are the packets that a connection counts in each direction.
func packetsOf(c *conntrack.Conn) (n [2]uint64) {
	for dir := range n {
		n[dir], _ = c.Counts(dir)
	}
	return n
}

// services has a service whose only backend is pod b, for UDP and TCP.
func services(s *dataplanev1.Snapshot) {
	for _, proto := range []uint32{packet.ProtoUDP, packet.ProtoTCP} {
		for address, backend := range map[string]string{"10.96.0.1": "10.0.0.2", "fd00:96::1": "fd00::2"} {
			s.DestinationNats = append(s.DestinationNats, &dataplanev1.DestinationNat{
				Name: fmt.Sprintf("svc-%s-%d", address, proto), Address: address, Protocol: proto, Port: 80,
				Backends: []*dataplanev1.Backend{{Address: backend, Port: 8080}},
			})
		}
	}
}
