// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

const (
	vxlanPort = 4789
	// vxlanLen are the headers between the outer UDP header and the inner packet.
	vxlanLen = 8 + 14
)

// inner is a packet that a tunnel carries.
type inner struct {
	src, dst netip.Addr
	tcp      bool
	flags    byte // of TCP
	payload  []byte
}

// l4 is the offset of the transport header.
func (p *inner) l4() int {
	if p.src.Is6() {
		return 40
	}
	return 20
}

// headers of the packet with a partial checksum; TCP's have options.
func (p *inner) headers() []byte {
	n := 8
	if p.tcp {
		n = 32
	}
	b := make([]byte, p.l4()+n)
	proto := byte(17)
	if p.tcp {
		proto = 6
	}
	outerHeader(b, p.src, p.dst, proto, len(p.payload))
	l4 := b[p.l4():]
	binary.BigEndian.PutUint16(l4, 1234)
	binary.BigEndian.PutUint16(l4[2:], 80)
	at := 6
	if p.tcp {
		at = 16
		binary.BigEndian.PutUint32(l4[4:], 0xfffff000) // wraps
		l4[12], l4[13] = 8<<4, p.flags
		copy(l4[20:], "\x01\x01\x08\x0atimestmp")
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(n+len(p.payload)))
	}
	binary.BigEndian.PutUint16(l4[at:], fold(pseudo(p.src, p.dst, proto, n+len(p.payload))))
	return b
}

func pseudo(src, dst netip.Addr, proto byte, n int) uint32 {
	return sum(src.AsSlice(), sum(dst.AsSlice(), uint32(proto)+uint32(n)))
}

// outerHeader writes an IP header into b, which has all headers of a packet with
// so much payload.
func outerHeader(b []byte, src, dst netip.Addr, proto byte, payload int) {
	if src.Is6() {
		b[0], b[6], b[7] = 6<<4, proto, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40+payload))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		return
	}
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+payload))
	binary.BigEndian.PutUint16(b[4:], 0xfffe) // wraps
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(b[:20], 0)))
}

// encapsulated are the headers of a tunnel in front of a packet of n bytes, IPv6 or IPv4.
func encapsulated(src, dst netip.Addr, six bool, n int) []byte {
	ip := 20
	if src.Is6() {
		ip = 40
	}
	b := make([]byte, ip+8+vxlanLen)
	outerHeader(b, src, dst, 17, n)
	u := b[ip:]
	binary.BigEndian.PutUint16(u, 50000)
	binary.BigEndian.PutUint16(u[2:], vxlanPort)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)+n))
	u[8], u[14] = 8, 42
	copy(u[16:], "\x02dest.\x02sourc\x08\x00")
	if six {
		u[28], u[29] = 0x86, 0xdd
	}
	return b
}

func (p *pod) setsockopt(c *net.UDPConn, level, option, value int) {
	p.t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) })
		err = errors.Join(err, cerr)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// far are addresses beyond a pod's outlet.
var (
	far4 = netip.MustParseAddr("198.51.100.2")
	far6 = netip.MustParseAddr("fd79::2")
)

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// testTunnel sends GSO packets with the headers of a tunnel: what leaves are
// segments, each with all headers.
func testTunnel(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	a, b := newPod6(t, dev, 1, device.PortConfig{}), newPod6(t, dev, 2, device.PortConfig{})
	out := newOutlet(b, host(far4), host(far6))
	four := inner{src: netip.MustParseAddr("10.1.0.1"), dst: netip.MustParseAddr("10.2.0.1")}
	six := inner{src: netip.MustParseAddr("fd01::1"), dst: netip.MustParseAddr("fd02::1")}
	for _, outer := range [][2]netip.Addr{{a.v4, far4}, {a.v6, far6}} {
		for _, of := range []inner{four, six} {
			for _, tcp := range []bool{true, false} {
				for _, size := range []int{1, 988, 1000, 1001, 4000, 39_999} {
					p := of
					p.tcp, p.flags, p.payload = tcp, 0x99, pattern(size, byte(size)) // CWR, ACK, PSH, FIN
					t.Run(fmt.Sprintf("outer %s inner %s tcp=%v %d bytes", outer[1], p.dst, tcp, size), func(t *testing.T) {
						w.sendGSO(b.id(), p.tunnelled(outer[0], outer[1]), &p, 1000)
						at := 0
						for i := 0; at < size; i++ {
							n := min(1000, size-at)
							p.checkSegment(t, checkOuter(t, out.next(t, outer[1]), p.src.Is6(), i), i, at, n)
							at += n
						}
					})
				}
			}
		}
	}
	if w.bad() != 0 {
		t.Errorf("%d bad entries", w.bad())
	}
	refuseTunnels(t, w, b.id(), four, six, a)
	w.settle()
}

