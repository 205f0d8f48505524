// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"google.golang.org/grpc"

	"netio.dev/netio/pkg/agent/forwarder"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/ipam"
	"netio.dev/netio/pkg/policy"
)

var errAway = errors.New("away")

// fakeForwarder answers with fixed data, until the call that is to fail.
type fakeForwarder struct {
	dataplanev1.ObservationClient
	fail string
	// hang: it answers only when the caller gives up.
	hang bool
}

func (f *fakeForwarder) answer(ctx context.Context, call string) error {
	if f.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.fail == call {
		return errAway
	}
	return nil
}

func (f *fakeForwarder) Status(ctx context.Context, _ *dataplanev1.StatusRequest, _ ...grpc.CallOption) (*dataplanev1.StatusResponse, error) {
	return &dataplanev1.StatusResponse{
		Version: "v0.1.0", Device: "kernel", AbiVersion: "1.0", StartedUnixNano: 1_500_000_000, Restarts: 2, LastRestartGapNano: 12_000_000,
		Revision: 42, Connections: 1310, ConnectionsMax: 262_144, Nbufs: 8192, NbufsFree: 7936,
		Lanes: []*dataplanev1.LaneStatus{
			{Lane: 0, RxPackets: 100, TxPackets: 90, RxBytes: 1000, TxBytes: 900, Vectors: 7, Polls: 8, Sleeps: 9, Kicks: 10, Syscalls: 11, SlowPath: 12, BadEntries: 1, PayloadCopied: 13},
			{Lane: 1, RxPackets: 5},
		},
	}, f.answer(ctx, "Status")
}

func (f *fakeForwarder) ListDrops(ctx context.Context, _ *dataplanev1.ListDropsRequest, _ ...grpc.CallOption) (*dataplanev1.ListDropsResponse, error) {
	return &dataplanev1.ListDropsResponse{Drops: []*dataplanev1.DropCount{
		{Port: "a/eth0", Reason: "policy-egress", Packets: 5},
		{Port: "b/eth0", Reason: "policy-egress", Packets: 2},
		{Reason: "unknown-port", Packets: 1},
	}}, f.answer(ctx, "ListDrops")
}

func (f *fakeForwarder) ListPorts(ctx context.Context, _ *dataplanev1.ListPortsRequest, _ ...grpc.CallOption) (*dataplanev1.ListPortsResponse, error) {
	pod := func(port, name string) *dataplanev1.Port {
		return &dataplanev1.Port{Name: port, Kind: dataplanev1.Port_POD, Tags: map[string]string{"namespace": "default", "pod": name}}
	}
	return &dataplanev1.ListPortsResponse{Ports: []*dataplanev1.PortStatus{
		{Config: &dataplanev1.Port{Name: "host", Kind: dataplanev1.Port_HOST}, Up: true, Connections: 3},
		{Config: pod("a/eth0", "web"), Up: true, RxPackets: 60, TxPackets: 50, RxBytes: 600, TxBytes: 500, Drops: 5, Connections: 2, Nbufs: 4, QueueBytes: 20, ParkedBytes: 30},
		{Config: pod("b/eth0", "db"), Drops: 2, Connections: 1, Nbufs: 1},
		// The same pod twice, as with two networks.
		{Config: pod("b/net1", "db"), Up: true, Error: "no room"},
	}}, f.answer(ctx, "ListPorts")
}

func options(f *fakeForwarder) Options {
	return Options{
		Version: "v0.1.0", Forwarder: f,
		Status: func() forwarder.Status {
			return forwarder.Status{Connected: true, InForce: true, Problems: []policy.Problem{{Policy: "default/web"}}}
		},
		Pools: func() ([]ipam.PoolUsage, error) {
			return []ipam.PoolUsage{{Pool: netip.MustParsePrefix("10.244.0.0/24"), Size: 253, Used: 3, Cooling: 1}}, nil
		},
		Endpoints: func() int { return 3 },
		Policies:  func() int { return 2 },
		Problems:  func() map[string]int { return map[string]int{"policy": 1} },
	}
}

// observed is a recorder that has seen a call and a change.
func observed(t *testing.T) *Recorder {
	r := NewRecorder()
	r.PolicyInForce(3_000_000)
	for method, failure := range map[string]error{"/netio.agent.v1.CNI/Add": nil, "/netio.agent.v1.CNI/Del": errAway, "/netio.agent.v1.CNI/Check": nil} {
		resp, err := r.Interceptor(t.Context(), "request", &grpc.UnaryServerInfo{FullMethod: method}, func(_ context.Context, req any) (any, error) {
			return req, failure
		})
		if resp != "request" || !errors.Is(err, failure) {
			t.Fatalf("%s: passed on %v, %v", method, resp, err)
		}
	}
	return r
}
