// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/forward"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// bed is a server on a unix socket, in front of a forwarder that runs on a
// device in memory.
type bed struct {
	*testing.T
	dir    string
	dev    *memdev.Device
	f      *forward.Forwarder
	s      *Server
	socket string
	config dataplanev1.ConfigurationClient
	watch  dataplanev1.ObservationClient

	stop   context.CancelFunc
	served chan error
}

// newBed starts a server; dir keeps its files, and those of an earlier one.
func newBed(t *testing.T, dir string) *bed {
	t.Helper()
	return newBedOn(t, dir, memdev.New(t, memdev.Config{}))
}

func newBedOn(t *testing.T, dir string, dev *memdev.Device) *bed {
	t.Helper()
	b := &bed{T: t, dir: dir, dev: dev, served: make(chan error, 1)}
	b.socket = filepath.Join(dir, "forwarder.sock")
	var err error
	if b.f, err = forward.New(forward.Options{Device: b.dev, MaxConnections: 1024}); err != nil {
		t.Fatal(err)
	}
	b.s = New(Options{
		Forwarder: b.f, Device: b.dev, SnapshotPath: b.file(), Version: "v1.2.3",
		Started: time.Unix(1000, 0), Restarts: 3, Gap: 7 * time.Millisecond,
	})
	if err := b.s.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.f.Run(ctx) }()
	go func() { b.served <- b.s.Serve(ctx, b.socket) }()
	b.stop = func() {
		cancel()
		for _, c := range []chan error{ran, b.served} {
			if err := <-c; err != nil {
				t.Error(err)
			}
			c <- nil
		}
	}
	conn, err := grpc.NewClient("unix://"+b.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		b.stop()
		b.f.Close()
	})
	b.config, b.watch = dataplanev1.NewConfigurationClient(conn), dataplanev1.NewObservationClient(conn)
	return b
}

func (b *bed) file() string { return filepath.Join(b.dir, "forwarder.snapshot") }

// ctx ends a call that hangs.
func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	b.Cleanup(cancel)
	return ctx
}

func (b *bed) apply(s *dataplanev1.Snapshot) *dataplanev1.ApplyResponse {
	b.Helper()
	res, err := b.config.Apply(b.ctx(), snapshotRequest(s))
	if err != nil {
		b.Fatal(err)
	}
	return res
}

func snapshotRequest(s *dataplanev1.Snapshot) *dataplanev1.ApplyRequest {
	return &dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Snapshot{Snapshot: s}}
}

func deltaRequest(d *dataplanev1.Delta) *dataplanev1.ApplyRequest {
	return &dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Delta{Delta: d}}
}

func pod(n int) *dataplanev1.Port {
	return &dataplanev1.Port{
		Name: fmt.Sprintf("pod%d", n), Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: fmt.Sprintf("/run/netns/pod%d", n),
		Addresses: []string{fmt.Sprintf("10.0.0.%d", n), fmt.Sprintf("fd00::%d", n)},
	}
}

// twoPods is a configuration with two pods and the host.
func twoPods(revision uint64) *dataplanev1.Snapshot {
	return &dataplanev1.Snapshot{
		Revision: revision, Settings: &dataplanev1.Settings{Ipv4: "10.0.0.254", Ipv6: "fd00::fe"},
		Ports:  []*dataplanev1.Port{pod(1), pod(2), {Name: "host", Kind: dataplanev1.Port_HOST, Ifname: "netio0"}},
		Routes: []*dataplanev1.Route{{Prefix: "0.0.0.0/0", Port: "host"}, {Prefix: "::/0", Port: "host"}},
	}
}

// inForce wants a configuration to be what the forwarder has, what it says that
// it has, and what the next start would find.
func (b *bed) inForce(want *dataplanev1.Snapshot) {
	b.Helper()
	got, err := b.config.Get(b.ctx(), &dataplanev1.GetRequest{})
	if err != nil {
		b.Fatal(err)
	}
	if d := gocmp.Diff(want, got, protocmp.Transform(), protocmp.SortRepeated(func(x, y *dataplanev1.Port) bool { return x.Name < y.Name })); d != "" {
		b.Errorf("in force (-want +got):\n%s", d)
	}
	saved, err := config.Load(b.file())
	if err != nil {
		b.Fatal(err)
	}
	if !proto.Equal(saved, got) {
		b.Errorf("saved is another configuration:\n%s", gocmp.Diff(got, saved, protocmp.Transform()))
	}
	var names, has []string
	for _, p := range want.Ports {
		names = append(names, p.Name)
	}
	ports, _ := b.dev.Ports()
	for _, p := range ports {
		has = append(has, p.Name)
	}
	slices.Sort(names)
	slices.Sort(has)
	if !slices.Equal(names, has) {
		b.Errorf("the device has ports %v, want %v", has, names)
	}
}

// refused wants a request to be refused with violations of these fields, and
// nothing to have changed.
func (b *bed) refused(req *dataplanev1.ApplyRequest, fields ...string) {
	b.Helper()
	before := b.f.Snapshot()
	_, err := b.config.Apply(b.ctx(), req)
	if status.Code(err) != codes.InvalidArgument {
		b.Fatalf("error %v, want INVALID_ARGUMENT", err)
	}
	var got []string
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.FieldViolations {
				got = append(got, v.Field)
				if v.Description == "" {
					b.Errorf("%s: no description", v.Field)
				}
			}
		}
	}
	if !slices.Equal(got, fields) {
		b.Errorf("violations of %q, want %q", got, fields)
	}
	if b.f.Snapshot() != before {
		b.Error("the configuration in force has changed")
	}
}

// eventually waits until f is true, which something under way makes it.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// udp is a UDP packet without checksum.
func udp(src, dst string, sport, dport uint16) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	l4 := make([]byte, 8+12)
	binary.BigEndian.PutUint16(l4, sport)
	binary.BigEndian.PutUint16(l4[2:], dport)
	binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	if s.Is4() {
		h := make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 64, packet.ProtoUDP
		binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(l4)))
		copy(h[12:], s.AsSlice())
		copy(h[16:], d.AsSlice())
		binary.BigEndian.PutUint16(h[10:], packet.Checksum(h, 0))
		return append(h, l4...)
	}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, packet.ProtoUDP, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(l4)))
	copy(h[8:], s.AsSlice())
	copy(h[24:], d.AsSlice())
	return append(h, l4...)
}

// port is the number of a port.
func (b *bed) port(name string) uint32 {
	b.Helper()
	ports, _ := b.dev.Ports()
	for _, p := range ports {
		if p.Name == name {
			return uint32(p.ID)
		}
	}
	b.Fatalf("no port %s", name)
	return 0
}

// forwarded wants a packet to be forwarded from one port to another.
func (b *bed) forwarded(from, src, dst, to string) {
	b.Helper()
	b.dev.Sent()
	b.dev.Receive(memdev.Rx{Port: b.port(from), Data: udp(src, dst, 1, 2)})
	var sent []memdev.Packet
	eventually(b, "a packet from "+from, func() bool {
		sent = append(sent, b.dev.Sent()...)
		return len(sent) > 0
	})
	if sent[0].Port != b.port(to) {
		b.Errorf("sent to port %d, want %s", sent[0].Port, to)
	}
}