// refuseTunnels sends what is no tunnel's. Each is refused, and costs nothing but
// itself.
func refuseTunnels(t *testing.T, w *worker, port uint32, four, six inner, a *pod) {
	// Offsets of what is in both: outer IPv4, UDP, VXLAN, Ethernet, inner IPv4, TCP.
	const udp, ether, ip, tcp = 20, 36, 50, 70
	set := func(at int, v byte) func(*abi.Nbuf, []byte) {
		return func(_ *abi.Nbuf, b []byte) { b[at] = v }
	}
	bad := w.bad()
	refuse := func(what string, p inner, spoil func(*abi.Nbuf, []byte)) {
		t.Helper()
		p.tcp, p.payload = true, pattern(20, 1)
		w.spoil = spoil
		w.sendGSO(port, p.tunnelled(a.v4, far4), &p, 10)
		w.spoil = nil
		if bad++; w.bad() != bad {
			t.Errorf("%s: %d bad entries, want %d", what, w.bad(), bad)
			bad = w.bad()
		}
	}
	for _, c := range []struct {
		what  string
		spoil func(*abi.Nbuf, []byte)
	}{
		{"a byte less than a tunnel's headers", func(nb *abi.Nbuf, _ []byte) { nb.Encap = 49 }},
		{"more than any tunnel's headers", func(nb *abi.Nbuf, _ []byte) { nb.Encap = 71 }},
		{"headers of the largest number", func(nb *abi.Nbuf, _ []byte) { nb.Encap = 0xffff }},
		{"as many headers as IPv6 has", func(nb *abi.Nbuf, _ []byte) { nb.Encap = 70 }},
		{"headers to the end", func(nb *abi.Nbuf, _ []byte) { nb.Encap = nb.Len }},
		{"a checksum in the tunnel's headers", func(nb *abi.Nbuf, _ []byte) { nb.CsumStart = udp }},
		{"a checksum of the inner IP header", func(nb *abi.Nbuf, _ []byte) { nb.CsumStart = nb.Encap }},
		{"a checksum behind the TCP header", func(nb *abi.Nbuf, _ []byte) { nb.CsumStart += 4 }},
		{"a checksum beyond the nbuf", func(nb *abi.Nbuf, _ []byte) { nb.CsumStart = nb.Len - 17 }},
		{"no checksum", func(nb *abi.Nbuf, _ []byte) { nb.Flags &^= abi.NbCsumPartial }},
		{"segments of IPv6", func(nb *abi.Nbuf, _ []byte) { nb.GSOType = abi.GSOTCPv6 }},
		{"segments of UDP", func(nb *abi.Nbuf, _ []byte) { nb.GSOType, nb.CsumOffset = abi.GSOUDPL4, 6 }},
		{"outer options", set(0, 0x46)},
		{"an outer header of IPv6", set(0, 0x65)},
		{"an outer fragment", set(6, 0x20)},
		{"an outer header of TCP", set(9, 6)},
		{"an outer checksum", set(udp+7, 1)},
		{"an inner packet of another type", set(ether+13, 6)},
		{"a VLAN", set(ether+12, 0x81)},
		{"an inner header of IPv6", set(ip, 0x65)},
		{"inner options", set(ip, 0x46)},
		{"an inner header without a length", set(ip, 0x40)},
		{"an inner fragment", set(ip+7, 1)},
		{"an inner header of UDP", set(ip+9, 17)},
		{"a TCP header that is too short", set(tcp+12, 4<<4)},
		{"a TCP header that is too long", set(tcp+12, 15<<4)},
	} {
		refuse(c.what, four, c.spoil)
	}
	refuse("an inner IPv6 header of UDP", six, set(ip+6, 17))
	refuse("an inner IPv6 header of IPv4", six, set(ip, 0x45))
	refuse("an inner IPv6 packet as IPv4", six, set(ether+12, 8))
}

