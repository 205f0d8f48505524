// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Key is what identifies one direction of a connection: both addresses in
// 16-byte form (IPv4 as v4-mapped), loaded as little-endian words, and the
// layer 4 word.
type Key struct {
	Src, Dst [2]uint64
	L4       uint64 // source port | destination port << 16 | protocol << 32 | version << 40
}

// V4Word is the second word of an IPv4 address in 16-byte form, from the
// address as it is loaded little-endian from the wire.
func V4Word(addr uint32) uint64 { return uint64(addr)<<32 | 0xffff0000 }

// L4Word packs ports in host order, protocol and IP version (4 or 6). ICMP
// echo has its identifier as source port and type<<8|code as destination port.
func L4Word(sport, dport uint16, proto, version uint8) uint64 {
	return uint64(sport) | uint64(dport)<<16 | uint64(proto)<<32 | uint64(version)<<40
}

// MakeKey makes a key of addresses and ports.
func MakeKey(src, dst netip.Addr, sport, dport uint16, proto uint8) Key {
	version := uint8(6)
	if src.Unmap().Is4() {
		version = 4
	}
	return Key{Src: Words(src.As16()), Dst: Words(dst.As16()), L4: L4Word(sport, dport, proto, version)}
}

// Words loads a 16-byte address.
func Words(a [16]byte) [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])}
}

// Bytes is the inverse of Words.
func Bytes(w [2]uint64) (a [16]byte) {
	binary.LittleEndian.PutUint64(a[:8], w[0])
	binary.LittleEndian.PutUint64(a[8:], w[1])
	return a
}

// SrcPort, DstPort, Proto and Version unpack L4.
func (k *Key) SrcPort() uint16 { return uint16(k.L4) }

// DstPort is the destination port, or type<<8|code of ICMP.
func (k *Key) DstPort() uint16 { return uint16(k.L4 >> 16) }

// Proto is the IP protocol number.
func (k *Key) Proto() uint8 { return uint8(k.L4 >> 32) }

// Version is 4 or 6.
func (k *Key) Version() uint8 { return uint8(k.L4 >> 40) }

// SrcAddr is the source address.
func (k *Key) SrcAddr() netip.Addr { return netip.AddrFrom16(Bytes(k.Src)).Unmap() }

// DstAddr is the destination address.
func (k *Key) DstAddr() netip.Addr { return netip.AddrFrom16(Bytes(k.Dst)).Unmap() }

// icmpReply maps the types that are asked and answered: echo, timestamp, and
// information of RFC 792; echo of RFC 4443.
var icmpReply = map[[2]uint8]uint8{
	{unix.IPPROTO_ICMP, 8}: 0, {unix.IPPROTO_ICMP, 0}: 8,
	{unix.IPPROTO_ICMP, 13}: 14, {unix.IPPROTO_ICMP, 14}: 13,
	{unix.IPPROTO_ICMP, 15}: 16, {unix.IPPROTO_ICMP, 16}: 15,
	{unix.IPPROTO_ICMPV6, 128}: 129, {unix.IPPROTO_ICMPV6, 129}: 128,
}

// IsICMP tells whether the key is of ICMP or ICMPv6.
func (k *Key) IsICMP() bool {
	return k.Proto() == unix.IPPROTO_ICMP || k.Proto() == unix.IPPROTO_ICMPV6
}

// ICMPRequest tells whether the key is of an ICMP type that opens an exchange.
func (k *Key) ICMPRequest() bool {
	typ := uint8(k.DstPort() >> 8)
	if k.Proto() == unix.IPPROTO_ICMP {
		return typ == 8 || typ == 13 || typ == 15
	}
	return typ == 128
}

// Reply is the key of the answer: addresses and ports change sides, an ICMP
// type becomes the one that answers it.
func (k *Key) Reply() Key {
	r := Key{Src: k.Dst, Dst: k.Src}
	sport, dport := k.DstPort(), k.SrcPort()
	if k.IsICMP() {
		sport, dport = k.SrcPort(), k.DstPort()
		if typ, ok := icmpReply[[2]uint8{k.Proto(), uint8(k.DstPort() >> 8)}]; ok {
			dport = uint16(typ)<<8 | dport&0xff
		}
	}
	r.L4 = L4Word(sport, dport, k.Proto(), k.Version())
	return r
}

// hashSecret keys the hash, so that nobody outside can aim at one chain.
type hashSecret [6]uint64

// sum is a keyed multiply-and-fold hash: three 64x64->128 multiplications over
// five words, about 3 ns.
func (s *hashSecret) sum(k *Key) uint64 {
	h1, l1 := bits.Mul64(k.Src[0]^s[0], k.Src[1]^s[1])
	h2, l2 := bits.Mul64(k.Dst[0]^s[2], k.Dst[1]^s[3])
	h3, l3 := bits.Mul64(h1^l1^k.L4^s[4], h2^l2^bits.RotateLeft64(k.L4, 29)^s[5])
	return h3 ^ l3
}
