// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"math/bits"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/packet"
)

// A TUN cannot segment what is in a tunnel (before Linux 6.17 at all). So a GSO
// packet with Encap is cut here: each segment is one write of headers that are made
// for it and of its part of the payload, where that lies.
//
//	nbuf  | outer | inner headers | pay |     parked | load load load |
//	write | outer'| inner headers'| pay | pa |
//	write | outer'| inner headers'| rked |   ...
//
// A TUN cannot be told either that a checksum to be completed is the inner packet's: a
// NIC that knows the outer one alone would leave it as it is. So it is completed here,
// of all packets of tunnels.

// tunnelHdrMax is the most that a segment's headers take: a tunnel's, IPv6's and
// TCP's with all options.
const tunnelHdrMax = abi.EncapMax + 40 + 60

// cut is a packet that is being segmented.
type cut struct {
	// hdr are the packet's headers, and a place right before them for the TUN's.
	room [16 + tunnelHdrMax]byte
	hdr  []byte // in room
	// Offsets in hdr of the outer UDP header and of the inner IP and L4 headers.
	udp, ip, l4 int
	tcp         bool
	flags       byte // of TCP
	sum         uint16
	seq         uint32
	id, outerID uint16
}

// TCP flags that only one of the segments has (RFC 9293, RFC 3168).
const (
	tcpFinPsh = 0x09 // the last
	tcpCwr    = 0x80 // the first
)

// open copies and checks the headers of a packet that has b in its first nbuf. It
// is false if they are not what gsoType and encap say.
func (c *cut) open(b []byte, d *txDesc) bool {
	c.ip, c.l4 = int(d.encap), int(d.vnet.csumStart)
	if c.ip < 50 || c.ip > abi.EncapMax || c.l4 < c.ip+20 || d.vnet.flags&vnetNeedsCsum == 0 {
		return false
	}
	n, proto := c.l4+8, uint8(packet.ProtoUDP)
	switch d.vnet.gsoType &^ abi.GSOECN {
	case abi.GSOTCPv4, abi.GSOTCPv6:
		if len(b) < c.l4+20 || d.vnet.csumOffset != 16 {
			return false
		}
		c.tcp, proto = true, packet.ProtoTCP
		n = c.l4 + int(b[c.l4+12]>>4)*4
		if n < c.l4+20 {
			return false
		}
	case abi.GSOUDPL4:
		if c.tcp = false; d.vnet.csumOffset != 6 {
			return false
		}
	default:
		return false
	}
	if n > len(b) || n > tunnelHdrMax {
		return false
	}
	c.hdr = c.room[16 : 16+n]
	copy(c.hdr, b)
	h := c.hdr
	switch {
	case h[0] == 0x45 && c.ip == 50 && h[9] == packet.ProtoUDP && !isFragment(h):
		c.udp = 20
		c.outerID = be16(h[4:])
	case h[0]>>4 == 6 && c.ip == 70 && h[6] == packet.ProtoUDP:
		c.udp = 40
	default:
		return false
	}
	inner, ether := h[c.ip:], be16(h[c.ip-2:])
	switch version := inner[0] >> 4; {
	case be16(h[c.udp+6:]) != 0: // the segments' checksums would be wrong
		return false
	case version == 4 && ether == unix.ETH_P_IP && c.l4-c.ip == int(inner[0]&15)*4 && inner[9] == proto && !isFragment(inner) && d.vnet.gsoType&^abi.GSOECN != abi.GSOTCPv6:
		c.id = be16(inner[4:])
	case version == 6 && ether == unix.ETH_P_IPV6 && isTransport6(inner, c.l4-c.ip, proto) && d.vnet.gsoType&^abi.GSOECN != abi.GSOTCPv4:
	default:
		return false
	}
	l4 := h[c.l4:]
	// The pseudo header's sum without the length, which differs by segment.
	whole := int(d.total) - c.l4
	if c.tcp {
		c.sum, c.seq, c.flags = adjust(be16(l4[16:]), whole, 0), binary.BigEndian.Uint32(l4[4:]), l4[13]
	} else {
		c.sum = adjust(be16(l4[6:]), whole, 0)
	}
	return true
}

// isFragment tells whether an IPv4 header is a fragment's.
func isFragment(h []byte) bool { return be16(h[6:])&0x3fff != 0 }

// isTransport6 tells whether a header of the protocol may be at l4 of an IPv6 packet:
// right behind IPv6's, or behind extensions of it.
func isTransport6(h []byte, l4 int, proto uint8) bool {
	if next := h[6]; next == packet.ProtoTCP || next == packet.ProtoUDP {
		return next == proto && l4 == 40
	}
	return l4 > 40
}

// segment makes the headers of segment i, which has n bytes of payload from off
// on. last tells whether it is the last one.
func (c *cut) segment(i int, off, n int, last bool) {
	h := c.hdr
	total := len(h) + n
	if c.udp == 20 {
		setIPv4(h[:20], total, c.outerID+uint16(i))
	} else {
		binary.BigEndian.PutUint16(h[4:], uint16(total-40))
	}
	binary.BigEndian.PutUint16(h[c.udp+4:], uint16(total-c.udp))
	inner := h[c.ip:c.l4]
	if inner[0]>>4 == 4 {
		setIPv4(inner, total-c.ip, c.id+uint16(i))
	} else {
		binary.BigEndian.PutUint16(inner[4:], uint16(total-c.ip-40))
	}
	l4 := h[c.l4:]
	length := total - c.l4
	if !c.tcp {
		binary.BigEndian.PutUint16(l4[4:], uint16(length))
		binary.BigEndian.PutUint16(l4[6:], adjust(c.sum, 0, length))
		return
	}
	binary.BigEndian.PutUint32(l4[4:], c.seq+uint32(off))
	l4[13] = c.flags
	if !last {
		l4[13] &^= tcpFinPsh
	}
	if i > 0 {
		l4[13] &^= tcpCwr
	}
	binary.BigEndian.PutUint16(l4[16:], adjust(c.sum, 0, length))
}

