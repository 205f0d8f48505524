// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"

	"netio.dev/netio/test/internal/netlab"
)

// Topology is one way to join two pods: the namespaces a and b, each with an
// interface eth0 of MTU 1500, and whatever is between them.
type Topology interface {
	// Name in tables and on the command line.
	Name() string
	// Setup makes it. After an error it may be half made: the sandbox takes
	// it away.
	Setup() (Pair, error)
	// Processes that work for it in user space.
	Processes() ([]int, error)
	// Counters of the packet path in user space so far; zero without one.
	Counters() (Counters, error)
	// Log of its processes, its end, to be shown after an error.
	Log() string
	// Stop ends its processes.
	Stop() error
}

// Pair is the two ends that traffic flows between, from A to B.
type Pair struct {
	A, B         *netlab.Namespace
	AAddr, BAddr netip.Addr
}

// Counters are what a forwarder in user space has done so far.
type Counters struct {
	Packets  uint64 // received from ports
	Syscalls uint64
}

// addresses of a and b in the n-th topology, and of the router on their sides.
func addresses(n int) (a, aRouter, b, bRouter netip.Addr) {
	at := func(subnet, host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n), subnet, host}) }
	return at(1, 2), at(1, 1), at(2, 2), at(2, 1)
}

// namespaces makes those of a topology: a, b and the one in between.
func namespaces(topology string) (a, b, between *netlab.Namespace, err error) {
	for _, ns := range []struct {
		to   **netlab.Namespace
		name string
	}{{&a, "a"}, {&b, "b"}, {&between, "between"}} {
		if *ns.to, err = netlab.New(fmt.Sprintf("%s-%s", topology, ns.name)); err != nil {
			return nil, nil, nil, err
		}
	}
	return a, b, between, nil
}