// testTunnelParked sends what a pod's kernel has left unsegmented on in a tunnel.
func testTunnelParked(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	a, b := newPod(t, dev, 1, device.PortConfig{}), newPod(t, dev, 2, device.PortConfig{})
	out := newOutlet(b, host(far4))
	from := a.udp(a.v4, 1234)
	a.setsockopt(from, unix.SOL_UDP, unix.UDP_SEGMENT, 1000)
	for _, clone := range []bool{false, true} {
		p := inner{src: a.v4, dst: a.v4.Next(), payload: pattern(30_500, 7)}
		send(t, from, p.dst, 80, p.payload)
		rx := w.next(abi.InRX)
		if rx.head.GSOType != abi.GSOUDPL4 || rx.head.Flags&abi.NbParked == 0 {
			w.free(rx)
			w.settle()
			if w.area.Header().Device == abi.DevKernel {
				t.Fatalf("the knet has not left it unsegmented: %+v", rx.head)
			}
			t.Skipf("TUN of this kernel has segmented it: %+v", rx.head) // before Linux 6.2
		}
		idx := rx.nbufs[0]
		nb := w.area.Nbuf(idx)
		outer := encapsulated(a.v4, far4, false, int(nb.Total))
		n := uint16(len(outer))
		nb.Off, nb.Len, nb.Total, nb.CsumStart, nb.Encap = nb.Off-n, nb.Len+n, nb.Total+uint32(n), nb.CsumStart+n, n
		nb.Flags |= abi.NbDirty
		nb.EPort = b.id()
		copy(w.area.NbufBytes(idx)[nb.Off:], outer)
		times := 1
		if clone {
			w.put(abi.Entry(abi.OutClone, idx))
			times++
		}
		w.put(abi.Entry(abi.OutTX, idx))
		w.turn()
		for range times {
			for i, at := 0, 0; at < len(p.payload); i++ {
				size := min(1000, len(p.payload)-at)
				p.checkSegment(t, checkOuter(t, out.next(t, far4), false, i), -1, at, size)
				at += size
			}
		}
	}
	if w.bad() != 0 {
		t.Errorf("%d bad entries", w.bad())
	}
	w.settle()
}

// tunnelled are the headers of a tunnel in front of the packet.
func (p *inner) tunnelled(src, dst netip.Addr) []byte {
	return encapsulated(src, dst, p.src.Is6(), len(p.headers())+len(p.payload))
}

// sendGSO sends a packet, behind the headers of a tunnel if there are any, as a chain
// of nbufs that is to be cut into segments with so much payload.
func (w *worker) sendGSO(port uint32, tunnel []byte, p *inner, size int) {
	w.t.Helper()
	data := slices.Concat(tunnel, p.headers(), p.payload)
	const room = 700
	n := (len(data) + room - 1) / room
	var ents []uint32
	for i, idx := range w.grant(n) {
		part := data[i*room : min((i+1)*room, len(data))]
		w.fill(idx, port, part)
		e := abi.Entry(abi.OutTX, idx)
		if i < n-1 {
			e |= abi.EntMore
		}
		if i == 0 {
			nb := w.area.Nbuf(idx)
			nb.Total, nb.Encap, nb.GSOSize = uint32(len(data)), uint16(len(tunnel)), uint16(size)
			nb.Flags |= abi.NbCsumPartial | abi.NbDirty
			nb.CsumStart = uint16(len(tunnel) + p.l4())
			switch nb.CsumOffset = 6; {
			case p.tcp && p.src.Is6():
				nb.GSOType, nb.CsumOffset = abi.GSOTCPv6, 16
			case p.tcp:
				nb.GSOType, nb.CsumOffset = abi.GSOTCPv4, 16
			default:
				nb.GSOType = abi.GSOUDPL4
			}
			if w.spoil != nil {
				w.spoil(nb, w.area.NbufBytes(idx)[nb.Off:])
			}
		}
		ents = append(ents, e)
	}
	w.put(ents...)
	w.turn()
}

