// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"math/bits"

	"netio.dev/netio/pkg/dataplane/packet"
)

// Key is a packet.Tuple packed for hashing and comparing: five words.
type Key struct {
	Src, Dst packet.Addr
	L4       uint64 // source port | destination port << 16 | protocol << 32
}

// L4Word packs ports in host order and the protocol.
func L4Word(sport, dport uint16, proto uint8) uint64 {
	return uint64(sport) | uint64(dport)<<16 | uint64(proto)<<32
}

// MakeKey packs a tuple.
func MakeKey(t packet.Tuple) Key {
	return Key{Src: t.Src, Dst: t.Dst, L4: L4Word(t.SrcPort, t.DstPort, t.Proto)}
}

// Tuple is the inverse of MakeKey.
func (k *Key) Tuple() packet.Tuple {
	return packet.Tuple{Src: k.Src, Dst: k.Dst, SrcPort: uint16(k.L4), DstPort: uint16(k.L4 >> 16), Proto: k.Proto()}
}

// Proto is the IP protocol number.
func (k *Key) Proto() uint8 { return uint8(k.L4 >> 32) }

// Is tells whether two keys are the same. It is inlined, where == is not.
func (k *Key) Is(o *Key) bool {
	return k.Src.Lo == o.Src.Lo && k.Dst.Lo == o.Dst.Lo && k.L4 == o.L4 && k.Src.Hi == o.Src.Hi && k.Dst.Hi == o.Dst.Hi
}

// Reply is the key of the packets that answer.
func (k *Key) Reply() Key { return MakeKey(k.Tuple().Reply()) }

// hashSecret keys the hash, so that nobody outside can aim at one chain.
type hashSecret [6]uint64

// sum is a keyed multiply-and-fold hash: three 64x64->128 multiplications over
// five words, about 3 ns.
func (s *hashSecret) sum(k *Key) uint64 {
	src, dst := fold(k.Src.Hi^s[0], k.Src.Lo^s[1]), fold(k.Dst.Hi^s[2], k.Dst.Lo^s[3])
	return fold(src^k.L4^s[4], dst^bits.RotateLeft64(k.L4, 29)^s[5])
}

// fold is the two halves of a product, joined.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
