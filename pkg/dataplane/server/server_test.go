// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
)

func TestApply(t *testing.T) {
	t.Run("a snapshot, deltas, and a snapshot again", func(t *testing.T) {
		b := newBed(t, t.TempDir())
		res := b.apply(twoPods(5))
		want := &dataplanev1.ApplyResponse{Revision: 5, Ports: []*dataplanev1.PortState{
			{Name: "pod1", Id: 1, Ifindex: 101, Up: true}, {Name: "pod2", Id: 2, Ifindex: 102, Up: true}, {Name: "host", Id: 3, Ifindex: 103, Up: true},
		}}
		if d := gocmp.Diff(want, res, protocmp.Transform()); d != "" {
			t.Errorf("answer (-want +got):\n%s", d)
		}
		b.inForce(twoPods(5))
		b.forwarded("pod1", "10.0.0.1", "10.0.0.2", "pod2")

		res, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: 5, Revision: 6, Ports: []*dataplanev1.Port{pod(3)}}))
		if err != nil {
			t.Fatal(err)
		}
		want = &dataplanev1.ApplyResponse{Revision: 6, Ports: []*dataplanev1.PortState{{Name: "pod3", Id: 4, Ifindex: 104, Up: true}}}
		if d := gocmp.Diff(want, res, protocmp.Transform()); d != "" {
			t.Errorf("answer (-want +got):\n%s", d)
		}
		three := twoPods(6)
		three.Ports = append(three.Ports, pod(3))
		b.inForce(three)
		b.forwarded("pod3", "fd00::3", "fd00::1", "pod1")

		if _, err = b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: 6, Revision: 7, DeletePorts: []string{"pod1"}})); err != nil {
			t.Fatal(err)
		}
		three.Revision, three.Ports = 7, three.Ports[1:]
		b.inForce(three)

		b.apply(twoPods(8))
		b.inForce(twoPods(8))
	})
	t.Run("a delta of another revision", func(t *testing.T) {
		b := newBed(t, t.TempDir())
		b.apply(twoPods(5))
		for _, base := range []uint64{0, 4, 6} {
			_, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: base, Revision: 9, DeletePorts: []string{"pod1"}}))
			if status.Code(err) != codes.Aborted {
				t.Errorf("error %v, want ABORTED", err)
			}
		}
		b.inForce(twoPods(5))
	})
	t.Run("one of many deltas of the same revision", func(t *testing.T) {
		b := newBed(t, t.TempDir())
		b.apply(twoPods(1))
		const writers, rounds = 4, 8
		var won atomic.Int32
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for r := range rounds {
					base := b.f.Snapshot().GetRevision()
					_, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: base, Revision: base + 1, Ports: []*dataplanev1.Port{pod(10 + w*rounds + r)}}))
					switch status.Code(err) {
					case codes.OK:
						won.Add(1)
					case codes.Aborted:
					default:
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		got := b.f.Snapshot()
		if n := int(won.Load()); uint64(n)+1 != got.Revision || n+3 != len(got.Ports) {
			t.Errorf("%d changes, revision %d, %d ports", n, got.Revision, len(got.Ports))
		}
		b.inForce(got)
	})
	t.Run("a large snapshot", func(t *testing.T) {
		b := newBed(t, t.TempDir())
		s := twoPods(1)
		set := &dataplanev1.AddressSet{Name: "large"}
		for i := range 300_000 {
			set.Prefixes = append(set.Prefixes, fmt.Sprintf("172.%d.%d.%d/32", 16+i>>16, i>>8&255, i&255))
		}
		s.AddressSets = append(s.AddressSets, set)
		if n := proto.Size(s); n < 4<<20 {
			t.Fatalf("%d bytes are not more than gRPC takes unasked", n)
		}
		b.apply(s)
		saved, err := config.Load(b.file())
		if err != nil || !proto.Equal(saved, s) {
			t.Errorf("saved is another one; error %v", err)
		}
	})
	t.Run("a client that goes away", func(t *testing.T) {
		b := newBed(t, t.TempDir())
		b.apply(twoPods(1))
		ctx, cancel := context.WithCancel(b.ctx())
		b.dev.FailPorts(func(op, name string) error {
			cancel() // in the middle of the change
			return nil
		})
		three := twoPods(2)
		three.Ports = append(three.Ports, pod(3))
		_, err := b.config.Apply(ctx, snapshotRequest(three))
		if status.Code(err) != codes.Canceled {
			t.Errorf("error %v, want CANCELED", err)
		}
		eventually(t, "the change", func() bool {
			saved, err := config.Load(b.file())
			return err == nil && saved.Revision == 2
		})
		b.inForce(three)
	})
}

