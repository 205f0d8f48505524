// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// ResetMaxLen is the size of the longest packet that BuildReset makes.
const ResetMaxLen = ip6HdrLen + 20

// TCPSeq, TCPAckNo and TCPWindow read fields of a TCP packet that Parse
// accepted and that is not a later fragment.
func TCPSeq(b []byte, info *Info) uint32 { return binary.BigEndian.Uint32(b[info.L4Off+4:]) }

// TCPAckNo returns the acknowledgment number.
func TCPAckNo(b []byte, info *Info) uint32 { return binary.BigEndian.Uint32(b[info.L4Off+8:]) }

// TCPWindow returns the window as it is in the header, not scaled.
func TCPWindow(b []byte, info *Info) uint16 { return binary.BigEndian.Uint16(b[info.L4Off+14:]) }

// BuildReset writes the RST with which a closed port answers a TCP packet
// (RFC 9293 section 3.10.7.1) into dst and returns its length. It
// returns 0 if there is no answer: the packet is not whole TCP, is a RST itself or
// not from one host to one host, or dst is shorter than ResetMaxLen. dst
// and b must not overlap.
func BuildReset(dst, b []byte, info *Info) int {
	if info.Proto != ProtoTCP || info.IsFragment || info.TCPFlags&TCPRst != 0 ||
		!info.Src.IsUnicast() || !info.Dst.IsUnicast() || len(dst) < ResetMaxLen {
		return 0
	}
	hlen := ip6HdrLen
	if info.Family == IPv4 {
		hlen = ip4HdrLen
	}
	n := hlen + 20
	putIPHeader(dst, info.Family, ProtoTCP, info.Dst, info.Src, n)
	t := dst[hlen:n]
	clear(t)
	binary.BigEndian.PutUint16(t, info.DstPort)
	binary.BigEndian.PutUint16(t[2:], info.SrcPort)
	if info.TCPFlags&TCPAck != 0 {
		binary.BigEndian.PutUint32(t[4:], TCPAckNo(b, info))
		t[13] = TCPRst
	} else {
		length := uint32(info.PayloadLen())
		if info.TCPFlags&TCPSyn != 0 {
			length++
		}
		if info.TCPFlags&TCPFin != 0 {
			length++
		}
		binary.BigEndian.PutUint32(t[8:], TCPSeq(b, info)+length)
		t[13] = TCPRst | TCPAck
	}
	t[12] = 5 << 4
	binary.BigEndian.PutUint16(t[16:], Checksum(t, PseudoSum(info.Dst, info.Src, ProtoTCP, len(t))))
	return n
}
