// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/forwardertest"
	"netio.dev/netio/pkg/agent/netnstest"
	"netio.dev/netio/pkg/agent/podnet"
	"netio.dev/netio/pkg/cni/pending"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/ipam"
)

var (
	gateways = []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:10:244::1")}
	pools    = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")}
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !testing.Verbose() {
		slog.SetDefault(slog.New(slog.DiscardHandler))
	}
	os.Exit(m.Run())
}

// bed is a machine: forwarder, folders, and an agent that can be killed and
// started again.
type bed struct {
	testing.TB
	dir    string
	host   string
	fake   *forwardertest.Fake
	pools  []netip.Prefix
	agent  *agent
	joined chan struct{}
	status chan forwarder.Status
	left   atomic.Int64 // attachments, when told that one is no more
}

// agent is the part of the agent that is tested here.
type agent struct {
	*Manager
	leases *ipam.Allocator
	keeper *forwarder.Keeper
	kill   func()
}

func start(t testing.TB) *bed {
	b := &bed{TB: t, dir: t.TempDir(), host: netnstest.New(t), pools: pools}
	b.fake = forwardertest.Start(t, filepath.Join(b.dir, "f.sock"), b.host, true)
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	return b
}

// run starts the agent, and returns what its recovery complains of.
func (b *bed) run() error {
	b.Helper()
	leases, err := ipam.Open(filepath.Join(b.dir, "leases.db"), ipam.Options{Pools: b.pools, Reserved: []netip.Prefix{
		netip.PrefixFrom(gateways[0], 32), netip.PrefixFrom(gateways[1], 128)}, CoolDown: -1})
	if err != nil {
		b.Fatal(err)
	}
	store, err := attachment.Open(filepath.Join(b.dir, "attachments"))
	if err != nil {
		b.Fatal(err)
	}
	m := NewManager(leases, store, pending.Dir(b.dir), Settings{MTU: 1400, Gateways: gateways})
	recovered := m.Recover(context.Background())
	joined, status := make(chan struct{}, 100), make(chan forwarder.Status, 1000)
	keeper, err := forwarder.Dial(filepath.Join(b.dir, "f.sock"), forwarder.Events{
		Joined: func() { joined <- struct{}{} },
		Status: func(s forwarder.Status) { status <- s },
	})
	if err != nil {
		b.Fatal(err)
	}
	m.Use(keeper, nil, func() { b.left.Store(int64(len(m.List()))) })
	initial := desired.State{Node: desired.Node{HostInterface: "netio0", HostMTU: 1400, Routers: gateways, PodCIDRs: b.pools}}
	for _, a := range m.List() {
		initial = initial.With(a)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { keeper.Run(ctx, initial); close(stopped) }()
	var once sync.Once
	b.agent = &agent{m, leases, keeper, func() { once.Do(func() { cancel(); <-stopped; leases.Close() }) }}
	b.Cleanup(b.agent.kill)
	<-joined
	b.joined, b.status = joined, status
	return recovered
}

// pod makes a pod's namespace and the request for it.
func (b *bed) pod(name string) Request {
	b.Helper()
	return Request{ID: attachment.ID{Network: "netio", ContainerID: name, IfName: "eth0"}, NetNS: netnstest.New(b.TB),
		Namespace: "shop", Name: name, Labels: map[string]string{"app": name}}
}

func (b *bed) add(r Request) *attachment.Attachment {
	b.Helper()
	a, err := b.agent.Add(context.Background(), r)
	if err != nil {
		b.Fatal(err)
	}
	return a
}

// expect compares all that there is, records, ports and leases, with the
// attachments that there should be.
func (b *bed) expect(ids ...string) {
	b.Helper()
	slices.Sort(ids)
	same := func(what string, got []string) {
		b.Helper()
		slices.Sort(got)
		if !slices.Equal(got, ids) {
			b.Errorf("%s of %v, expected of %v", what, got, ids)
		}
	}
	var listed, recorded, ports, leased []string
	for _, a := range b.agent.List() {
		listed = append(listed, a.ContainerID)
	}
	all, _, err := b.agent.store.Load()
	if err != nil {
		b.Error(err)
	}
	for _, a := range all {
		recorded = append(recorded, a.ContainerID)
	}
	for _, p := range b.fake.Snapshot().GetPorts() {
		if p.Name != desired.HostPort {
			ports = append(ports, p.Tags[desired.TagContainer])
		}
	}
	leases, err := b.agent.leases.Leases()
	if err != nil {
		b.Error(err)
	}
	for _, l := range leases {
		_, container, _, _ := ipam.ParseOwner(l.Owner)
		leased = append(leased, container)
	}
	same("attachments", listed)
	same("records", recorded)
	same("ports", ports)
	same("leases", leased)
	if n := len(b.agent.ports); n != len(ids) {
		b.Errorf("%d names of ports, expected %d", n, len(ids))
	}
}

func TestAddCheckDel(t *testing.T) {
	b := start(t)
	r := b.pod("web")
	a := b.add(r)
	if a.Port != "web/eth0" || a.MTU != 1400 || a.Namespace != "shop" || len(a.Addresses) != 2 || len(a.Routes) != 4 || a.IfIndex == 0 {
		t.Errorf("got %+v", a)
	}
	b.expect("web")
	if again := b.add(r); again != a {
		t.Errorf("a second time %+v", again)
	}
	ctx := context.Background()
	if err := b.agent.Check(ctx, a.ID, r.NetNS, a.Addresses); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := b.agent.Del(ctx, a.ID); err != nil {
			t.Fatal(err)
		}
	}
	b.expect()
	if is, err := podnet.Look(a); is.Index != 0 || err != nil {
		t.Errorf("the interface is still there: %+v, %v", is, err)
	}
	if err := b.agent.Check(ctx, a.ID, r.NetNS, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("check of what is gone: %v", err)
	}
}

