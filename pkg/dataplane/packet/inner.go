// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// Inner is the packet that an ICMP error quotes, as far as it is quoted. Its
// Tuple is of the direction in which the quoted packet travelled: towards
// where the error comes from.
type Inner struct {
	Tuple
	Off   uint16 // where the quoted packet begins, from the outer packet's start
	L4Off uint16 // where its L4 header begins, from the same
	// Avail is the number of bytes of its L4 header and payload that are in the
	// nbuf: at least 8 if the protocol has ports or is ICMP.
	Avail uint16
}

// innerMinL4 is what RFC 792 quotes of the L4 header.
const innerMinL4 = 8

// ParseInner reads the packet that an ICMP error quotes; b and info are as
// Parse took and gave them. NoInner is returned for anything that does not
// belong to a flow: a later fragment, an ICMP error in turn, too short a
// quote, and if info is not of an ICMP error.
func ParseInner(b []byte, info *Info, inner *Inner) Reason {
	*inner = Inner{}
	if !info.IsICMPError {
		return NoInner
	}
	b = b[:min(len(b), int(info.TotalLen))]
	off := int(info.HdrLen)
	quoted := int(info.TotalLen) - off // in the packet
	q := b[off:]                       // in the nbuf
	var in Info
	var r Reason
	if info.Family == IPv4 {
		r = quote4(q, quoted, &in)
	} else {
		r = quote6(q, quoted, &in)
	}
	inner.Tuple = in.Tuple
	if r != OK {
		return r
	}
	if in.FragOff != 0 {
		return NoInner
	}
	inner.Off = uint16(off)
	inner.L4Off = uint16(off) + in.L4Off
	inner.Avail = uint16(len(b) - int(inner.L4Off))
	if l4MinLen[in.Proto] == 0 {
		return OK
	}
	if quoted-int(in.L4Off) < innerMinL4 {
		return NoInner
	}
	if inner.Avail < innerMinL4 {
		return Truncated
	}
	l4 := b[inner.L4Off:]
	if HasPorts(in.Proto) {
		inner.SrcPort = binary.BigEndian.Uint16(l4)
		inner.DstPort = binary.BigEndian.Uint16(l4[2:])
		return OK
	}
	switch icmpKind(in.Proto, l4[0]) {
	case icmpQuery, icmpReply:
		if (in.Proto == ProtoICMP) != (info.Family == IPv4) {
			return NoInner
		}
		inner.SrcPort = binary.BigEndian.Uint16(l4[4:])
		inner.DstPort = binary.BigEndian.Uint16(l4)
		return OK
	}
	return NoInner
}

// quote4 reads a quoted IPv4 header. Its checksum and length are not looked
// at: routers on the way have changed it, and some spoil it.
func quote4(q []byte, quoted int, in *Info) Reason {
	if quoted < ip4HdrLen {
		return NoInner
	}
	if len(q) < ip4HdrLen {
		return Truncated
	}
	hlen := int(q[0]&15) * 4
	if q[0]>>4 != 4 || hlen < ip4HdrLen || hlen > quoted {
		return NoInner
	}
	if hlen > len(q) {
		return Truncated
	}
	in.Proto = q[9]
	in.Src = Addr4(binary.BigEndian.Uint32(q[12:]))
	in.Dst = Addr4(binary.BigEndian.Uint32(q[16:]))
	in.FragOff = binary.BigEndian.Uint16(q[6:]) & 0x1fff << 3
	in.L4Off = uint16(hlen)
	return OK
}

// quote6 reads a quoted IPv6 header and its extension headers.
func quote6(q []byte, quoted int, in *Info) Reason {
	if quoted < ip6HdrLen {
		return NoInner
	}
	if len(q) < ip6HdrLen {
		return Truncated
	}
	in.Proto = q[6]
	in.Src = addr16(q[8:24])
	in.Dst = addr16(q[24:40])
	if q[0]>>4 != 6 || in.Src.Is4() || in.Dst.Is4() {
		return NoInner
	}
	switch r := walkExtHeaders(q, quoted, in); r {
	case OK, Truncated:
		return r
	}
	return NoInner
}