func TestApplyRefuses(t *testing.T) {
	b := newBed(t, t.TempDir())
	b.apply(twoPods(1))
	delta := func(change func(*dataplanev1.Delta)) *dataplanev1.ApplyRequest {
		d := &dataplanev1.Delta{BaseRevision: 1, Revision: 2}
		change(d)
		return deltaRequest(d)
	}
	changed := func(n int, change func(*dataplanev1.Port)) *dataplanev1.ApplyRequest {
		p := pod(n)
		change(p)
		return delta(func(d *dataplanev1.Delta) { d.Ports = append(d.Ports, p) })
	}
	for name, c := range map[string]struct {
		req    *dataplanev1.ApplyRequest
		fields []string
	}{
		"nothing": {&dataplanev1.ApplyRequest{}, []string{"change"}},
		"several things": {delta(func(d *dataplanev1.Delta) {
			d.Ports = []*dataplanev1.Port{{Name: "x", Kind: dataplanev1.Port_POD, Ifname: "a name that is too long", Netns: "/run/netns/x", Addresses: []string{"10.0.0.300"}}}
			d.Routes = []*dataplanev1.Route{{Prefix: "10.1.0.0/16", Port: "nobody"}}
		}), []string{"ports[3].ifname", "ports[3].addresses[0]", "routes[2].port"}},
		"another interface name": {changed(1, func(p *dataplanev1.Port) { p.Ifname = "eth1" }), []string{"ports[0].ifname"}},
		"another namespace":      {changed(2, func(p *dataplanev1.Port) { p.Netns = "/run/netns/other" }), []string{"ports[1].netns"}},
		"another MTU":            {changed(2, func(p *dataplanev1.Port) { p.Mtu = 9000 }), []string{"ports[1].mtu"}},
		"all of them":            {changed(1, func(p *dataplanev1.Port) { p.Ifname, p.Netns, p.Mtu = "eth1", "", 1400 }), []string{"ports[0].ifname", "ports[0].netns", "ports[0].mtu"}},
		"in a snapshot": {snapshotRequest(&dataplanev1.Snapshot{Revision: 2, Ports: []*dataplanev1.Port{{Name: "host", Kind: dataplanev1.Port_HOST, Ifname: "other"}}}),
			[]string{"ports[0].ifname"}},
	} {
		t.Run(name, func(t *testing.T) {
			b.T = t
			b.refused(c.req, c.fields...)
		})
	}
	b.T = t
	b.inForce(twoPods(1))
	// An empty oneof member cannot be told from an empty message on the wire; a
	// caller in the same process can send one.
	for field, req := range map[string]*dataplanev1.ApplyRequest{
		"snapshot": {Change: &dataplanev1.ApplyRequest_Snapshot{}}, "delta": {Change: &dataplanev1.ApplyRequest_Delta{}}, "change": nil,
	} {
		if _, err := b.s.Apply(b.ctx(), req); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), field) {
			t.Errorf("error %v, want INVALID_ARGUMENT about %s", err, field)
		}
	}
	t.Run("what may change of a port does", func(t *testing.T) {
		b.T = t
		p := pod(1)
		p.Mtu = 1500 // what it has already
		p.Addresses = []string{"10.0.0.9"}
		p.NbufQuota = 200
		p.Tags = map[string]string{"pod": "web"}
		if _, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: 1, Revision: 2, Ports: []*dataplanev1.Port{p}})); err != nil {
			t.Fatal(err)
		}
		b.forwarded("pod1", "10.0.0.9", "10.0.0.2", "pod2")
		if u := b.dev.PortUpdates(); len(u) != 1 || u[0].Quota == nil || *u[0].Quota != 200 {
			t.Errorf("updates %v", u)
		}
	})
}