func TestAddDefaultsAndRequests(t *testing.T) {
	b := start(t)
	r := b.pod("0123456789abcdef")
	r.Namespace, r.Name, r.MTU = "", "", 1300
	r.Addresses = []netip.Addr{netip.MustParseAddr("10.244.0.77")}
	a := b.add(r)
	if a.Namespace != "default" || a.Name != r.ContainerID || a.MTU != 1300 || a.Port != "0123456789ab/eth0" || a.Addresses[0] != r.Addresses[0] || len(a.Addresses) != 2 {
		t.Errorf("got %+v", a)
	}
	twin := b.pod("0123456789abxxxx") // the same twelve characters
	if a := b.add(twin); a.Port != "netio/0123456789abxxxx/eth0" {
		t.Errorf("port %s", a.Port)
	}
}

// After an error nothing is left.
func TestAddFails(t *testing.T) {
	tests := []struct {
		name   string
		before func(*bed, *Request)
		want   error
		text   string
	}{
		{"bad ID", func(_ *bed, r *Request) { r.ContainerID = "../x" }, attachment.ErrInvalid, "container ID"},
		{"no namespace", func(_ *bed, r *Request) { r.NetNS += "-none" }, podnet.ErrNoNetNS, "-none"},
		{"MTU too small", func(_ *bed, r *Request) { r.MTU = 68 }, ErrRequest, "1280"},
		{"address not in a pool", func(_ *bed, r *Request) { r.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1")} }, ipam.ErrNotInPool, "10.244.0.0/24"},
		{"the router's address", func(_ *bed, r *Request) { r.Addresses = gateways }, ipam.ErrReserved, "10.244.0.1"},
		{"interface is there already", func(b *bed, r *Request) {
			tun, err := netnstest.TUN(r.NetNS, "eth0")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { tun.Close() })
		}, ErrNoPort, "eth0"},
		{"forwarder refuses", func(b *bed, r *Request) {
			b.fake.Before(func(req *dataplanev1.ApplyRequest) error {
				if len(req.GetDelta().GetPorts()) > 0 {
					return status.Error(codes.InvalidArgument, "not this one")
				}
				return nil
			})
		}, forwarder.ErrRefused, "not this one"},
		{"forwarder is away", func(b *bed, r *Request) { b.fake.Stop() }, forwarder.ErrDown, ""},
		{"cannot be recorded", func(b *bed, r *Request) {
			folder, away := filepath.Join(b.dir, "attachments"), filepath.Join(b.dir, "away")
			if err := os.Rename(folder, away); err != nil {
				b.Fatal(err)
			}
			b.fake.Before(func(req *dataplanev1.ApplyRequest) error {
				if len(req.GetDelta().GetDeletePorts()) > 0 { // the unwinding
					return os.Rename(away, folder)
				}
				return nil
			})
		}, os.ErrNotExist, "record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t)
			b.add(b.pod("other"))
			r := b.pod("web")
			tt.before(b, &r)
			_, err := b.agent.Add(context.Background(), r)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, expected %v with %q", err, tt.want, tt.text)
			}
			b.expect("other")
		})
	}
}

// The runtime gives up in the middle: nothing is left.
func TestAddCancelled(t *testing.T) {
	b := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	b.fake.Before(func(req *dataplanev1.ApplyRequest) error {
		cancel()
		return nil
	})
	if _, err := b.agent.Add(ctx, b.pod("web")); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	b.expect()
}

