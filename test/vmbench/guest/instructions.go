// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
)

// instructionPhases have a window each, in which instructions are counted.
var instructionPhases = []phase{
	{"udp4", func(_ topology, p pair, s settings) (result, error) { return countUDP(p, s, p.a.ipv4, p.b.ipv4) }},
	{"udp6", func(_ topology, p pair, s settings) (result, error) { return countUDP(p, s, p.a.ipv6, p.b.ipv6) }},
	{"tcp", func(_ topology, p pair, s settings) (result, error) { return count(p, "tcp", s.mebibytes) }},
	{"rr", func(_ topology, p pair, s settings) (result, error) { return count(p, "rr", s.trips) }},
}

func countUDP(p pair, s settings, from, to netip.Addr) (result, error) {
	f, err := newFlow(p, from, to)
	if err != nil {
		return result{}, err
	}
	defer f.close()
	if err := f.run(s.batches); err != nil {
		return result{}, err
	}
	return result{Units: float64(s.batches * batchSize), Batch: batchSize}, nil
}

// count has one process in each pod, as ordinary ones as any, and one of them
// mark the window and its batches.
func count(p pair, name string, units int) (result, error) {
	if err := runEnds(p, name, units); err != nil {
		return result{}, err
	}
	return result{Units: float64(units), Batch: 1}, nil
}
