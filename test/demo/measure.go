// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/internal/load"
)

const (
	measureTime = 2 * time.Second
	warmUp      = 300 * time.Millisecond
	// smallPayload makes 64-byte packets: 20 of IPv4, 8 of UDP.
	smallPayload = 64 - 20 - 8
)

// measurement is what two samples of a source's sink, or of a probe, tell.
type measurement struct {
	load.Rate
	last      load.Sample
	perPacket float64 // the forwarder's system calls a packet
}

// measure runs a pair of loads, from client to web.
func (d *demo) measure(ctx context.Context, sink, source load.Spec, count func(sink, source *load.Worker) *load.Worker) (m measurement, err error) {
	sink.Address = netip.AddrPortFrom(address(d.pod(web).addr, false), measurePort)
	source.Address = sink.Address
	to, err := load.Start(d.pod(web).ns, sink)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, to.Stop()) }()
	from, err := load.Start(d.pod(client).ns, source)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, from.Stop()) }()
	counted := count(to, from)

	time.Sleep(warmUp)
	packets1, calls1, err := d.counters(ctx)
	if err != nil {
		return m, err
	}
	first, err := counted.Sample()
	if err != nil {
		return m, err
	}
	time.Sleep(measureTime)
	if m.last, err = counted.Sample(); err != nil {
		return m, err
	}
	packets2, calls2, err := d.counters(ctx)
	if err != nil {
		return m, err
	}
	m.Rate = m.last.Since(first)
	if packets2 > packets1 {
		m.perPacket = float64(calls2-calls1) / float64(packets2-packets1)
	}
	return m, nil
}

// counters are the packets that the forwarder has taken from ports, and the
// system calls of its packet path.
func (d *demo) counters(ctx context.Context) (packets, syscalls uint64, err error) {
	status, err := d.observation().Status(ctx, &dataplanev1.StatusRequest{})
	if err != nil {
		return 0, 0, fmt.Errorf("ask the forwarder: %w", err)
	}
	for _, lane := range status.GetLanes() {
		packets += lane.GetRxPackets()
		syscalls += lane.GetSyscalls()
	}
	return packets, syscalls, nil
}

func atSink(sink, _ *load.Worker) *load.Worker     { return sink }
func atSource(_, source *load.Worker) *load.Worker { return source }

func (d *demo) measureTCP(ctx context.Context) (string, error) {
	m, err := d.measure(ctx, load.Spec{Role: load.TCPSink}, load.Spec{Role: load.TCPSource, Streams: 1}, atSink)
	if err != nil {
		return "", err
	}
	if m.BitsPerSecond == 0 {
		return "", errors.New("nothing arrived")
	}
	result := fmt.Sprintf("%.1f Gbit/s", m.BitsPerSecond/1e9)
	d.note("TCP, one stream", "%s", result)
	return result, nil
}

func (d *demo) measureUDP(ctx context.Context) (string, error) {
	m, err := d.measure(ctx, load.Spec{Role: load.UDPSink}, load.Spec{Role: load.UDPSource, Payload: smallPayload}, atSink)
	if err != nil {
		return "", err
	}
	if m.PacketsPerSecond == 0 {
		return "", errors.New("nothing arrived")
	}
	result := fmt.Sprintf("%.0f packets/s", m.PacketsPerSecond)
	calls := fmt.Sprintf("%.0f system calls per million packets", 1e6*m.perPacket)
	d.note("UDP, 64-byte packets, delivered", "%s", result)
	d.note("system calls per million packets", "%.0f", 1e6*m.perPacket)
	return result + ", " + calls, nil
}

func (d *demo) measureRoundTrip(ctx context.Context) (string, error) {
	m, err := d.measure(ctx, load.Spec{Role: load.Echo}, load.Spec{Role: load.Probe, Payload: smallPayload}, atSource)
	if err != nil {
		return "", err
	}
	rtt := m.last.RTT
	if rtt.Count == 0 {
		return "", errors.New("no request was answered")
	}
	result := fmt.Sprintf("p50 %.1f us, p99 %.1f us", microseconds(rtt.P50), microseconds(rtt.P99))
	d.note("round trip", "%s", result)
	return result, nil
}

func microseconds(t time.Duration) float64 { return float64(t.Nanoseconds()) / 1000 }