func TestPortsThatCannotBeMade(t *testing.T) {
	b := newBed(t, t.TempDir())
	b.apply(twoPods(1))
	b.dev.FailPorts(func(op, name string) error {
		if op == "add" && name == "pod4" {
			return fmt.Errorf("network namespace: %w", os.ErrNotExist)
		}
		return nil
	})
	t.Run("in a delta: nothing changes", func(t *testing.T) {
		b.T = t
		_, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{
			BaseRevision: 1, Revision: 2, Ports: []*dataplanev1.Port{pod(3), pod(4), pod(5)}, DeletePorts: []string{"pod1"},
		}))
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "pod4") || !strings.Contains(err.Error(), "network namespace") {
			t.Errorf("error %v, want FAILED_PRECONDITION with the port and the cause", err)
		}
		b.inForce(twoPods(1))
		b.forwarded("pod1", "10.0.0.1", "10.0.0.2", "pod2")
	})
	four := twoPods(2)
	four.Ports = append(four.Ports, pod(3), pod(4))
	t.Run("in a snapshot: the others are there, and it is said", func(t *testing.T) {
		b.T = t
		res := b.apply(four)
		if len(res.Ports) != 5 || res.Ports[4].Name != "pod4" || !strings.Contains(res.Ports[4].Error, "network namespace") || res.Ports[4].Id != 0 {
			t.Errorf("ports %v", res.Ports)
		}
		if res.Ports[3].Error != "" || res.Ports[3].Id == 0 {
			t.Errorf("ports %v", res.Ports)
		}
		b.forwarded("pod3", "10.0.0.3", "10.0.0.1", "pod1")
	})
	t.Run("the next change tries again, whatever it is about", func(t *testing.T) {
		b.T = t
		b.dev.FailPorts(nil)
		if _, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: 2, Revision: 3, Settings: four.Settings})); err != nil {
			t.Fatal(err)
		}
		four.Revision = 3
		b.inForce(four)
		b.forwarded("pod4", "10.0.0.4", "10.0.0.1", "pod1")
	})
}

func TestRestore(t *testing.T) {
	t.Run("by the next server", func(t *testing.T) {
		dir := t.TempDir()
		b := newBed(t, dir)
		b.apply(twoPods(7))
		b.stop()
		b = newBed(t, dir)
		b.inForce(twoPods(7))
		b.forwarded("pod2", "fd00::2", "fd00::1", "pod1")
		// It is the base of the next delta.
		if _, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: 7, Revision: 8, DeletePorts: []string{"pod1"}})); err != nil {
			t.Error(err)
		}
	})
	t.Run("ports that cannot be made any more", func(t *testing.T) {
		dir := t.TempDir()
		if err := config.Save(filepath.Join(dir, "forwarder.snapshot"), twoPods(7)); err != nil {
			t.Fatal(err)
		}
		dev := memdev.New(t, memdev.Config{})
		dev.FailPorts(func(op, name string) error {
			if name == "pod1" {
				return os.ErrNotExist
			}
			return nil
		})
		b := newBedOn(t, dir, dev)
		b.forwarded("pod2", "10.0.0.2", "198.51.100.1", "host")
		res, err := b.watch.ListPorts(b.ctx(), &dataplanev1.ListPortsRequest{})
		if err != nil || len(res.Ports) != 3 || res.Ports[0].Id != 0 || res.Ports[1].Id == 0 {
			t.Errorf("ports %v, error %v", res, err)
		}
		dev.FailPorts(nil)
		b.apply(twoPods(8))
		b.inForce(twoPods(8))
	})
	for name, write := range map[string]func(path string) error{
		"garbage":       func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
		"an empty file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a file cut short": func(path string) error {
			if err := config.Save(path, twoPods(7)); err != nil {
				return err
			}
			return os.Truncate(path, 100)
		},
		"a flipped bit": func(path string) error {
			if err := config.Save(path, twoPods(7)); err != nil {
				return err
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			raw[len(raw)/2] ^= 4
			return os.WriteFile(path, raw, 0o600)
		},
		"a configuration that is not valid any more": func(path string) error {
			s := twoPods(7)
			s.Routes[0].Port = "nobody"
			return config.Save(path, s)
		},
		"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "forwarder.snapshot")
			if err := write(path); err != nil {
				t.Fatal(err)
			}
			b := newBed(t, dir)
			if r := b.f.Snapshot().GetRevision(); r != 0 {
				t.Errorf("revision %d is in force", r)
			}
			if _, err := os.Lstat(path + ".damaged"); err != nil {
				t.Errorf("what was there is lost: %v", err)
			}
			b.apply(twoPods(8))
			b.inForce(twoPods(8))
		})
	}
	t.Run("nothing is kept without a path", func(t *testing.T) {
		b := newBed(t, t.TempDir())
		b.s.SnapshotPath = ""
		b.apply(twoPods(1))
		if err := b.s.Restore(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(b.file()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file was written; error %v", err)
		}
	})
}

