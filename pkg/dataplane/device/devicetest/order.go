// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/device"
)

// testOrder has numbered packets cross in both directions at once: a device that
// serves an OutQ on several processors delivers its packets in order all the same.
func testOrder(t *testing.T, h Harness) {
	dev := open(t, h, Config{})
	a, b := newPod(t, dev, 1, device.PortConfig{}), newPod(t, dev, 2, device.PortConfig{})
	f := startForwarder(dev, [2]uint32{a.id(), b.id()})
	done := []<-chan error{
		startNumbers(a.udp(a.v4, 0), b.udp(b.v4, 2000), b.v4),
		startNumbers(b.udp(b.v4, 0), a.udp(a.v4, 2000), a.v4),
	}
	for _, d := range done {
		if err := <-d; err != nil {
			t.Error(err)
		}
	}
	f.end(t)
}

// last marks the last packet.
const last = 1 << 63

// startNumbers sends numbered packets, as many as there are in some time, and says
// how they came.
func startNumbers(from, to *net.UDPConn, dst netip.Addr) <-chan error {
	const count, onWay = 40000, 64 // few enough for any queue
	window := make(chan struct{}, onWay)
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		enough := time.After(patience)
		for i := range uint64(count) {
			number := i
			if i == count-1 {
				number |= last
			}
			select {
			case window <- struct{}{}:
			case <-enough:
				number |= last
			case <-stop:
				return
			}
			if _, err := from.WriteToUDPAddrPort(binary.BigEndian.AppendUint64(nil, number), addrPort(dst)); err != nil {
				from.Close()
				return
			}
			if number&last != 0 {
				return
			}
		}
	}()
	go func() {
		defer close(stop)
		done <- func() error {
			if err := to.SetReadDeadline(time.Now().Add(6 * patience)); err != nil {
				return err
			}
			var buf [9]byte
			for i := uint64(0); ; i++ {
				n, err := to.Read(buf[:])
				if err != nil {
					return fmt.Errorf("packet %d: %w", i, err)
				}
				number := binary.BigEndian.Uint64(buf[:])
				if n != 8 || number&^last != i {
					return fmt.Errorf("packet %d of %d bytes came, want %d", number&^last, n, i)
				}
				if number&last != 0 {
					return nil
				}
				<-window
			}
		}()
	}()
	return done
}