func TestExhausted(t *testing.T) {
	b := start(t)
	b.agent.kill()
	b.pools = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/30"), pools[1]} // one address, beside the router's
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	b.add(b.pod("first"))
	second := b.pod("second")
	if _, err := b.agent.Add(context.Background(), second); !errors.Is(err, ipam.ErrExhausted) {
		t.Fatalf("got %v", err)
	}
	b.expect("first")
	if err := b.agent.Del(context.Background(), attachment.ID{Network: "netio", ContainerID: "first", IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	b.add(second)
	b.expect("second")
}

func TestAnotherNamespace(t *testing.T) {
	b := start(t)
	r := b.pod("web")
	b.add(r)
	moved := r
	moved.NetNS = netnstest.New(t)
	if _, err := b.agent.Add(context.Background(), moved); !errors.Is(err, ErrElsewhere) {
		t.Fatalf("with the old one alive: %v", err)
	}
	if err := b.agent.Check(context.Background(), r.ID, moved.NetNS, nil); !errors.Is(err, ErrElsewhere) {
		t.Errorf("check: %v", err)
	}
	netnstest.Remove(r.NetNS)
	a := b.add(moved)
	if a.NetNS != moved.NetNS {
		t.Errorf("got %+v", a)
	}
	b.expect("web")
	if err := b.agent.Check(context.Background(), r.ID, moved.NetNS, nil); err != nil {
		t.Errorf("check: %v", err)
	}
}

func TestCheckDifferences(t *testing.T) {
	b := start(t)
	r := b.pod("web")
	a := b.add(r)
	ctx := context.Background()
	wrong := []netip.Addr{netip.MustParseAddr("10.244.0.99")}
	if err := b.agent.Check(ctx, a.ID, r.NetNS, wrong); !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "10.244.0.99") {
		t.Errorf("address: %v", err)
	}
	if _, err := b.agent.leases.Release(owner(a.ID)); err != nil {
		t.Fatal(err)
	}
	if err := b.agent.Check(ctx, a.ID, r.NetNS, nil); !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "leases") {
		t.Errorf("lease: %v", err)
	}
	if err := b.agent.keeper.Remove(func(s desired.State) desired.State { return s.Without(a.Port) }); err != nil {
		t.Fatal(err)
	}
	err := b.agent.Check(ctx, a.ID, r.NetNS, nil)
	if !errors.Is(err, ErrDiffers) || !errors.Is(err, podnet.ErrDiffers) || !strings.Contains(err.Error(), "no port web/eth0") {
		t.Errorf("port and interface: %v", err)
	}
}

func TestGC(t *testing.T) {
	b := start(t)
	for _, name := range []string{"a", "b", "c"} {
		b.add(b.pod(name))
	}
	other := b.pod("d")
	other.Network = "another"
	b.add(other)
	// A lease that nobody has.
	if _, err := b.agent.leases.Lease(context.Background(), ipam.Owner("netio", "leaked", "eth0"), ipam.Request{}); err != nil {
		t.Fatal(err)
	}
	removed, err := b.agent.GC(context.Background(), "netio", []attachment.ID{{ContainerID: "b", IfName: "eth0"}})
	if err != nil || len(removed) != 2 || removed[0].ContainerID == "b" {
		t.Errorf("removed %v, %v", removed, err)
	}
	b.expect("b", "d")
}

// Many at a time, some of them the same one, some with GC between.
func TestConcurrent(t *testing.T) {
	b := start(t)
	ctx := context.Background()
	requests := map[string]Request{}
	for i := range 12 {
		name := fmt.Sprint("p", i)
		requests[name] = b.pod(name)
	}
	var wg sync.WaitGroup
	var failed atomic.Int32
	try := func(err error) {
		if err != nil {
			failed.Add(1)
			t.Error(err)
		}
	}
	for _, r := range requests {
		for range 2 {
			wg.Go(func() {
				_, err := b.agent.Add(ctx, r)
				try(err)
			})
		}
	}
	wg.Go(func() {
		_, err := b.agent.GC(ctx, "another", nil)
		try(err)
	})
	wg.Wait()
	b.expect(slices.Collect(maps.Keys(requests))...)

	seen := map[netip.Addr]string{}
	for _, a := range b.agent.List() {
		for _, ip := range a.Addresses {
			if seen[ip] != "" {
				t.Errorf("%s and %s both have %s", seen[ip], a.ContainerID, ip)
			}
			seen[ip] = a.ContainerID
		}
	}
	for _, r := range requests {
		wg.Go(func() { try(b.agent.Del(ctx, r.ID)) })
		wg.Go(func() { try(b.agent.Del(ctx, r.ID)) })
	}
	wg.Wait()
	b.expect()
}

// Threads stay where they belong: nothing here moves the process into a pod.
func TestThreadsStay(t *testing.T) {
	b := start(t)
	b.add(b.pod("a"))
	want, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if got, err := os.Readlink(task); err == nil && got != want {
			t.Errorf("thread %s is in %s, expected %s", task, got, want)
		}
	}
}
