// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"testing"

	"netio.dev/netio/pkg/dataplane/device"
)

// Brief has a short life pass on an instance: packets flow, and in the middle of
// them a network namespace ends, whose packets are on rings and parked. inUse is
// called while they flow. All that was made is taken away when the test ends.
func Brief(t *testing.T, h Harness, inUse func()) {
	dev := open(t, h, Config{Nbufs: 256, Lanes: 2})
	a, b := newPod6(t, dev, 1, device.PortConfig{}), newPod6(t, dev, 2, device.PortConfig{Whole: true})
	f := startForwarder(dev, [2]uint32{a.id(), b.id()})
	tr := startTransfer(t, a, b, b.v4, endless, 1)
	progress(t, tr, 1<<18)
	inUse()
	doomed := newPod(t, dev, 3, device.PortConfig{MTU: 9000})
	f.pair(doomed.id(), doomed.id()) // what it sends comes back to it
	c := doomed.udp(doomed.v4, 2000)
	for n := range 100 {
		send(t, c, doomed.v4.Next(), 2000, pattern(n*80, 1))
	}
	c.Close()
	doomed.end()
	tr.stop.Store(true)
	tr.wait(t)
	f.end(t)
}
