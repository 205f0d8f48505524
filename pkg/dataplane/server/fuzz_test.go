// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/forward"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
)

// FuzzApply sends requests of any bytes. None may take the forwarder down; what
// is refused changes nothing, what is accepted is valid, is what the next start
// would find, and packets get through it.
func FuzzApply(f *testing.F) {
	full := twoPods(2)
	full.AddressSets = []*dataplanev1.AddressSet{{Name: "pods", Prefixes: []string{"10.0.0.0/24", "fd00::/64"}, Except: []string{"10.0.0.9"}}}
	full.Policies = []*dataplanev1.Policy{{
		Name: "p", IsolatesIngress: true, IsolatesEgress: true,
		Ingress: []*dataplanev1.Rule{{Name: "r", Tier: 1, Priority: 2, Action: dataplanev1.Action_ALLOW, Peers: []string{"pods"}, L4: []*dataplanev1.L4Match{{Protocol: 17, FirstPort: 1, LastPort: 99}}}},
		Egress:  []*dataplanev1.Rule{{Name: "r", Action: dataplanev1.Action_PASS, Log: true}},
	}}
	full.Ports[0].Policies = []string{"p"}
	full.SourceNats = []*dataplanev1.SourceNat{{Name: "masq", Source: "10.0.0.0/24", DestinationsExcept: []string{"10.0.0.0/8"}, OutPort: "host", Addresses: []string{"192.0.2.1"}, FirstPort: 1024, LastPort: 2048}}
	full.DestinationNats = []*dataplanev1.DestinationNat{{Name: "svc", Address: "10.96.0.1", Protocol: 17, Port: 2, Backends: []*dataplanev1.Backend{{Address: "10.0.0.2", Port: 2, Weight: 3}}, AffinitySeconds: 9}}
	full.Settings.MaxConnectionsPerPort = 3
	full.Settings.Timeouts = &dataplanev1.Timeouts{Udp: 1}
	for _, req := range []*dataplanev1.ApplyRequest{
		{}, snapshotRequest(&dataplanev1.Snapshot{}), snapshotRequest(twoPods(3)), snapshotRequest(full),
		deltaRequest(&dataplanev1.Delta{BaseRevision: 1, Revision: 2, Ports: []*dataplanev1.Port{pod(3)}, DeletePorts: []string{"pod1"}}),
		deltaRequest(&dataplanev1.Delta{BaseRevision: 1, Routes: full.Routes, AddressSets: full.AddressSets, Policies: full.Policies, SourceNats: full.SourceNats, DestinationNats: full.DestinationNats, Settings: full.Settings}),
		deltaRequest(&dataplanev1.Delta{BaseRevision: 1, DeleteRoutes: []string{"0.0.0.0/0"}, DeletePolicies: []string{"p"}}),
	} {
		raw, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("\x0a\xff\xff\xff\xff\x0f"))

	dev := memdev.New(f, memdev.Config{})
	fw, err := forward.New(forward.Options{Device: dev, MaxConnections: 64})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(fw.Close)
	path := filepath.Join(f.TempDir(), "snapshot")
	s := New(Options{Forwarder: fw, Device: dev, SnapshotPath: path})
	go fw.Run(f.Context())

	f.Fuzz(func(t *testing.T, raw []byte) {
		dev.Use(t)
		req := new(dataplanev1.ApplyRequest)
		if err := proto.Unmarshal(raw, req); err != nil {
			return // gRPC refuses it before anybody sees it
		}
		// Whatever was before goes, so that each input stands for itself.
		for _, base := range []*dataplanev1.Snapshot{{}, twoPods(1)} {
			if _, err := s.Apply(t.Context(), snapshotRequest(base)); err != nil {
				t.Fatal(err)
			}
		}
		before := fw.Snapshot()
		names := ports(t, dev)
		_, err := s.Apply(t.Context(), req)
		after := fw.Snapshot()
		if err != nil {
			if c := status.Code(err); c != codes.InvalidArgument && c != codes.Aborted && c != codes.FailedPrecondition {
				t.Fatalf("error %v", err)
			}
			if after != before || fmt.Sprint(ports(t, dev)) != fmt.Sprint(names) {
				t.Fatalf("refused with %v, and something has changed", err)
			}
		} else {
			if err := config.Validate(after); err != nil {
				t.Fatalf("accepted what is not valid: %v", err)
			}
			saved, err := config.Load(path)
			if err != nil || !proto.Equal(saved, after) {
				t.Fatalf("saved is another configuration; error %v", err)
			}
		}
		// Packets of all kinds go through the tables.
		var in []memdev.Rx
		for port := range uint32(5) {
			for _, p := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"fd00::1", "fd00::2"}, {"10.0.0.2", "10.0.0.1"}, {"10.0.0.1", "10.96.0.1"}, {"10.0.0.2", "198.51.100.7"}, {"198.51.100.7", "10.0.0.1"}} {
				in = append(in, memdev.Rx{Port: port, Data: udp(p[0], p[1], 1, 2)})
			}
		}
		count := dev.Counts()
		dev.Receive(in...)
		eventually(t, "the packets' ends", func() bool {
			c := dev.Counts()
			return c.Tx+c.Freed >= count.Tx+count.Freed+len(in)
		})
		dev.Sent()
	})
}

func ports(t *testing.T, dev *memdev.Device) (names []string) {
	t.Helper()
	list, err := dev.Ports()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		names = append(names, p.Name)
	}
	return names
}
