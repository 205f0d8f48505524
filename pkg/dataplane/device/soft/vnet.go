// SPDX-License-Identifier: Apache-2.0

package soft

import "netio.dev/netio/pkg/dataplane/abi"

// vnetHdr is struct virtio_net_hdr, which a TUN with IFF_VNET_HDR puts in front
// of each packet, in host byte order (Documentation/networking/tuntap.rst).
type vnetHdr struct {
	flags      uint8
	gsoType    uint8
	hdrLen     uint16
	gsoSize    uint16
	csumStart  uint16
	csumOffset uint16
}

const vnetLen = 10

const (
	vnetNeedsCsum = 1
	vnetDataValid = 2
)

// gsoTypes are the types that nbufs and TUNs have in common.
const gsoTypes = 1<<abi.GSONone | 1<<abi.GSOTCPv4 | 1<<abi.GSOTCPv6 | 1<<abi.GSOUDPL4

// knownGSO tells whether t is a GSO type of the ABI.
func knownGSO(t uint8) bool {
	base := t &^ abi.GSOECN
	return base < 8 && gsoTypes>>base&1 != 0 && (t&abi.GSOECN == 0 || base == abi.GSOTCPv4 || base == abi.GSOTCPv6)
}

// valid tells whether the offload fields of a packet with n bytes in its first
// nbuf contradict neither each other nor n.
func (h *vnetHdr) valid(n uint32) bool {
	if !knownGSO(h.gsoType) || (h.gsoType == abi.GSONone) != (h.gsoSize == 0) || uint32(h.hdrLen) > n {
		return false
	}
	return h.flags&vnetNeedsCsum == 0 || uint32(h.csumStart)+uint32(h.csumOffset)+2 <= n
}

// oneSegment tells whether a GSO packet of total bytes, of which b is the beginning,
// is one segment: the kernel drops a packet that it should cut and cannot.
func (h *vnetHdr) oneSegment(b []byte, total uint32) bool {
	l4 := uint32(8)
	if h.gsoType != abi.GSOUDPL4 {
		at := int(h.csumStart) + 12
		if at >= len(b) {
			return false
		}
		l4 = uint32(b[at]>>4) * 4
	}
	return h.flags&vnetNeedsCsum != 0 && total <= uint32(h.csumStart)+l4+uint32(h.gsoSize)
}

// vnetToNbuf are the nbuf flags for a TUN's header flags.
func vnetToNbuf(flags uint8) uint16 {
	// NEEDS_CSUM and DATA_VALID are the bits 0 and 1 on both sides.
	return uint16(flags) & (abi.NbCsumPartial | abi.NbCsumValid)
}

var _ = [1]struct{}{}[abi.NbCsumPartial-vnetNeedsCsum|abi.NbCsumValid-vnetDataValid]
