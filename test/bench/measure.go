// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"netio.dev/netio/test/internal/cputime"
	"netio.dev/netio/test/internal/load"
	"netio.dev/netio/test/internal/netlab"
)

const (
	// warmUp is how long a load runs before it is measured.
	warmUp = 300 * time.Millisecond
	// smallPayload makes 64-byte IPv4 packets: 20 of IP, 8 of UDP, 36.
	smallPayload = 64 - 20 - 8
	// loadRate of the flow beside which round trips are measured.
	loadRate = 20000
	// restInterval between requests lets everything go to sleep.
	restInterval = 2 * time.Millisecond
)

// A phase measures some metrics of one topology, for about a duration.
type phase struct {
	name string
	run  func(Topology, Pair, time.Duration) (values, error)
}

// values of metrics, by key.
type values map[string]float64

// The phases in the order of a round.
var phases = []phase{
	{"tcp1", func(t Topology, p Pair, d time.Duration) (values, error) { return measureTCP(p, d, "tcp1", 1) }},
	{"tcp8", func(t Topology, p Pair, d time.Duration) (values, error) { return measureTCP(p, d, "tcp8", 8) }},
	{"udp", measureUDP},
	{"rtt-flow", func(t Topology, p Pair, d time.Duration) (values, error) {
		return measureRTT(p, d, "rtt_flow", 0, 0)
	}},
	{"rtt-load", func(t Topology, p Pair, d time.Duration) (values, error) {
		return measureRTT(p, d, "rtt_load", 0, loadRate)
	}},
	{"rtt-idle", func(t Topology, p Pair, d time.Duration) (values, error) {
		return measureRTT(p, d, "rtt_idle", restInterval, 0)
	}},
	{"idle", measureRest},
}

// workers are the load of a phase, stopped together.
type workers []*load.Worker

func (w *workers) start(ns *netlab.Namespace, spec load.Spec) (*load.Worker, error) {
	worker, err := load.Start(ns, spec)
	if err == nil {
		*w = append(*w, worker)
	}
	return worker, err
}

// stop stops the last one first: sources before sinks.
func (w *workers) stop() error {
	var err error
	for i := len(*w) - 1; i >= 0; i-- {
		err = errors.Join(err, (*w)[i].Stop())
	}
	return err
}

// window is what happened at two workers, and to the CPUs, over a duration.
type window struct {
	source, sink load.Rate
	first, last  load.Sample // of the sink
	seconds      float64
	busy         time.Duration
}

func watch(source, sink *load.Worker, d time.Duration) (window, error) {
	var w window
	time.Sleep(warmUp)
	sample := func() (from, to load.Sample, busy time.Duration, err error) {
		if from, err = source.Sample(); err != nil {
			return
		}
		if to, err = sink.Sample(); err != nil {
			return
		}
		busy, err = cputime.Machine()
		return
	}
	from1, to1, busy1, err := sample()
	if err != nil {
		return w, err
	}
	time.Sleep(d)
	from2, to2, busy2, err := sample()
	if err != nil {
		return w, err
	}
	return window{
		source: from2.Since(from1), sink: to2.Since(to1), first: to1, last: to2,
		seconds: (to2.At - to1.At).Seconds(), busy: busy2 - busy1,
	}, nil
}

// congestion is the kernel's own default. Some machines are set to BBR, which paces
// by timers for long paths: on a machine's own wires it measures the timers.
const congestion = "cubic"

func measureTCP(p Pair, d time.Duration, key string, streams int) (v values, err error) {
	var ws workers
	defer func() { err = errors.Join(err, ws.stop()) }()
	address := netip.AddrPortFrom(p.BAddr, firstPort)
	sink, err := ws.start(p.B, load.Spec{Role: load.TCPSink, Address: address})
	if err != nil {
		return nil, err
	}
	source, err := ws.start(p.A, load.Spec{Role: load.TCPSource, Address: address, Streams: streams, Congestion: congestion})
	if err != nil {
		return nil, err
	}
	w, err := watch(source, sink, d)
	if err != nil {
		return nil, err
	}
	if w.last.Bytes == w.first.Bytes {
		return nil, fmt.Errorf("no data arrived over %d TCP streams", streams)
	}
	gbits := w.sink.BitsPerSecond / 1e9
	return values{key: gbits, key + "_cpu": 1000 * w.busy.Seconds() / (gbits * w.seconds)}, nil
}

