// SPDX-License-Identifier: Apache-2.0

// Package load makes traffic and measures it at the receiving end. Every end
// is a process of its own inside its network namespace, as two pods' are: the
// program starts itself again as a worker and asks it for samples.
//
//	program ── Start ──> worker in namespace a   source or probe
//	   │  "sample\n" ->  <- one JSON line            │ traffic
//	   └────── Start ──> worker in namespace b   sink or echo
//
// A worker runs from Start to Stop; rates are differences of two samples, so a
// warm-up costs nothing but a sample.
package load

import (
	"net/netip"
	"time"
)

// Role is what a worker does.
type Role string

// The roles. Sinks and echoes listen on Spec.Address, the others connect to it.
const (
	TCPSink   Role = "tcp-sink"   // reads and counts all streams
	TCPSource Role = "tcp-source" // writes Spec.Streams streams, as fast as it can
	UDPSink   Role = "udp-sink"   // counts datagrams, taken in batches
	UDPSource Role = "udp-source" // sends datagrams, one system call each
	Echo      Role = "echo"       // sends every datagram back
	Probe     Role = "probe"      // measures round trips to an echo
)

// Spec tells a worker what to do. It must say all of it: workers have no
// defaults.
type Spec struct {
	Role    Role
	Address netip.AddrPort
	// Streams of a TCP source.
	Streams int
	// Congestion control of a TCP source, see TCP_CONGESTION in tcp(7); "" for the
	// machine's own.
	Congestion string
	// Check makes TCP sources send, and sinks check, a pattern, so that
	// bytes lost, doubled or mixed up in between show as errors.
	Check bool
	// Payload is the UDP payload in bytes: the IP length minus 28 (IPv4) or
	// 48 (IPv6).
	Payload int
	// Rate in packets per second of a UDP source; 0: as fast as it can.
	Rate int
	// Interval between the requests of a probe; 0: one after the other.
	Interval time.Duration
}

// Sample is what a worker has counted. Counters grow from its start; Stall and
// RTT are of the time since the sample before.
type Sample struct {
	At      time.Duration // since the worker's start
	Packets uint64        // datagrams; round trips of a probe
	Bytes   uint64        // payload
	Open    int           // TCP streams that are open
	Ended   int           // TCP streams that ended, by whichever side
	Errors  uint64        // failed sends, pattern mismatches
	Lost    uint64        // requests of a probe without an answer
	// Stall is the longest time that a TCP stream of a sink was silent.
	Stall time.Duration
	RTT   RTT
}

// RTT holds quantiles of round trips.
type RTT struct {
	Count          int
	P50, P99, P999 time.Duration
}

// Rate is the difference of two samples per second.
type Rate struct {
	PacketsPerSecond float64
	BitsPerSecond    float64 // of payload
}

// Since is the rate between the earlier sample and s.
func (s Sample) Since(earlier Sample) Rate {
	seconds := (s.At - earlier.At).Seconds()
	if seconds <= 0 {
		return Rate{}
	}
	return Rate{
		PacketsPerSecond: float64(s.Packets-earlier.Packets) / seconds,
		BitsPerSecond:    8 * float64(s.Bytes-earlier.Bytes) / seconds,
	}
}
