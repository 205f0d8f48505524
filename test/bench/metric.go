// SPDX-License-Identifier: Apache-2.0

package main

// A metric is one number that is measured of every topology.
type metric struct {
	key   string // in JSON
	label string
	unit  string
	// What NetIO's ratio to the routed topology must at least (atLeast) or at
	// most be; 0: no bar.
	bar     float64
	atLeast bool
}

// The metrics in the order of the table.
var metrics = []metric{
	{key: "tcp1", label: "TCP, 1 stream", unit: "Gbit/s", bar: 0.85, atLeast: true},
	{key: "tcp1_cpu", label: "  CPU", unit: "ms/Gbit"},
	{key: "tcp8", label: "TCP, 8 streams", unit: "Gbit/s", bar: 0.45, atLeast: true},
	{key: "tcp8_cpu", label: "  CPU", unit: "ms/Gbit"},
	{key: "udp", label: "UDP, 64-byte packets, delivered", unit: "kpps", bar: 0.5, atLeast: true},
	{key: "udp_offered", label: "  offered by the sender", unit: "kpps"},
	{key: "udp_cpu", label: "  CPU", unit: "s/Mpkt"},
	{key: "udp_syscalls", label: "  forwarder's system calls", unit: "/Mpkt"},
	{key: "rtt_flow_p50", label: "round trip, one after the other, p50", unit: "us", bar: 1.6},
	{key: "rtt_flow_p99", label: "  p99", unit: "us"},
	{key: "rtt_flow_p999", label: "  p99.9", unit: "us"},
	{key: "rtt_load_p50", label: "round trip beside 20 kpps, p50", unit: "us"},
	{key: "rtt_load_p99", label: "  p99", unit: "us"},
	{key: "rtt_load_p999", label: "  p99.9", unit: "us"},
	{key: "rtt_idle_p50", label: "round trip from sleep, p50", unit: "us"},
	{key: "rtt_idle_p99", label: "  p99", unit: "us"},
	{key: "rtt_idle_p999", label: "  p99.9", unit: "us"},
	{key: "idle_cpu", label: "forwarder at rest", unit: "% of a CPU"},
}
