// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"bytes"
	"fmt"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/packet"
)

// TestTunnelChecksum: what a TUN is given of a tunnel has checksums, for NICs that
// complete outer ones alone. Parked and in chains, cut and not, of odd lengths too.
func TestTunnelChecksum(t *testing.T) {
	end := func(last byte) packet.Addr { return packet.Addr4(0xc6336400 + uint32(last)) }
	header := packet.NewVXLANHeader(end(1), end(2), 42, packet.VXLANPort)
	for _, six := range []bool{false, true} {
		for _, whole := range []bool{false, true} {
			for _, gso := range []uint16{0, 1000, 1001} {
				for _, size := range []int{1, 2, 99, 1300, 1801, 1850, 1903, 5000, 30_001} {
					t.Run(fmt.Sprintf("IPv6=%v whole=%v gso=%d %d bytes", six, whole, gso, size), func(t *testing.T) {
						d := testDevice(t, Config{Nbufs: 256})
						from, to := addFake(t, d, device.PortConfig{Whole: whole}), addFake(t, d, device.PortConfig{})
						payload := make([]byte, size)
						for i := range payload {
							payload[i] = byte(i*31 + i>>8)
						}
						b := udp(six, 1, false, 53, payload)
						v := vnetHdr{flags: vnetNeedsCsum, csumStart: uint16(len(b) - size - 8), csumOffset: 6}
						if gso != 0 {
							v.gsoType, v.gsoSize = abi.GSOUDPL4, gso
						}
						from.push(v, b)
						w := drive(t, d, 0)
						var tx []uint32
						for _, e := range w.turn() {
							tx = append(tx, abi.Entry(abi.OutTX, abi.Param(e))|e&abi.EntMore)
						}
						encapsulate(d, abi.Param(tx[0]), &header, to.id)
						clone := make([]uint32, len(tx))
						for i, e := range tx {
							clone[i] = abi.Entry(abi.OutClone, abi.Param(e)) | e&abi.EntMore
						}
						w.turn(append(clone, tx...)...)
						for range 2 { // the nbuf is as it was after the first
							left := payload
							for len(left) > 0 {
								vnet, got := to.pull()
								if got == nil {
									t.Fatalf("%d bytes did not come out", len(left))
								}
								got = got[header.Len():]
								n := len(got) - (len(b) - size)
								if vnet != (vnetHdr{}) || n > len(left) || gso != 0 && n > int(gso) || !bytes.Equal(got[len(got)-n:], left[:n]) {
									t.Fatalf("%+v, %d bytes of payload: not the next of %d", vnet, n, len(left))
								}
								left = left[n:]
								var info packet.Info
								if why := packet.Parse(got, len(got), &info); why != 0 {
									t.Fatalf("% x: %v", got[:48], why)
								}
								if sum, ok := packet.L4Checksum(got, &info); !ok || sum != be16(got[info.L4Off+6:]) {
									t.Errorf("checksum %#x, want %#x", be16(got[info.L4Off+6:]), sum)
								}
							}
						}
						if _, more := to.pull(); more != nil || d.area.DLane(0).BadEntry != 0 {
							t.Errorf("another %d bytes came out; %d bad entries", len(more), d.area.DLane(0).BadEntry)
						}
						invariants(t, d)
					})
				}
			}
		}
	}
}

// encapsulate puts the headers of a tunnel in front of the packet that begins in the nbuf.
func encapsulate(d *Device, idx uint32, h *packet.VXLANHeader, to uint32) {
	nb, n := d.area.Nbuf(idx), uint16(h.Len())
	b := d.area.NbufBytes(idx)[nb.Off-n : nb.Off+nb.Len]
	h.Put(b, int(nb.Total), 1, 1)
	nb.Off, nb.Len, nb.Total, nb.CsumStart, nb.Encap = nb.Off-n, nb.Len+n, nb.Total+uint32(n), nb.CsumStart+n, n
	nb.Flags |= abi.NbDirty
	nb.EPort = to
}
