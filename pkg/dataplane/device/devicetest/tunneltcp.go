// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// tunnelEnds are the addresses of both ends of a tunnel; hosts have them as routes
// alone.
type tunnelEnds [2]netip.Addr

// testTunnelTCP carries TCP between the pods of two nodes, each with a host that
// forwards what is in the tunnel to a wire:
//
//	pod ── device ── host ── outlet ══ outlet ── host ── device ── pod
//
// All four ports are of one device. On the wire there are segments with checksums, and
// the kernel at the end verifies them.
func testTunnelTCP(t *testing.T, h Harness) {
	for _, ends := range []tunnelEnds{
		{netip.MustParseAddr("198.51.100.1"), far4}, {netip.MustParseAddr("fd79::1"), far6},
	} {
		t.Run("over "+ends[1].String(), func(t *testing.T) {
			dev := open(t, h, Config{})
			c := device.PortConfig{MTU: 1500 - abi.EncapMax}
			pods := [2]*pod{newPod6(t, dev, 1, c), newPod6(t, dev, 2, c)}
			hosts := [2]*pod{newPod6(t, dev, 3, device.PortConfig{}), newPod6(t, dev, 4, device.PortConfig{})}
			var outlets [2]*outlet
			for i, p := range hosts {
				outlets[i] = newOutlet(p, host(ends[1-i]))
				p.route(p.link(), host(ends[i]))
			}
			join(t, outlets)

			f := &forwarder{dev: dev, errs: make(chan error, abi.LanesMax)}
			tun := &tunnelPair{ends: ends}
			for i := range pods {
				f.direct(pods[i].id(), hosts[i].id())
				f.direct(hosts[i].id(), pods[i].id())
				tun.pods[i], tun.hosts[i] = pods[i].id(), hosts[i].id()
			}
			f.rewrite = tun.rewrite
			f.start()
			var many []*transfer
			for i := range 2 {
				from, to, seed := pods[i], pods[1-i], uint64(i)
				many = append(many, startTransfer(t, from, to, to.v4, 1<<20, seed), startTransfer(t, from, to, to.v6, 1<<20, seed))
			}
			for _, tr := range many {
				tr.wait(t)
			}
			f.end(t)
			if tun.large.Load() == 0 {
				t.Error("no GSO packet was sent by the tunnel")
			}
			if n := dev.Area().DLane(0).BadEntry; n != 0 || tun.wrong.Load() != 0 {
				t.Errorf("%d bad entries, and %d packets of hosts that are not a tunnel's", n, tun.wrong.Load())
			}
			for _, p := range slices.Concat(pods[:], hosts[:]) {
				if n := p.checksumErrors(); n != "" {
					t.Errorf("%s: %s", p.port.Name, n)
				}
			}
			f.worker(t).settle()
		})
	}
}

// join carries packets between two outlets until the test ends.
func join(t testing.TB, o [2]*outlet) {
	var wg sync.WaitGroup
	for i := range o {
		wg.Go(func() {
			buf := make([]byte, 1<<16)
			for {
				n, err := o[i].f.Read(buf)
				if err != nil {
					return
				}
				o[1-i].f.Write(buf[:n]) // a full queue loses it, as a wire does
			}
		})
	}
	t.Cleanup(func() {
		for i := range o {
			o[i].f.Close()
		}
		wg.Wait()
	})
}

// checksumErrors are the counters of packets that the pod's kernel found wrong.
func (p *pod) checksumErrors() string {
	p.t.Helper()
	var wrong []string
	p.do(func() error {
		f, err := os.Open("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		defer f.Close()
		var names []string
		for s := bufio.NewScanner(f); s.Scan(); {
			values := strings.Fields(s.Text())
			if names == nil {
				names = values
				continue
			}
			for i, name := range names {
				if strings.Contains(name, "CsumErrors") && values[i] != "0" {
					wrong = append(wrong, fmt.Sprintf("%s %s %s", values[0], name, values[i]))
				}
			}
			names = nil
		}
		return nil
	})
	return strings.Join(wrong, ", ")
}

// tunnelPair is what a forwarder does for two pods and the two hosts between which
// their packets are carried.
type tunnelPair struct {
	pods, hosts  [2]uint32 // ports
	ends         tunnelEnds
	large, wrong atomic.Uint64
}

// rewrite puts the tunnel's headers in front of what comes from a pod, and takes them off
// what comes from a host.
func (p *tunnelPair) rewrite(a *abi.Area, idx uint32) {
	nb := a.Nbuf(idx)
	nb.Flags |= abi.NbDirty
	if i := slices.Index(p.pods[:], nb.IPort); i >= 0 {
		six := a.NbufBytes(idx)[nb.Off]>>4 == 6
		outer := encapsulated(p.ends[i], p.ends[1-i], six, int(nb.Total))
		n := uint16(len(outer))
		if nb.Off < abi.NbufHdr+n { // IPv6 needs more room than there is
			to := abi.NbufHdr + n
			copy(a.NbufBytes(idx)[to:], a.NbufBytes(idx)[nb.Off:nb.Off+nb.Len])
			nb.Off = to
		}
		nb.Off, nb.Len, nb.Total, nb.Encap = nb.Off-n, nb.Len+n, nb.Total+uint32(n), n
		copy(a.NbufBytes(idx)[nb.Off:], outer)
		if nb.Flags&abi.NbCsumPartial != 0 {
			nb.CsumStart += n
		}
		if nb.GSOType != abi.GSONone {
			p.large.Add(1)
		}
		return
	}
	b := a.NbufBytes(idx)[nb.Off:][:nb.Len]
	n := uint16(len(encapsulated(p.ends[0], p.ends[1], false, 0)))
	// What a host says of its own accord is no tunnel's.
	if dst := destination(b); dst != p.ends[0] && dst != p.ends[1] {
		nb.EPort = abi.PortNone
		return
	}
	// All headers have to be there: outer, inner, and TCP's with all options.
	if nb.Len < uint16(min(nb.Total, abi.ParkCopyUDP)) || nb.Len < n+20 || binary.BigEndian.Uint16(b[n-28:]) != vxlanPort || nb.GSOType != abi.GSONone {
		p.wrong.Add(1)
		nb.EPort = abi.PortNone
		return
	}
	nb.Off, nb.Len, nb.Total = nb.Off+n, nb.Len-n, nb.Total-uint32(n)
	nb.HdrLen = 0
	nb.Flags &^= abi.NbCsumValid
	switch {
	case nb.Flags&abi.NbCsumPartial == 0:
	case nb.CsumStart < n:
		nb.Flags &^= abi.NbCsumPartial
	default:
		nb.CsumStart -= n
	}
}
