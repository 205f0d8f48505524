// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"fmt"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// testOneSegment sends packets with GSO that need not be cut. They have to leave.
func testOneSegment(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	a, b := newPod6(t, dev, 1, device.PortConfig{}), newPod6(t, dev, 2, device.PortConfig{})
	out := newOutlet(b, host(far4), host(far6))
	for _, of := range []inner{{src: a.v4, dst: far4}, {src: a.v6, dst: far6}} {
		for _, tcp := range []bool{true, false} {
			// To the last byte of a segment: with and without the bytes of headers.
			for _, size := range []int{1, 968, 969, 980, 992, 999, 1000} {
				p := of
				p.tcp, p.flags, p.payload = tcp, 0x99, pattern(size, byte(size))
				t.Run(fmt.Sprintf("%s tcp=%v %d bytes", p.dst, tcp, size), func(t *testing.T) {
					w.sendGSO(b.id(), nil, &p, 1000)
					p.checkSegment(t, out.next(t, p.dst), -1, 0, size)
				})
			}
		}
	}
	if w.bad() != 0 {
		t.Errorf("%d bad entries", w.bad())
	}
	w.settle()
}

// testWrongGSO sends packets that cannot be segmented as they say. Nothing of them may
// leave, and what comes after them must. A device may refuse them, or leave that
// to the kernel.
func testWrongGSO(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	w := newWorker(t, dev, 0)
	a, b := newPod6(t, dev, 1, device.PortConfig{}), newPod6(t, dev, 2, device.PortConfig{})
	out := newOutlet(b, host(far4), host(far6))
	four, six := inner{src: a.v4, dst: far4}, inner{src: a.v6, dst: far6}
	for _, c := range []struct {
		what  string
		of    inner
		spoil func(*abi.Nbuf, []byte)
	}{
		{"a checksum behind the TCP header", four, func(nb *abi.Nbuf, _ []byte) { nb.CsumStart += 4 }},
		{"a checksum far behind the TCP header", four, func(nb *abi.Nbuf, _ []byte) { nb.CsumStart = nb.Len - 20 }},
		{"a checksum in the IP header", four, func(nb *abi.Nbuf, _ []byte) { nb.CsumStart = 0 }},
		{"segments of IPv6", four, func(nb *abi.Nbuf, _ []byte) { nb.GSOType = abi.GSOTCPv6 }},
		{"a TCP header that is too short", four, func(_ *abi.Nbuf, b []byte) { b[20+12] = 4 << 4 }},
		{"a checksum behind IPv6's TCP header", six, func(nb *abi.Nbuf, _ []byte) { nb.CsumStart += 8 }},
		{"segments of IPv4", six, func(nb *abi.Nbuf, _ []byte) { nb.GSOType = abi.GSOTCPv4 }},
		{"headers that do not end", six, func(_ *abi.Nbuf, b []byte) { b[6] = 60 }},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := c.of
			p.tcp, p.payload = true, pattern(3000, 1)
			bad := w.bad()
			w.spoil = c.spoil
			w.sendGSO(b.id(), nil, &p, 1000)
			w.spoil = nil
			if dev.Area().Header().Device == abi.DevKernel && w.bad() != bad+1 {
				t.Errorf("%d bad entries, want %d", w.bad(), bad+1)
			}
			p.payload = pattern(500, 2)
			w.sendGSO(b.id(), nil, &p, 1000)
			p.checkSegment(t, out.next(t, p.dst), -1, 0, len(p.payload))
		})
	}
	w.settle()
}