// setIPv4 gives an IPv4 header its length and identification.
func setIPv4(h []byte, total int, id uint16) {
	binary.BigEndian.PutUint16(h[2:], uint16(total))
	binary.BigEndian.PutUint16(h[4:], id)
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], packet.Checksum(h, 0))
}

// sendSegments writes a GSO packet of a tunnel segment by segment. It is false if
// its headers are not a tunnel's.
func (l *lane) sendSegments(d *txDesc) bool {
	p, c := d.port, &l.cut
	if !c.open(l.segBytes(&l.segs[d.first]), d) {
		return false
	}
	pieces := l.pieces(d, len(c.hdr))
	payload, size := int(d.total)-len(c.hdr), int(d.vnet.gsoSize)
	v := (*vnetHdr)(unsafe.Pointer(&c.room[16-vnetLen]))
	*v = vnetHdr{}
	at := c.l4 + int(d.vnet.csumOffset)
	var errno syscall.Errno
	sent := 0
	for i, off := 0, 0; off < payload || i == 0; i++ {
		n := min(size, payload-off)
		c.segment(i, off, n, off+n == payload)
		off += n
		l.iov[0] = iovec{unsafe.Pointer(v), uintptr(vnetLen + len(c.hdr))}
		k := 1
		for left := n; left > 0; k++ {
			first := &pieces[0]
			take := min(uintptr(left), first.len)
			l.iov[k] = iovec{first.base, take}
			left -= int(take)
			if first.len -= take; first.len > 0 {
				first.base = unsafe.Add(first.base, int(take))
			} else {
				pieces = pieces[1:]
			}
		}
		binary.BigEndian.PutUint16(c.hdr[at:], checksum(c.hdr[c.l4:], l.iov[1:k]))
		l.calls++
		want := vnetLen + len(c.hdr) + n
		got, e := rawWritev(p.fd, &l.iov[0], k)
		if e != 0 || got != want {
			errno = e
			break
		}
		sent++
	}
	l.dl.TxPackets += uint64(sent)
	p.dequeue(l, d.total)
	if payload > 0 && sent < (payload+size-1)/size {
		l.sendFailed(p, errno)
	}
	return true
}

// sendCompleted writes a packet of a tunnel that is not to be cut, with its checksum
// completed. It is false if the checksum is not in the headers.
func (l *lane) sendCompleted(d *txDesc) bool {
	p, c := d.port, &l.cut
	start, at := int(d.vnet.csumStart), int(d.vnet.csumStart)+int(d.vnet.csumOffset)
	if at+2 > tunnelHdrMax || d.vnet.csumOffset%2 != 0 {
		return false
	}
	hdr := c.room[16 : 16+at+2]
	copy(hdr, l.segBytes(&l.segs[d.first]))
	n := 1 + copy(l.iov[1:], l.pieces(d, len(hdr)))
	binary.BigEndian.PutUint16(hdr[at:], checksum(hdr[start:], l.iov[1:n]))
	v := (*vnetHdr)(unsafe.Pointer(&c.room[16-vnetLen]))
	*v = vnetHdr{}
	l.iov[0] = iovec{unsafe.Pointer(v), uintptr(vnetLen + len(hdr))}
	l.calls++
	got, errno := rawWritev(p.fd, &l.iov[0], n)
	p.dequeue(l, d.total)
	if errno != 0 || got != vnetLen+int(d.total) {
		l.sendFailed(p, errno)
		return true
	}
	l.dl.TxPackets++
	return true
}

// checksum is that of a header of even length, which has the pseudo header's sum in
// the checksum's place, and of what follows it.
func checksum(hdr []byte, rest []iovec) uint16 {
	sum, odd := packet.Sum(hdr, 0), false
	for _, v := range rest {
		s := packet.Sum(unsafe.Slice((*byte)(v.base), v.len), 0)
		if odd {
			s = bits.ReverseBytes16(s)
		}
		sum = adjust(sum, 0xffff, int(s))
		odd = odd != (v.len%2 == 1)
	}
	if sum == 0xffff {
		return sum // 0 says of UDP that there is none; elsewhere they are the same
	}
	return ^sum
}

// pieces are where a packet's bytes lie from the given one on, which is in its
// first nbuf.
func (l *lane) pieces(d *txDesc, from int) []iovec {
	pieces := l.parts[:0]
	for j, s := range l.segs[d.first : d.first+uint16(d.n)] {
		skip := 0
		if j == 0 {
			skip = from
		}
		if int(s.len) > skip {
			pieces = append(pieces, iovec{unsafe.Add(l.nbuf(s.idx), int(s.off)+skip), uintptr(int(s.len) - skip)})
		}
	}
	if d.slot != 0 {
		pieces = append(pieces, iovec{l.d.st.slot(d.slot - 1), uintptr(d.parked)})
	}
	return pieces
}
