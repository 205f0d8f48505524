// SPDX-License-Identifier: Apache-2.0

// Package devicetest is the conformance suite of NetIO devices. It works on a
// device only through device.Device and the shared memory, as a forwarder does,
// and on the knets' other side through sockets in network namespaces of its
// own:
//
//	test: UDP and TCP sockets          test: rings, nbufs, Kick, Wait
//	       │                                  │
//	  netns A ── knet ── device under test ── InQ / OutQ ── netns B ...
//
// A device passes if Run does. It needs root.
package devicetest

import (
	"os"
	"testing"

	"netio.dev/netio/pkg/dataplane/device"
)

// Config is what a test needs of a new instance; zero values are the device's
// defaults.
type Config struct {
	Lanes int
	Nbufs int
	Ports int
	// ParkedBytes is the cap on parked payload; the device may round it up
	// to whole packets.
	ParkedBytes int
	// Start is the ring position that a new instance begins at. A device
	// that cannot choose it ignores it.
	Start uint32
}

// Instance is an instance of the device under test, which exists apart from the
// process that owns it.
type Instance interface {
	// Attach makes the calling process the owner, if need be in the place
	// of another one.
	Attach() (device.Device, error)
	// Export returns what Harness.Child needs in a child process: a word for
	// its environment and files, which the caller closes.
	Export() (word string, files []*os.File, err error)
	// Destroy ends the instance. No process owns it any more.
	Destroy() error
}

// Harness makes instances of the device under test.
type Harness struct {
	// Create makes an instance that nobody owns yet.
	Create func(t testing.TB, c Config) Instance
	// Child attaches to an instance in a child process.
	Child func(word string, files []*os.File) (device.Device, error)
	// Kills is how often OwnerDeath kills the owner; 0 for ten times.
	Kills int
}

// Run runs the suite. The test that calls it is also run in child processes,
// in which Run never returns.
func Run(t *testing.T, h Harness) {
	runChild(h)
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces and interfaces")
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"Area", testArea},
		{"Ports", testPorts},
		{"PortErrors", testPortErrors},
		{"PortEvents", testPortEvents},
		{"PortRemovedInFlight", testPortRemovedInFlight},
		{"NetnsDeath", testNetnsDeath},
		{"NetnsDeathInTraffic", testNetnsDeathInTraffic},
		{"NumberReuse", testNumberReuse},
		{"Receive", testReceive},
		{"Transmit", testTransmit},
		{"Ownership", testOwnership},
		{"BadFields", testBadFields},
		{"WantGrantDenied", testWant},
		{"Fetch", testFetch},
		{"Clone", testClone},
		{"ReceiveChains", testReceiveChains},
		{"TransmitChains", testTransmitChains},
		{"BadChains", testBadChains},
		{"Tunnel", testTunnel},
		{"TunnelParked", testTunnelParked},
		{"TunnelTCP", testTunnelTCP},
		{"OneSegment", testOneSegment},
		{"WrongGSO", testWrongGSO},
		{"Wrap", testWrap},
		{"PositionWrap", testPositionWrap},
		{"ReaderAway", testReaderAway},
		{"EventsKept", testEventsKept},
		{"Quota", testQuota},
		{"ParkedCap", testParkedCap},
		{"QoS", testQoS},
		{"WakeUps", testWakeUps},
		{"Order", testOrder},
		{"TCP", testTCP},
		{"Lanes", testLanes},
		{"TakeOver", testTakeOver},
		{"TakeOverFromLiar", testTakeOverFromLiar},
		{"OwnerDeath", testOwnerDeath},
		{"NIC", testNIC},
		{"Steer", testSteer},
		{"NICErrors", testNICErrors},
		{"NICTakeOver", testNICTakeOver},
		{"NICRemoved", testNICRemoved},
		{"NICEnds", testNICEnds},
		{"Garbage", testGarbage},
		{"Scribble", testScribble},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, h) })
	}
}
