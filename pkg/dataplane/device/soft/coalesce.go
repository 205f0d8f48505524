// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/abi"
)

// Neighbouring UDP packets of one flow with payloads of one size go to the kernel
// as one UDP_L4 GSO packet. It then walks through the receiving stack once,
// and is cut up again right before the socket, which sees the same datagrams
// in the same order:
//
//	TX a: IP UDP aaaa                       new IP UDP header
//	TX b: IP UDP bbbb   ──one writev──>     aaaa bbbb cc      gso_size 4
//	TX c: IP UDP cc
//
// All that is different after that is what nobody may rely on: IPv4
// identifications of packets with DF set (RFC 6864, section 4.1). Packet sockets
// and netfilter in the pod see the one packet, as they do after GRO.

const (
	maxSegments   = 64 // UDP_MAX_SEGMENTS of Linux before 6.9
	maxMergedLen  = 65535
	mergedHdrRoom = 40 + 8 // IPv6 and UDP
)

// merged is the beginning of a coalesced packet, as it is written.
type merged struct {
	vnet vnetHdr
	hdr  [mergedHdrRoom]byte
}

// udpHeaders is the length of the headers of a packet that may be merged, 0 for
// all others: IPv4 without options and fragments, or IPv6 without extensions,
// and a UDP datagram whose checksum is left to the receiver.
func (l *lane) udpHeaders(d *txDesc) int {
	if d.action != abi.OutTX || d.n != 1 || d.slot != 0 || d.vnet.gsoType != abi.GSONone ||
		d.vnet.flags != vnetNeedsCsum || d.vnet.csumOffset != 6 {
		return 0
	}
	s := &l.segs[d.first]
	b := l.segBytes(s)
	switch {
	case d.vnet.csumStart == 20 && len(b) > 28 && b[0] == 0x45 && b[9] == 17 &&
		be16(b[6:])&0x3fff == 0 && int(be16(b[2:])) == len(b) &&
		int(be16(b[24:])) == len(b)-20:
		return 28
	case d.vnet.csumStart == 40 && len(b) > 48 && b[0]>>4 == 6 && b[6] == 17 &&
		int(be16(b[4:])) == len(b)-40 &&
		int(be16(b[44:])) == len(b)-40:
		return 48
	}
	return 0
}

func (l *lane) segBytes(s *segment) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(l.nbuf(s.idx), int(s.off))), int(s.len))
}

// sameFlow tells whether packet b may follow a in one GSO packet, when both have
// headers of length h, and a stands k places before b.
func sameFlow(a, b []byte, h int, k uint16) bool {
	// Ones' complement sums over the fields that differ must agree, or one
	// of the checksums is wrong, and the receiver has to see that.
	if h == 28 {
		if be16(a) != be16(b) || binary.BigEndian.Uint32(a[6:]) != binary.BigEndian.Uint32(b[6:]) ||
			binary.BigEndian.Uint64(a[12:]) != binary.BigEndian.Uint64(b[12:]) ||
			binary.BigEndian.Uint32(a[20:]) != binary.BigEndian.Uint32(b[20:]) {
			return false
		}
		if be16(b[4:]) != be16(a[4:])+k && a[6]&0x40 == 0 {
			return false
		}
		ipA := uint32(be16(a[2:])) + uint32(be16(a[4:])) + uint32(be16(a[10:]))
		ipB := uint32(be16(b[2:])) + uint32(be16(b[4:])) + uint32(be16(b[10:]))
		if ipA%0xffff != ipB%0xffff {
			return false
		}
	} else if binary.BigEndian.Uint64(a)&^0xffff0000 != binary.BigEndian.Uint64(b)&^0xffff0000 ||
		[32]byte(a[8:40]) != [32]byte(b[8:40]) ||
		binary.BigEndian.Uint32(a[40:]) != binary.BigEndian.Uint32(b[40:]) {
		return false
	}
	// A pseudo header's sum less the length it has in it.
	ua, ub := a[h-8:], b[h-8:]
	return (uint32(be16(ua[6:]))+0xffff-uint32(be16(ua[4:])))%0xffff == (uint32(be16(ub[6:]))+0xffff-uint32(be16(ub[4:])))%0xffff
}

// run is the number of descriptors from i on that may go as one packet, and the
// length of their headers.
func (l *lane) run(i int) (n, hdr int) {
	first := &l.descs[i]
	if i+1 >= l.nd || first.port == nil || !first.port.uso || l.descs[i+1].port != first.port {
		return 1, 0
	}
	if hdr = l.udpHeaders(first); hdr == 0 {
		return 1, 0
	}
	a := l.segBytes(&l.segs[first.first])
	total := len(a)
	for n = 1; n < maxSegments && i+n < l.nd; n++ {
		d := &l.descs[i+n]
		if d.port != first.port || l.udpHeaders(d) != hdr {
			break
		}
		b := l.segBytes(&l.segs[d.first])
		if len(b) > len(a) || total+len(b)-hdr > maxMergedLen || !sameFlow(a, b, hdr, uint16(n)) {
			break
		}
		total += len(b) - hdr
		if len(b) < len(a) { // only the last may be shorter
			n++
			break
		}
	}
	return n, hdr
}

// sendRun writes n packets as one; false if the kernel does not take it.
func (l *lane) sendRun(i, n, hdr int) bool {
	first := &l.descs[i]
	p := first.port
	a := l.segBytes(&l.segs[first.first])
	m := &l.merged
	copy(m.hdr[:hdr], a)
	total := hdr
	for j := range n {
		s := &l.segs[l.descs[i+j].first]
		l.iov[1+j] = iovec{unsafe.Add(l.nbuf(s.idx), int(s.off)+hdr), uintptr(int(s.len) - hdr)}
		total += int(s.len) - hdr
	}
	m.fix(hdr, len(a), total)
	m.vnet = vnetHdr{
		flags: vnetNeedsCsum, gsoType: abi.GSOUDPL4, hdrLen: uint16(hdr), gsoSize: uint16(len(a) - hdr),
		csumStart: uint16(hdr - 8), csumOffset: 6,
	}
	l.iov[0] = iovec{unsafe.Pointer(m), uintptr(vnetLen + hdr)}
	l.calls++
	got, errno := rawWritev(p.fd, &l.iov[0], 1+n)
	if errno != 0 || got != vnetLen+total {
		return false
	}
	l.dl.TxPackets += uint64(n)
	return true
}

// fix gives the copied headers of a packet of length was the length now.
func (m *merged) fix(hdr, was, now int) {
	b := m.hdr[:hdr]
	udp := b[hdr-8:]
	if hdr == 28 {
		binary.BigEndian.PutUint16(b[2:], uint16(now))
		c := ^be16(b[10:])
		binary.BigEndian.PutUint16(b[10:], ^adjust(c, was, now))
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(now-40))
	}
	binary.BigEndian.PutUint16(udp[4:], uint16(now-hdr+8))
	// A partial checksum is the pseudo header's sum, not inverted.
	binary.BigEndian.PutUint16(udp[6:], adjust(be16(udp[6:]), was-hdr+8, now-hdr+8))
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// adjust replaces one word of a ones' complement sum (RFC 1624).
func adjust(sum uint16, was, now int) uint16 {
	s := uint32(sum) + uint32(^uint16(was)) + uint32(uint16(now))
	s = s&0xffff + s>>16
	return uint16(s&0xffff + s>>16)
}
