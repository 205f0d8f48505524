// SPDX-License-Identifier: Apache-2.0

package forwarder

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/forwardertest"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func initial() desired.State {
	return desired.State{Node: desired.Node{
		HostInterface: "netio0", HostMTU: 1500,
		Routers:  []netip.Addr{netip.MustParseAddr("10.244.0.1")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
	}}
}

func pod(i int) *attachment.Attachment {
	id := fmt.Sprintf("c%d", i)
	return &attachment.Attachment{
		ID: attachment.ID{Network: "netio", ContainerID: id, IfName: "eth0"}, Port: id + "/eth0", NetNS: "/run/netns/" + id,
		Namespace: "default", Name: id, MTU: 1500, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i) + 2})},
	}
}

func with(a *attachment.Attachment) Edit {
	return func(s desired.State) desired.State { return s.With(a) }
}

func without(a *attachment.Attachment) Edit {
	return func(s desired.State) desired.State { return s.Without(a.Port) }
}

func add(k *Keeper, a *attachment.Attachment) error {
	_, err := k.Add(context.Background(), a.Port, with(a))
	return err
}

// bed is a keeper and its forwarder.
type bed struct {
	*testing.T
	fake   *forwardertest.Fake
	keeper *Keeper
	joined chan struct{}
	status chan Status
	stop   func()
}

func start(t *testing.T) *bed {
	path := filepath.Join(t.TempDir(), "forwarder.sock")
	b := &bed{T: t, fake: forwardertest.Start(t, path, "", false)}
	b.run(path, initial())
	b.wait(func(s Status) bool { return s.InForce })
	return b
}

