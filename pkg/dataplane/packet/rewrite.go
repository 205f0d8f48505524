// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// Rewrite is a change of a flow's addresses and ports, worked out once
// and then applied to each of its packets: all packets of a flow have the same
// old values, so what the change adds to the checksums is known beforehand.
// It is a plain value without pointers and is read-only in use.
type Rewrite struct {
	to    Tuple
	addrs uint16 // ~old + new of the addresses
	ports uint16 // and of ports or ICMP identifier
}

// NewRewrite returns the change from one tuple to another. Both have the same
// family and, like ICMP types, the same Proto: these are not rewritten.
func NewRewrite(from, to Tuple) Rewrite {
	to.Proto = from.Proto
	r := Rewrite{
		to:    to,
		addrs: delta(from.Src.Words()+from.Dst.Words(), to.Src.Words()+to.Dst.Words()),
	}
	d := &l4sums[from.Proto]
	switch {
	case d.ports:
		r.ports = delta(uint64(from.SrcPort)+uint64(from.DstPort), uint64(to.SrcPort)+uint64(to.DstPort))
	case d.id:
		r.ports = delta(uint64(from.SrcPort), uint64(to.SrcPort))
	}
	return r
}

// delta is the folded ~old + new.
func delta(old, new uint64) uint16 { return addSum(^Fold(old), Fold(new)) }

// To is the tuple that packets have after the rewrite.
func (r *Rewrite) To() Tuple { return r.to }

// Apply rewrites a packet of the flow: addresses, ports or ICMP identifier, and
// the checksums. In later fragments, which have no L4 header, only the IP
// header changes. partial says that the L4 checksum is to be completed by
// the device (see Info.IsPartial): its field then holds the pseudo-header's
// sum, not inverted, in which addresses count and ports do not. info
// keeps describing the packet as it came, but for Tuple, which follows.
//
// SCTP's checksum covers ports but no addresses; if a port changes it is
// updated for info.TotalLen, whatever part of the packet is in b.
func (r *Rewrite) Apply(b []byte, info *Info, partial bool) {
	to := &r.to
	if info.Family == IPv4 {
		h := b[:ip4HdrLen]
		binary.BigEndian.PutUint32(h[12:], to.Src.V4())
		binary.BigEndian.PutUint32(h[16:], to.Dst.V4())
		binary.BigEndian.PutUint16(h[10:], adjust(binary.BigEndian.Uint16(h[10:]), r.addrs))
	} else {
		h := b[:ip6HdrLen]
		to.Src.put16(h[8:])
		to.Dst.put16(h[24:])
	}
	info.Src, info.Dst = to.Src, to.Dst
	if info.FragOff != 0 {
		return
	}
	l4 := b[info.L4Off:]
	switch info.Proto {
	case ProtoTCP: // the common case, without the table
		_ = l4[19]
		binary.BigEndian.PutUint16(l4, to.SrcPort)
		binary.BigEndian.PutUint16(l4[2:], to.DstPort)
		c := binary.BigEndian.Uint16(l4[16:])
		if partial {
			c = addSum(c, r.addrs)
		} else {
			c = adjust(c, addSum(r.addrs, r.ports))
		}
		binary.BigEndian.PutUint16(l4[16:], c)
		info.SrcPort, info.DstPort = to.SrcPort, to.DstPort
	case ProtoSCTP:
		r.applySCTP(l4, info, partial)
	default:
		if d := &l4sums[info.Proto]; d.has {
			r.applyL4(l4, info, d, partial)
		}
	}
}

// applyL4 rewrites the L4 header of a protocol in l4sums.
func (r *Rewrite) applyL4(l4 []byte, info *Info, d *l4sum, partial bool) {
	var change uint16 // one's complement zero
	if d.pseudo {
		change = r.addrs
	}
	if d.ports {
		binary.BigEndian.PutUint16(l4, r.to.SrcPort)
		binary.BigEndian.PutUint16(l4[2:], r.to.DstPort)
		info.SrcPort, info.DstPort = r.to.SrcPort, r.to.DstPort
	} else if k := icmpKind(info.Proto, info.ICMPType); k == icmpQuery || k == icmpReply {
		binary.BigEndian.PutUint16(l4[4:], r.to.SrcPort)
		info.SrcPort = r.to.SrcPort
	} else { // other ICMP has no identifier
		storeSum(l4, d, change, partial)
		return
	}
	if !partial {
		change = addSum(change, r.ports)
	}
	storeSum(l4, d, change, partial)
}

// storeSum adjusts an L4 checksum by change.
func storeSum(l4 []byte, d *l4sum, change uint16, partial bool) {
	at := l4[d.off : d.off+2]
	c := binary.BigEndian.Uint16(at)
	switch {
	case partial:
		c = addSum(c, change)
	case d.zero && c == 0:
		return
	default:
		if c = adjust(c, change); c == 0 && d.zero {
			c = 0xffff
		} else if d.id {
			c = icmpSum(l4, c)
		}
	}
	binary.BigEndian.PutUint16(at, c)
}