func measureUDP(t Topology, p Pair, d time.Duration) (v values, err error) {
	var ws workers
	defer func() { err = errors.Join(err, ws.stop()) }()
	address := netip.AddrPortFrom(p.BAddr, firstPort)
	sink, err := ws.start(p.B, load.Spec{Role: load.UDPSink, Address: address})
	if err != nil {
		return nil, err
	}
	source, err := ws.start(p.A, load.Spec{Role: load.UDPSource, Address: address, Payload: smallPayload})
	if err != nil {
		return nil, err
	}
	before, err := t.Counters()
	if err != nil {
		return nil, err
	}
	w, err := watch(source, sink, d)
	if err != nil {
		return nil, err
	}
	after, err := t.Counters()
	if err != nil {
		return nil, err
	}
	if w.last.Packets == w.first.Packets {
		return nil, errors.New("no UDP packet arrived")
	}
	v = values{
		"udp":         w.sink.PacketsPerSecond / 1e3,
		"udp_offered": w.source.PacketsPerSecond / 1e3,
		"udp_cpu":     w.busy.Seconds() / (w.sink.PacketsPerSecond * w.seconds / 1e6),
	}
	if packets := after.Packets - before.Packets; packets > 0 {
		v["udp_syscalls"] = 1e6 * float64(after.Syscalls-before.Syscalls) / float64(packets)
	}
	return v, nil
}

// measureRTT measures round trips from a to b and back, one every interval,
// beside a UDP flow of a rate.
func measureRTT(p Pair, d time.Duration, key string, interval time.Duration, rate int) (v values, err error) {
	var ws workers
	defer func() { err = errors.Join(err, ws.stop()) }()
	if rate > 0 {
		beside := netip.AddrPortFrom(p.BAddr, firstPort+1)
		if _, err := ws.start(p.B, load.Spec{Role: load.UDPSink, Address: beside}); err != nil {
			return nil, err
		}
		if _, err := ws.start(p.A, load.Spec{Role: load.UDPSource, Address: beside, Payload: smallPayload, Rate: rate}); err != nil {
			return nil, err
		}
	}
	address := netip.AddrPortFrom(p.BAddr, firstPort)
	echo, err := ws.start(p.B, load.Spec{Role: load.Echo, Address: address})
	if err != nil {
		return nil, err
	}
	probe, err := ws.start(p.A, load.Spec{Role: load.Probe, Address: address, Payload: smallPayload, Interval: interval})
	if err != nil {
		return nil, err
	}
	w, err := watch(echo, probe, d)
	if err != nil {
		return nil, err
	}
	rtt := w.last.RTT
	if rtt.Count == 0 {
		return nil, errors.New("no request was answered")
	}
	return values{
		key + "_p50":  microseconds(rtt.P50),
		key + "_p99":  microseconds(rtt.P99),
		key + "_p999": microseconds(rtt.P999),
	}, nil
}

// measureRest measures what the processes of a topology use while nothing is
// sent.
func measureRest(t Topology, _ Pair, d time.Duration) (values, error) {
	pids, err := t.Processes()
	if err != nil || len(pids) == 0 {
		return nil, err
	}
	time.Sleep(warmUp)
	began := time.Now()
	before, err := cputime.Processes(pids...)
	if err != nil {
		return nil, err
	}
	time.Sleep(d)
	after, err := cputime.Processes(pids...)
	if err != nil {
		return nil, err
	}
	return values{"idle_cpu": 100 * (after - before).Seconds() / time.Since(began).Seconds()}, nil
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