func (b *bed) run(path string, s desired.State) {
	b.Helper()
	b.joined, b.status = make(chan struct{}, 1000), make(chan Status, 10000)
	k, err := Dial(path, Events{
		Joined: func() { b.joined <- struct{}{} },
		Status: func(s Status) { b.status <- s },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { k.Run(ctx, s); close(stopped) }()
	b.keeper = k
	b.stop = func() { cancel(); <-stopped }
	b.Cleanup(b.stop)
}

// wait waits for a status.
func (b *bed) wait(ok func(Status) bool) Status {
	b.Helper()
	for s := range b.status {
		if ok(s) {
			return s
		}
	}
	panic("not reached")
}

// expect compares the pods' ports in force.
func (b *bed) expect(names ...string) {
	b.Helper()
	var got []string
	for _, p := range b.fake.Snapshot().GetPorts() {
		if p.Name != desired.HostPort {
			got = append(got, p.Name)
		}
	}
	slices.Sort(got)
	if strings.Join(got, " ") != strings.Join(names, " ") {
		b.Fatalf("ports %v are in force, expected %v", got, names)
	}
}

func TestAddAndRemove(t *testing.T) {
	b := start(t)
	state, err := b.keeper.Add(context.Background(), pod(1).Port, with(pod(1)))
	if err != nil || state.GetName() != "c1/eth0" {
		t.Fatal(state, err)
	}
	b.expect("c1/eth0")
	if err := add(b.keeper, pod(2)); err != nil {
		t.Fatal(err)
	}
	if err := b.keeper.Remove(without(pod(1))); err != nil {
		t.Fatal(err)
	}
	b.expect("c2/eth0")
	for i, r := range b.fake.Requests() {
		if (r.GetSnapshot() != nil) != (i == 0) {
			t.Errorf("request %d is %v, expected one snapshot and then deltas", i, r)
		}
	}
	if s := b.keeper.Status(); !s.InForce || s.Revision != b.fake.Snapshot().Revision {
		t.Errorf("status %+v, revision in force %d", s, b.fake.Snapshot().Revision)
	}
	// What changes nothing is not sent.
	before := len(b.fake.Requests())
	if err := b.keeper.Remove(without(pod(1))); err != nil {
		t.Fatal(err)
	}
	if after := len(b.fake.Requests()); after != before {
		t.Errorf("%d requests for nothing", after-before)
	}
}

// Many at a time become few deltas, each from the revision before.
func TestConcurrent(t *testing.T) {
	b := start(t)
	var wg sync.WaitGroup
	const pods = 200
	for i := range pods {
		wg.Go(func() {
			if err := add(b.keeper, pod(i)); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := b.keeper.Remove(without(pod(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(b.fake.Snapshot().GetPorts()); got != pods/2+1 {
		t.Errorf("%d ports, expected %d", got, pods/2+1)
	}
	t.Logf("%d changes in %d requests", pods*3/2, len(b.fake.Requests()))
}

// One bad change does not fail those that came with it.
func TestRefusedAlone(t *testing.T) {
	b := start(t)
	// Hold the forwarder, so that all of them are one batch.
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.fake.Before(func(*dataplanev1.ApplyRequest) error {
		once.Do(func() {
			close(held)
			<-release
		})
		return nil
	})
	first := make(chan error, 1)
	go func() { first <- add(b.keeper, pod(0)) }()
	<-held
	results := make([]chan error, 5)
	twin := pod(3)
	twin.Addresses = pod(2).Addresses // taken
	for i, a := range []*attachment.Attachment{pod(1), pod(2), twin, pod(4), pod(5)} {
		results[i] = make(chan error, 1)
		go func() { results[i] <- add(b.keeper, a) }()
		waitQueued(b.keeper, i+1)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	for i := range results {
		err := <-results[i]
		if i == 2 {
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "is an address of ports") {
				t.Errorf("the twin: %v", err)
			}
		} else if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	b.expect("c0/eth0", "c1/eth0", "c2/eth0", "c4/eth0", "c5/eth0")
}

// waitQueued returns when n requests wait.
func waitQueued(k *Keeper, n int) {
	for queued := -1; queued != n; runtime.Gosched() {
		k.mu.Lock()
		queued = len(k.queue)
		k.mu.Unlock()
	}
}

// A policy that is refused leaves the last good ones in force.
func TestChangeRefused(t *testing.T) {
	b := start(t)
	at := func(version string) Edit {
		return func(s desired.State) desired.State {
			s.Versions.Policies.Seen = version
			return s
		}
	}
	inForce := func(want string) {
		t.Helper()
		if s, _ := b.keeper.InForce(); s.Versions.Policies.Seen != want {
			t.Errorf("version %q is in force, expected %q", s.Versions.Policies.Seen, want)
		}
	}
	if err := b.keeper.Change(at("1")); err != nil {
		t.Fatal(err)
	}
	inForce("1")
	bad := func(s desired.State) desired.State {
		s.Node.Connections.Max = 1 << 30
		return at("2")(s)
	}
	defer func() {
		inForce("1")
		if err := b.keeper.Change(at("3")); err != nil {
			t.Fatal(err)
		}
		inForce("3")
	}()
	if err := b.keeper.Change(bad); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "settings.max_connections") {
		t.Fatalf("got %v", err)
	}
	if err := add(b.keeper, pod(1)); err != nil {
		t.Fatalf("after a refused change: %v", err)
	}
	if !b.keeper.Status().InForce {
		t.Error("not in force")
	}
}

func TestForwarderAway(t *testing.T) {
	b := start(t)
	if err := errors.Join(add(b.keeper, pod(1)), add(b.keeper, pod(2))); err != nil {
		t.Fatal(err)
	}
	b.fake.Stop()
	b.wait(func(s Status) bool { return !s.Connected })
	if err := b.keeper.Remove(without(pod(1))); !errors.Is(err, ErrDown) {
		t.Errorf("remove: %v", err)
	}
	if err := add(b.keeper, pod(3)); !errors.Is(err, ErrDown) {
		t.Errorf("add: %v", err)
	}
	b.expect("c1/eth0", "c2/eth0")
	<-b.joined
	b.fake.Run()
	b.wait(func(s Status) bool { return s.InForce })
	<-b.joined
	// The removal counts, the addition does not.
	b.expect("c2/eth0")
}

// An Add waits for a forwarder that is only restarted.
func TestAddWaitsForRestart(t *testing.T) {
	b := start(t)
	b.fake.Stop()
	b.wait(func(s Status) bool { return !s.Connected })
	done := make(chan error, 1)
	go func() { done <- add(b.keeper, pod(1)) }()
	b.fake.Run()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.expect("c1/eth0")
}

// Nothing is sent to a forwarder that has what is wanted already, whoever of
// the two was restarted; and what it lost it gets again.
func TestJoin(t *testing.T) {
	b := start(t)
	if err := add(b.keeper, pod(1)); err != nil {
		t.Fatal(err)
	}
	sent := len(b.fake.Requests())
	again := func(what string) {
		t.Helper()
		b.wait(func(s Status) bool { return s.InForce })
		b.expect("c1/eth0")
		if got := len(b.fake.Requests()); got != sent {
			t.Errorf("%s: %d requests more", what, got-sent)
		}
		sent = len(b.fake.Requests())
	}
	restart := func(forget bool) {
		b.fake.Stop()
		b.wait(func(s Status) bool { return !s.Connected })
		if forget {
			b.fake.Forget()
		}
		b.fake.Run()
	}
	restart(false)
	again("forwarder restarted")

	b.stop()
	path := strings.TrimPrefix(b.keeper.conn.Target(), "unix://")
	b.run(path, initial().With(pod(1)))
	again("agent restarted")

	restart(true)
	sent++ // the snapshot
	again("forwarder lost everything")
	last := b.fake.Requests()[sent-1]
	if last.GetSnapshot() == nil {
		t.Errorf("sent %v, expected a snapshot", last)
	}
}

// Someone else has changed the configuration.
func TestAborted(t *testing.T) {
	b := start(t)
	_, err := b.fake.Apply(context.Background(), &dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Delta{Delta: &dataplanev1.Delta{
		BaseRevision: b.fake.Snapshot().Revision, Revision: b.fake.Snapshot().Revision + 5,
		Routes: []*dataplanev1.Route{{Prefix: "192.0.2.0/24"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := add(b.keeper, pod(1)); err != nil {
		t.Fatal(err)
	}
	b.expect("c1/eth0")
	if got := len(b.fake.Snapshot().GetRoutes()); got != 2 {
		t.Errorf("%d routes, expected the foreign one to be gone", got)
	}
}

// A port that has to become another interface is taken away first.
func TestRemade(t *testing.T) {
	b := start(t)
	if err := add(b.keeper, pod(1)); err != nil {
		t.Fatal(err)
	}
	moved := pod(1)
	moved.NetNS = "/run/netns/another"
	if err := add(b.keeper, moved); err != nil {
		t.Fatal(err)
	}
	err := b.keeper.Change(func(s desired.State) desired.State {
		s.Node.HostMTU = 1400
		return s
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range b.fake.Snapshot().GetPorts() {
		if p.Name == desired.HostPort && p.Mtu != 1400 || p.Name == "c1/eth0" && p.Netns != moved.NetNS {
			t.Errorf("in force is %v", p)
		}
	}
	if len(b.fake.Snapshot().GetRoutes()) != 2 {
		t.Errorf("routes %v", b.fake.Snapshot().GetRoutes())
	}
}

// The forwarder breaks down over a change: the caller is told why, and the
// configuration is made good.
func TestForwarderFails(t *testing.T) {
	b := start(t)
	var fail atomic.Bool
	fail.Store(true)
	b.fake.Before(func(*dataplanev1.ApplyRequest) error {
		if fail.Load() {
			return status.Error(codes.Internal, "no space left")
		}
		return nil
	})
	if err := add(b.keeper, pod(1)); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("add: %v", err)
	}
	if err := b.keeper.Remove(without(pod(1))); err != nil {
		t.Errorf("remove of what is not there: %v", err)
	}
	fail.Store(false)
	if err := add(b.keeper, pod(2)); err != nil {
		t.Fatal(err)
	}
	b.expect("c2/eth0")
}

// A call that is cut off may have been carried out or not: either way what
// the caller was told is what is in force in the end.
func TestCutOff(t *testing.T) {
	b := start(t)
	for i := range 20 {
		var once sync.Once
		b.fake.Before(func(*dataplanev1.ApplyRequest) error {
			once.Do(func() { go b.fake.Stop() })
			return nil
		})
		done := make(chan error, 1)
		go func() { done <- add(b.keeper, pod(i)) }()
		b.wait(func(s Status) bool { return !s.Connected })
		b.fake.Run()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		b.wait(func(s Status) bool { return s.InForce })
	}
	if got := len(b.fake.Snapshot().GetPorts()); got != 21 {
		t.Errorf("%d ports", got)
	}
}

// A forwarder that never was there is told of, too.
func TestNobodyThere(t *testing.T) {
	b := &bed{T: t}
	b.run(filepath.Join(t.TempDir(), "nobody.sock"), initial())
	if s := <-b.status; s.Connected || s.InForce || !errors.Is(s.Err, ErrDown) {
		t.Errorf("told %+v", s)
	}
}

func TestStopAnswersAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nobody.sock")
	b := &bed{T: t}
	b.run(path, initial())
	done := make(chan error, 1)
	go func() { done <- add(b.keeper, pod(1)) }()
	waitQueued(b.keeper, 1)
	b.stop()
	if err := <-done; !errors.Is(err, ErrStopped) {
		t.Errorf("got %v", err)
	}
	if err := add(b.keeper, pod(1)); !errors.Is(err, ErrStopped) {
		t.Errorf("after the stop: %v", err)
	}
	if err := b.keeper.Remove(without(pod(1))); !errors.Is(err, ErrStopped) {
		t.Errorf("remove after the stop: %v", err)
	}
}

// A caller that gives up gets its answer; nothing of it is left.
func TestCallerGivesUp(t *testing.T) {
	b := start(t)
	b.fake.Stop()
	b.wait(func(s Status) bool { return !s.Connected })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := b.keeper.Add(ctx, pod(1).Port, with(pod(1)))
		done <- err
	}()
	waitQueued(b.keeper, 1)
	cancel()
	b.fake.Run()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	b.wait(func(s Status) bool { return s.InForce })
	b.expect()
}
