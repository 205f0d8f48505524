// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

const sctpSumOff = 8

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	noSum      [4]byte // what is in the field while the sum is made
)

// SCTPChecksum is the CRC32c of a whole SCTP packet l4, as it belongs into the
// little-endian field at offset 8 (RFC 9260 section 6.8 and appendix A). l4
// is at least the 12-byte common header.
func SCTPChecksum(l4 []byte) uint32 {
	c := crc32.Update(0, castagnoli, l4[:sctpSumOff])
	c = crc32.Update(c, castagnoli, noSum[:])
	return crc32.Update(c, castagnoli, l4[12:])
}

// applySCTP rewrites the ports. A CRC is linear: changing the first four bytes
// by x changes it by x times z^8n, n being the length of the packet, so the
// payload is not needed. A first fragment's n is not known: its ports stay, and
// so the caller does not send fragmented SCTP through a port rewrite.
func (r *Rewrite) applySCTP(l4 []byte, info *Info, partial bool) {
	old := binary.BigEndian.Uint32(l4)
	ports := uint32(r.to.SrcPort)<<16 | uint32(r.to.DstPort)
	if old == ports || info.IsFragment {
		return
	}
	binary.BigEndian.PutUint32(l4, ports)
	info.SrcPort, info.DstPort = r.to.SrcPort, r.to.DstPort
	if partial {
		return
	}
	d := crcShift(bits.ReverseBytes32(old^ports), int(info.TotalLen)-int(info.L4Off))
	at := l4[sctpSumOff:]
	binary.LittleEndian.PutUint32(at, binary.LittleEndian.Uint32(at)^d)
}

// crcPow[k] is z^(8*2^k) modulo the CRC's polynomial, bit-reversed.
var crcPow = func() (t [17]uint32) {
	t[0] = 1 << (31 - 8)
	for k := 1; k < len(t); k++ {
		t[k] = crcMul(t[k-1], t[k-1])
	}
	return t
}()

// crcShift multiplies c by z^8n: what n zero bytes do to it. n < 1<<17.
func crcShift(c uint32, n int) uint32 {
	for k := 0; n > 0 && k < len(crcPow); k, n = k+1, n>>1 {
		if n&1 != 0 {
			c = crcMul(c, crcPow[k])
		}
	}
	return c
}

// crcMul multiplies two bit-reversed polynomials modulo the CRC's.
func crcMul(a, b uint32) uint32 {
	var p uint32
	for m := uint32(1 << 31); m != 0; m >>= 1 {
		if a&m != 0 {
			p ^= b
		}
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return p
}