// checkOuter looks at the headers of a tunnel in front of segment i, and returns
// the inner packet, of IPv6 or IPv4.
func checkOuter(t *testing.T, got []byte, six bool, i int) []byte {
	t.Helper()
	ip, want := 20, encapsulated(netip.IPv4Unspecified(), netip.IPv4Unspecified(), six, 0)
	if got[0]>>4 == 6 {
		ip = 40
	}
	if len(got) < ip+8+vxlanLen {
		t.Fatalf("segment %d is % x", i, got)
	}
	if ip == 20 {
		if l := binary.BigEndian.Uint16(got[2:]); int(l) != len(got) || fold(sum(got[:20], 0)) != 0xffff || binary.BigEndian.Uint16(got[4:]) != uint16(0xfffe+i) {
			t.Errorf("segment %d: outer IPv4 header % x", i, got[:ip])
		}
	} else if l := binary.BigEndian.Uint16(got[4:]); int(l) != len(got)-ip {
		t.Errorf("segment %d: outer IPv6 header % x", i, got[:ip])
	}
	if l := binary.BigEndian.Uint16(got[ip+4:]); int(l) != len(got)-ip || got[ip+6] != 0 || got[ip+7] != 0 {
		t.Errorf("segment %d: outer UDP header % x", i, got[ip:ip+8])
	}
	if b := got[ip+8 : ip+8+vxlanLen]; !bytes.Equal(b, want[28:]) {
		t.Errorf("segment %d: VXLAN and Ethernet headers % x, want % x", i, b, want[28:])
	}
	return got[ip+8+vxlanLen:]
}

// checkSegment looks at segment i of p, with n bytes of payload from at on. Its
// number counts in IPv4 headers, unless it is -1.
func (p *inner) checkSegment(t *testing.T, b []byte, i, at, n int) {
	t.Helper()
	hdr := p.l4() + 8
	if p.tcp {
		hdr = p.l4() + 32
	}
	if len(b) != hdr+n {
		t.Fatalf("segment from %d on has %d bytes, want %d", at, len(b), hdr+n)
	}
	if p.src.Is4() {
		if l := binary.BigEndian.Uint16(b[2:]); int(l) != len(b) || fold(sum(b[:20], 0)) != 0xffff {
			t.Errorf("segment from %d on: IPv4 header % x", at, b[:20])
		}
		if id := binary.BigEndian.Uint16(b[4:]); i >= 0 && id != uint16(0xfffe+i) {
			t.Errorf("segment %d has identification %#x", i, id)
		}
	} else if l := binary.BigEndian.Uint16(b[4:]); int(l) != len(b)-40 {
		t.Errorf("segment from %d on: IPv6 header % x", at, b[:40])
	}
	l4, proto, check := b[p.l4():], byte(17), 6
	if p.tcp {
		proto, check = 6, 16
		if seq := binary.BigEndian.Uint32(l4[4:]); seq != 0xfffff000+uint32(at) {
			t.Errorf("segment from %d on has sequence number %#x", at, seq)
		}
		want := p.flags
		if at > 0 {
			want &^= 0x80
		}
		if at+n < len(p.payload) {
			want &^= 0x09
		}
		if l4[13] != want {
			t.Errorf("segment from %d on has flags %#x, want %#x", at, l4[13], want)
		}
	} else if l := binary.BigEndian.Uint16(l4[4:]); int(l) != len(l4) {
		t.Errorf("segment from %d on: UDP header % x", at, l4[:8])
	}
	if fold(sum(l4, pseudo(p.src, p.dst, proto, len(l4)))) != 0xffff {
		t.Errorf("segment from %d on has checksum % x", at, l4[check:check+2])
	}
	if !bytes.Equal(b[hdr:], p.payload[at:at+n]) {
		t.Errorf("the payload from %d on differs", at)
	}
}