// RewriteError translates an ICMP error of a flow under NAT (RFC 5508 section
// 4.2): the outer addresses become src and dst, the quoted packet's
// addresses and ports or ICMP identifier become those of quoted, and the
// checksums of the quoted IP header, of the quoted L4 header where it is
// in the nbuf, of the ICMP message and of the outer IP header follow. partial
// is as for Rewrite.Apply. The Tuples of info and inner follow.
//
// The quoted packet's checksum is updated, not computed, and SCTP's is left as
// it is: only the sender of the quoted packet could have use for it.
func RewriteError(b []byte, info *Info, inner *Inner, src, dst Addr, quoted Tuple, partial bool) {
	// All that changes in the quote lies before end. The ICMP checksum covers
	// it, so it changes by the difference of the sums.
	l4 := b[inner.L4Off:min(len(b), int(info.TotalLen))]
	changes := b[inner.Off : int(inner.L4Off)+min(len(l4), 18)]
	before := Sum(changes, 0)
	rewriteQuote(b[inner.Off:], l4, info.Family, inner, quoted)
	change := addSum(^before, Sum(changes, 0))

	outer := delta(info.Src.Words()+info.Dst.Words(), src.Words()+dst.Words())
	if info.Family == IPv4 {
		putAddrs4(b, src, dst, outer)
	} else {
		src.put16(b[8:])
		dst.put16(b[24:])
	}
	info.Src, info.Dst = src, dst
	at := b[info.L4Off+2 : info.L4Off+4]
	c := binary.BigEndian.Uint16(at)
	if info.Proto == ProtoICMP {
		outer = 0
	}
	if partial {
		c = addSum(c, outer)
	} else {
		c = adjust(c, addSum(outer, change))
	}
	binary.BigEndian.PutUint16(at, c)
}

// putAddrs4 writes an IPv4 header's addresses and adjusts its checksum.
func putAddrs4(h []byte, src, dst Addr, change uint16) {
	_ = h[19]
	binary.BigEndian.PutUint32(h[12:], src.V4())
	binary.BigEndian.PutUint32(h[16:], dst.V4())
	binary.BigEndian.PutUint16(h[10:], adjust(binary.BigEndian.Uint16(h[10:]), change))
}

// rewriteQuote rewrites a quoted packet, h from its IP header and l4 from its
// L4 header on.
func rewriteQuote(h, l4 []byte, family uint8, inner *Inner, to Tuple) {
	addrs := delta(inner.Src.Words()+inner.Dst.Words(), to.Src.Words()+to.Dst.Words())
	if family == IPv4 {
		putAddrs4(h, to.Src, to.Dst, addrs)
	} else {
		to.Src.put16(h[8:])
		to.Dst.put16(h[24:])
	}
	d := &l4sums[inner.Proto]
	var change uint16
	if d.pseudo {
		change = addrs
	}
	switch {
	case HasPorts(inner.Proto):
		change = addSum(change, delta(uint64(inner.SrcPort)+uint64(inner.DstPort), uint64(to.SrcPort)+uint64(to.DstPort)))
		binary.BigEndian.PutUint16(l4, to.SrcPort)
		binary.BigEndian.PutUint16(l4[2:], to.DstPort)
		inner.SrcPort, inner.DstPort = to.SrcPort, to.DstPort
	case d.id:
		change = addSum(change, delta(uint64(inner.SrcPort), uint64(to.SrcPort)))
		binary.BigEndian.PutUint16(l4[4:], to.SrcPort)
		inner.SrcPort = to.SrcPort
	}
	inner.Src, inner.Dst = to.Src, to.Dst
	if at := int(d.off); d.has && len(l4) >= at+2 {
		c := binary.BigEndian.Uint16(l4[at:])
		if d.zero && c == 0 {
			return
		}
		if c = adjust(c, change); c == 0 && d.zero {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(l4[at:], c)
	}
}
