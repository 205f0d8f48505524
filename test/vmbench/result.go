// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
)

// subject is the topology whose ratios to the others are told.
const subject = "netio"

// topologies in the order of the table.
var topologies = []string{"direct", subject, "bridge", "routed", "nftables", "tun", "xdp"}

// results are values by topology and metric.
type results map[string]map[string]float64

// add takes what was measured in.
func (r results) add(all []measured) {
	for _, m := range all {
		if r[m.Topology] == nil {
			r[m.Topology] = map[string]float64{}
		}
		for key, value := range m.Values {
			r[m.Topology][m.Phase+"_"+key] = value
		}
	}
}

// wire is the code that packets pass between the IP stacks of a veth pair's two ends,
// in Linux 6.1. Without it the instructions of "direct" are those of sender and
// receiver alone.
var wire = []string{
	"veth_xmit [veth]", "__dev_forward_skb", "__dev_forward_skb2", "eth_type_trans", "skb_clone_tx_timestamp",
	"__netif_rx", "netif_rx_internal", "enqueue_to_backlog",
	"do_softirq.part.0", "__do_softirq", "handle_softirqs", "net_rx_action", "__napi_poll", "process_backlog",
	"__netif_receive_skb", "__netif_receive_skb_one_core",
}

// alone adds what forwarding costs alone: what a topology has more than sender and
// receiver. Of NetIO it is its own code, module and process, as NetIO also saves
// some of the receiver's, which must not hide what it costs.
func (r results) alone() {
	for _, phase := range []string{"udp4", "udp6"} {
		ends, ok := r["direct"][phase+"_ends"]
		for topology, values := range r {
			total, counted := values[phase+"_total"]
			if !ok || !counted || topology == "direct" {
				continue
			}
			values[phase+"_alone"] = total - ends
			if own, ok := values[phase+"_own"]; ok {
				values[phase+"_alone"] = own
			}
		}
	}
}

// chosen are the topologies that were measured.
func (r results) chosen() []string {
	return slices.DeleteFunc(slices.Clone(topologies), func(t string) bool { return r[t] == nil })
}

// metric is a row of the table.
type metric struct {
	key, label, unit string
}

var metrics = []metric{
	{"udp4_total", "UDP over IPv4, 64 bytes", "instructions/packet"},
	{"udp4_alone", "  forwarding alone", "instructions/packet"},
	{"udp6_total", "UDP over IPv6, 64 bytes", "instructions/packet"},
	{"udp6_alone", "  forwarding alone", "instructions/packet"},
	{"tcp_total", "TCP, one stream", "1000 instructions/MiB"},
	{"tcp_string", "  and in string instructions", "1000 iterations/MiB"},
	{"rr_total", "request and response", "instructions"},
	{"udp4_kpps", "UDP over IPv4, 64 bytes", "1000 packets/s"},
	{"udp4_syscalls", "  forwarding thread's system calls", "/1000000 packets"},
	{"udp4_switches", "  its context switches, as it waits", "/1000000 packets"},
	{"udp4_preemptions", "  and as others get the CPU", "/1000000 packets"},
	{"udp4_others_syscalls", "  other threads' system calls", "/1000000 packets"},
	{"udp4_others_switches", "  their context switches", "/1000000 packets"},
	{"udp4_copied", "  payload copied", "bytes/packet"},
	{"tcp_gbits", "TCP, one stream", "Gbit/s"},
	{"tcp_bytes_per_packet", "  size of packets, with acknowledgements", "bytes"},
	{"tcp_syscalls", "  forwarding thread's system calls", "/1000000 packets"},
	{"tcp_switches", "  its context switches, as it waits", "/1000000 packets"},
	{"tcp_preemptions", "  and as others get the CPU", "/1000000 packets"},
	{"tcp_others_syscalls", "  other threads' system calls", "/1000000 packets"},
	{"tcp_others_switches", "  their context switches", "/1000000 packets"},
	{"tcp_copied", "  payload copied", "bytes/packet"},
	{"rr_us", "round trip, p50", "us"},
}

// bar is what a value of NetIO's must be: at most, or with least set at least, a limit
// times another value.
type bar struct {
	label string
	key   string
	least bool
	limit float64
	// to is the topology, and toKey its value; without a key the limit is all.
	to, toKey string
}

var bars = []bar{
	{label: "forwarding alone, IPv4", key: "udp4_alone", limit: 900},
	{label: "forwarding alone, IPv4, of nftables'", key: "udp4_alone", limit: 0.25, to: "nftables", toKey: "udp4_alone"},
	{label: "forwarding alone, IPv6, of IPv4's", key: "udp6_alone", limit: 1.15, to: subject, toKey: "udp4_alone"},
	{label: "TCP instructions, of the router's", key: "tcp_total", limit: 1, to: "routed", toKey: "tcp_total"},
	{label: "TCP rate, of the router's", key: "tcp_gbits", least: true, limit: 0.9, to: "routed", toKey: "tcp_gbits"},
	{label: "TCP size of packets, of the router's", key: "tcp_bytes_per_packet", least: true, limit: 0.8, to: "routed", toKey: "tcp_bytes_per_packet"},
	{label: "TCP payload copied, bytes/packet", key: "tcp_copied", limit: 0},
	{label: "system calls/1000000 packets", key: "udp4_syscalls", limit: 0},
	{label: "context switches/1000000 packets", key: "udp4_switches", limit: 0},
	{label: "request and response, of the router's", key: "rr_total", limit: 1.2, to: "routed", toKey: "rr_total"},
}

// outcome of a bar.
type outcome struct {
	Label string  `json:"label"`
	Value float64 `json:"value"` // NetIO's, or its ratio
	Least bool    `json:"least"` // the bar is a lower one
	Bar   float64 `json:"bar"`
	Met   bool    `json:"met"`
}

// judge returns the outcomes of the bars whose values were measured.
func (r results) judge() []outcome {
	var all []outcome
	for _, b := range bars {
		value, ok := r[subject][b.key]
		if ok && b.toKey != "" {
			var other float64
			other, ok = r[b.to][b.toKey]
			value /= other
		}
		if !ok {
			continue
		}
		met := value <= b.limit
		if b.least {
			met = value >= b.limit
		}
		all = append(all, outcome{b.label, value, b.least, b.limit, met})
	}
	return all
}
