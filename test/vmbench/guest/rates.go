// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"netio.dev/netio/test/internal/load"
)

// ratePhases are measured by the machine's clock. What a forwarder does is counted
// apart, since the counting slows it down.
var ratePhases = []phase{
	{"udp4", rateUDP},
	{"tcp", rateTCP},
	{"rr", rateTrips},
}

// warmUp is how long a load runs before it is measured.
const warmUp = 300 * time.Millisecond

// rateUDP has a CPU for the two pods, and one for the forwarder.
func rateUDP(t topology, p pair, s settings) (r result, err error) {
	pid, err := t.forwarder()
	if err != nil {
		return r, err
	}
	if pid != 0 {
		if err := pin(pid, 1); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, unpin(pid)) }()
	}
	f, err := newFlow(p, p.a.ipv4, p.b.ipv4)
	if err != nil {
		return r, err
	}
	defer f.close()
	var c counters
	packets, seconds := 0, 0.0
	err = first(func() error {
		if err := setAffinity(0, 0); err != nil {
			return err
		}
		if _, _, err := f.stream(warmUp); err != nil {
			return err
		}
		if packets, seconds, err = f.stream(s.duration); err != nil {
			return err
		}
		c, err = watch(t, p, func() error {
			_, _, err := f.stream(s.duration)
			return err
		})
		return err
	})
	if err != nil {
		return r, err
	}
	r.Values = c.values()
	r.Values["kpps"] = float64(packets) / seconds / 1e3
	return r, nil
}

// burst is how many packets are sent before those that have come are received: at an
// emulated CPU's pace more would be a pause for the forwarder, in which it sleeps.
const burst = 4

// stream sends for so long, and has at most a batch on the way.
func (f *flow) stream(d time.Duration) (packets int, seconds float64, err error) {
	began := time.Now()
	for onWay := 0; ; {
		over := time.Since(began) >= d
		if over && onWay == 0 {
			return packets, time.Since(began).Seconds(), nil
		}
		if !over && onWay+burst <= batchSize {
			n, err := f.out.transfer(unix.SYS_SENDMMSG, f.source, 0, burst, 0)
			if err != nil {
				return 0, 0, fmt.Errorf("send: %w", err)
			}
			onWay += n
		}
		flags := unix.MSG_DONTWAIT
		if over || onWay+burst > batchSize {
			flags = unix.MSG_WAITFORONE
		}
		n, err := f.in.transfer(unix.SYS_RECVMMSG, f.sink, 0, batchSize, flags)
		if errors.Is(err, unix.EAGAIN) && flags == unix.MSG_DONTWAIT {
			continue
		}
		if err != nil {
			return 0, 0, fmt.Errorf("after %d packets, %d on the way: %w", packets, onWay, err)
		}
		onWay -= n
		packets += n
	}
}

func setAffinity(tid int, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(tid, &set)
}

// loads run together.
type loads []*load.Worker

// stop stops the last one first: sources before sinks.
func (l loads) stop() error {
	var err error
	for i := len(l) - 1; i >= 0; i-- {
		err = errors.Join(err, l[i].Stop())
	}
	return err
}

// startLoads starts a load in pod b, and another in pod a that talks to it.
func startLoads(p pair, there, here load.Spec) (loads, error) {
	there.Address = netip.AddrPortFrom(p.b.ipv4, firstPort)
	here.Address = there.Address
	sink, err := load.Start(p.B, there)
	if err != nil {
		return nil, err
	}
	l := loads{sink}
	source, err := load.Start(p.A, here)
	if err != nil {
		return nil, errors.Join(err, l.stop())
	}
	return append(l, source), nil
}

// sampled is what a load does in a time, after some that does not count.
func sampled(w *load.Worker, d time.Duration) (first, last load.Sample, err error) {
	time.Sleep(warmUp)
	if first, err = w.Sample(); err != nil {
		return
	}
	time.Sleep(d)
	last, err = w.Sample()
	return
}

func rateTCP(t topology, p pair, s settings) (r result, err error) {
	l, err := startLoads(p, load.Spec{Role: load.TCPSink}, load.Spec{Role: load.TCPSource, Streams: 1, Congestion: "cubic"})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	first, last, err := sampled(l[0], s.duration)
	if err != nil {
		return r, err
	}
	if last.Bytes == first.Bytes {
		return r, errors.New("no data arrived")
	}
	c, err := watch(t, p, func() error {
		time.Sleep(s.duration)
		return nil
	})
	if err != nil {
		return r, err
	}
	r.Values = c.values()
	r.Values["gbits"] = last.Since(first).BitsPerSecond / 1e9
	return r, nil
}

func rateTrips(t topology, p pair, s settings) (r result, err error) {
	l, err := startLoads(p, load.Spec{Role: load.Echo}, load.Spec{Role: load.Probe, Payload: ipLength - 28})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	_, last, err := sampled(l[1], s.duration)
	if err != nil {
		return r, err
	}
	if last.RTT.Count == 0 {
		return r, fmt.Errorf("%d requests were answered, %d not", last.Packets, last.Lost)
	}
	r.Values = map[string]float64{"us": float64(last.RTT.P50.Nanoseconds()) / 1e3}
	return r, nil
}
