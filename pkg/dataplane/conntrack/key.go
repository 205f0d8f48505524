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

// Reply is the key of the packets that answer.
func (k *Key) Reply() Key { return MakeKey(k.Tuple().Reply()) }

// hashSecret keys the hash, so that nobody outside can aim at one chain.
type hashSecret [6]uint64

// sum is a keyed multiply-and-fold hash: three 64x64->128 multiplications over
// five words, about 3 ns.
func (s *hashSecret) sum(k *Key) uint64 {
	h1, l1 := bits.Mul64(k.Src.Hi^s[0], k.Src.Lo^s[1])
	h2, l2 := bits.Mul64(k.Dst.Hi^s[2], k.Dst.Lo^s[3])
	h3, l3 := bits.Mul64(h1^l1^k.L4^s[4], h2^l2^bits.RotateLeft64(k.L4, 29)^s[5])
	return h3 ^ l3
}
