// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// FragmentIPv4 cuts a whole IPv4 packet into fragments of at most mtu bytes
// (RFC 791 section 3.2) and calls emit for each, in order, with its IP
// header, which lies in scratch and is written anew for the next one, and its data,
// which is part of pkt. A fragment is cut further; a packet that fits
// is emitted as it is. The L4 checksum must be complete, and a GSO packet segmented, before.
//
// Nothing has been emitted if a Reason other than OK comes back: DontFragment,
// CannotFragment, Truncated if pkt is not the whole packet, BadVersion if it is
// not IPv4.
func FragmentIPv4(pkt []byte, info *Info, mtu int, scratch *[60]byte, emit func(hdr, data []byte)) Reason {
	if info.Family != IPv4 {
		return BadVersion
	}
	total := int(info.TotalLen)
	if len(pkt) < total {
		return Truncated
	}
	pkt = pkt[:total]
	hlen := int(pkt[0]&15) * 4
	hdr := scratch[:hlen]
	copy(hdr, pkt)
	if total <= mtu {
		emit(hdr, pkt[hlen:])
		return OK
	}
	if info.DontFrag {
		return DontFragment
	}
	if (mtu-hlen)&^7 < 8 {
		return CannotFragment
	}
	data := pkt[hlen:]
	for off := int(info.FragOff); len(data) > 0; {
		n := min(len(data), (mtu-len(hdr))&^7)
		if len(hdr)+len(data) <= mtu {
			n = len(data)
		}
		field := uint16(off >> 3)
		if info.MoreFrags || n < len(data) {
			field |= 0x2000
		}
		hdr[0] = 4<<4 | uint8(len(hdr)/4)
		binary.BigEndian.PutUint16(hdr[2:], uint16(len(hdr)+n))
		binary.BigEndian.PutUint16(hdr[6:], field)
		hdr[10], hdr[11] = 0, 0
		binary.BigEndian.PutUint16(hdr[10:], Checksum(hdr, 0))
		emit(hdr, data[:n])
		data = data[n:]
		if off += n; len(hdr) > ip4HdrLen {
			hdr = hdr[:ip4HdrLen+copiedOptions(scratch[ip4HdrLen:], pkt[ip4HdrLen:hlen])]
		}
	}
	return OK
}

// copiedOptions writes the options that later fragments carry, those with
// the copied flag, padded to four bytes, and returns their length.
func copiedOptions(to, options []byte) int {
	n := 0
	for len(options) > 0 && options[0] != 0 {
		size := 1
		if options[0] != 1 {
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				break // Parse has refused it
			}
			size = int(options[1])
		}
		if options[0]&0x80 != 0 {
			n += copy(to[n:], options[:size])
		}
		options = options[size:]
	}
	for ; n%4 != 0; n++ {
		to[n] = 0
	}
	return n
}