// TestSaveFails: what is in force but would be lost is said.
func TestSaveFails(t *testing.T) {
	b := newBed(t, t.TempDir())
	b.apply(twoPods(1))
	b.s.SnapshotPath = filepath.Join(b.dir, "missing", "file")
	_, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: 1, Revision: 2, DeletePorts: []string{"pod1"}}))
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "could not be saved") {
		t.Errorf("error %v, want INTERNAL", err)
	}
	got, err := b.config.Get(b.ctx(), &dataplanev1.GetRequest{})
	if err != nil || got.Revision != 2 || len(got.Ports) != 2 {
		t.Errorf("in force is %v, error %v", got, err)
	}
}

// TestUplinks: a NIC is a port of a device that can have one, and stays what it is.
func TestUplinks(t *testing.T) {
	b := newBed(t, t.TempDir())
	next := twoPods(1)
	next.Ports = append(next.Ports, &dataplanev1.Port{Name: "wire", Kind: dataplanev1.Port_UPLINK, Ifname: "eth0", Steer: []string{"10.0.0.0/24"}})
	b.s.Device = struct{ device.Device }{b.dev} // as the soft device is
	_, err := b.config.Apply(b.ctx(), snapshotRequest(next))
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "uplink wire: only the kernel device") {
		t.Errorf("on a device without NICs: %v", err)
	}
	b.s.Device = b.dev
	b.apply(next)
	b.inForce(next)
	delta := func(p *dataplanev1.Port) *dataplanev1.ApplyRequest {
		return deltaRequest(&dataplanev1.Delta{BaseRevision: 1, Revision: 2, Ports: []*dataplanev1.Port{p}})
	}
	b.refused(delta(&dataplanev1.Port{Name: "wire", Kind: dataplanev1.Port_HOST, Ifname: "eth0"}), "ports[3].kind")
	b.refused(delta(&dataplanev1.Port{Name: "wire", Kind: dataplanev1.Port_UPLINK, Ifname: "eth1"}), "ports[3].ifname")
	p := &dataplanev1.Port{Name: "wire", Kind: dataplanev1.Port_UPLINK, Ifname: "eth0", Steer: []string{"fd00::/64"}}
	if _, err := b.config.Apply(b.ctx(), delta(p)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(b.dev.Steered("wire")); got != "[fd00::/64]" {
		t.Errorf("%s is steered", got)
	}
	if _, err := b.config.Apply(b.ctx(), deltaRequest(&dataplanev1.Delta{BaseRevision: 2, Revision: 3, DeletePorts: []string{"wire"}})); err != nil {
		t.Fatal(err)
	}
	b.inForce(&dataplanev1.Snapshot{Revision: 3, Settings: next.Settings, Ports: next.Ports[:3], Routes: next.Routes})
}
