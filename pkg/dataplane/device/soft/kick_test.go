// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"bytes"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// TestKickAllocs forwards packets of every kind and fails if that allocates.
func TestKickAllocs(t *testing.T) {
	for name, lanes := range map[string]int{"one lane": 1, "two lanes": 2} {
		t.Run(name, func(t *testing.T) {
			d := testDevice(t, Config{Nbufs: 512, Lanes: lanes})
			small, big := addFake(t, d, device.PortConfig{}), addFake(t, d, device.PortConfig{})
			whole := addFake(t, d, device.PortConfig{Whole: true})
			var lane []*driver
			for i := range lanes {
				lane = append(lane, drive(t, d, i))
			}
			ports := map[uint32]uint32{small.id: big.id, big.id: whole.id, whole.id: small.id}
			buf := make([]byte, 1<<17)
			packets := 0
			msg := append(make([]byte, vnetLen), udp(false, 1, false, 53, make([]byte, 64))...)
			large := append(make([]byte, vnetLen), udp(false, 1, false, 53, make([]byte, 40000))...)
			tx := make([]uint32, 0, 256)
			round := func() {
				for range 3 {
					must(rawWrite2(small.fd, msg))
					must(rawWrite2(big.fd, large))
					must(rawWrite2(whole.fd, large))
				}
				for range 4 {
					for _, w := range lane {
						tx = tx[:0]
						first := true
						for _, e := range w.turn() {
							idx := abi.Param(e)
							if abi.Action(e) == abi.InRX {
								if first {
									nb := d.area.Nbuf(idx)
									nb.EPort = ports[nb.IPort]
									packets++
								}
								first = e&abi.EntMore == 0
								tx = append(tx, abi.Entry(abi.OutTX, idx)|e&abi.EntMore)
							}
						}
						w.out.Publish(tx)
					}
				}
				for _, f := range []*fakeTUN{small, big, whole} {
					for rawRead2(f.fd, buf) > 0 {
					}
				}
			}
			round()
			packets = 0
			if n := testing.AllocsPerRun(100, round); n != 0 {
				t.Errorf("%v allocations for a round of 9 packets", n)
			}
			if packets < 9*100 {
				t.Errorf("%d packets came through", packets)
			}
			invariants(t, d)
		})
	}
}

func must(ok bool) {
	if !ok {
		panic("write")
	}
}

// TestPayload takes packets of all sizes around the limits through a device, parked
// and whole, and compares every byte.
func TestPayload(t *testing.T) {
	for _, whole := range []bool{false, true} {
		d := testDevice(t, Config{Nbufs: 256})
		a := addFake(t, d, device.PortConfig{Whole: whole})
		b := addFake(t, d, device.PortConfig{})
		w := drive(t, d, 0)
		for _, n := range []int{1, 20, 64, abi.NbufFill - 1, abi.NbufFill, abi.NbufFill + 1, abi.NbufRoom, abi.NbufRoom + 1, 2 * abi.NbufRoom, 2*abi.NbufRoom + 1, 9000, 65535, maxPacket} {
			want := make([]byte, n)
			for i := range want {
				want[i] = byte(i*7 + i>>8)
			}
			v := vnetHdr{}
			if n > 100 {
				v = vnetHdr{vnetNeedsCsum, abi.GSOTCPv4 | abi.GSOECN, 54, 1448, 34, 16}
			}
			a.push(v, want)
			var tx []uint32
			for _, e := range w.turn() {
				tx = append(tx, abi.Entry(abi.OutTX, abi.Param(e))|e&abi.EntMore)
			}
			if len(tx) == 0 || (len(tx) > 1) != (whole && n > abi.NbufFill) {
				t.Fatalf("%d bytes, whole %v: %d entries", n, whole, len(tx))
			}
			d.area.Nbuf(abi.Param(tx[0])).EPort = b.id
			w.turn(tx...)
			got, data := b.pull()
			if got != v || !bytes.Equal(data, want) {
				t.Errorf("%d bytes, whole %v: %d bytes with %+v come out", n, whole, len(data), got)
			}
			invariants(t, d)
		}
	}
}

// TestPush writes headers in front of a parked packet until the headroom is used up.
func TestPush(t *testing.T) {
	d := testDevice(t, Config{})
	a := addFake(t, d, device.PortConfig{})
	w := drive(t, d, 0)
	for push := range uint16(abi.Headroom + 1) {
		want := bytes.Repeat([]byte{byte(push)}, 5000)
		a.push(vnetHdr{}, want)
		e := w.turn()[0]
		idx := abi.Param(e)
		nb := d.area.Nbuf(idx)
		nb.Off -= push
		nb.Len += push
		nb.Total += uint32(push)
		copy(d.area.NbufBytes(idx)[nb.Off:], bytes.Repeat([]byte{0x45}, int(push)))
		nb.EPort = a.id
		w.turn(abi.Entry(abi.OutTX, idx))
		_, got := a.pull()
		if !bytes.Equal(got, append(bytes.Repeat([]byte{0x45}, int(push)), want...)) {
			t.Errorf("push of %d: %d bytes, beginning with % x", push, len(got), got[:min(len(got), 70)])
		}
	}
	if n := d.area.DLane(0).BadEntry; n != 0 {
		t.Errorf("%d bad entries", n)
	}
}

// TestRoundRobin floods one port and sees that another is read in each round.
func TestRoundRobin(t *testing.T) {
	d := testDevice(t, Config{})
	flood, other := addFake(t, d, device.PortConfig{}), addFake(t, d, device.PortConfig{})
	w := drive(t, d, 0)
	for range 20 {
		for range 2 * rxPortBatch {
			flood.push(vnetHdr{}, []byte{0x45})
		}
		other.push(vnetHdr{}, []byte{0x46})
		seen := false
		for range 3 { // the first one may have to find the port again
			for _, e := range w.turn() {
				seen = seen || d.area.Nbuf(abi.Param(e)).IPort == other.id
				w.out.Publish([]uint32{abi.Entry(abi.OutFree, abi.Param(e))})
			}
		}
		if !seen {
			t.Fatal("a port was not read in three rounds")
		}
		for len(w.turn()) > 0 {
			for i := range d.st.nbufs {
				if d.st.nbufs[i].owner == ownProcess {
					w.out.Publish([]uint32{abi.Entry(abi.OutFree, uint32(i))})
				}
			}
		}
	}
}

func BenchmarkKickIdle(b *testing.B) {
	for name, ports := range map[string]int{"0 ports": 0, "2 ports": 2, "1000 ports": 1000} {
		b.Run(name, func(b *testing.B) {
			d := testDevice(b, Config{})
			for range ports {
				addFake(b, d, device.PortConfig{})
			}
			b.ReportAllocs()
			for b.Loop() {
				d.Kick(0)
			}
			b.ReportMetric(float64(d.SyscallCount(0))/float64(b.N), "syscalls/op")
		})
	}
}
