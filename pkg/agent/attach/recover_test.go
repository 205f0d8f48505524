// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/netnstest"
	"netio.dev/netio/pkg/agent/podnet"
	"netio.dev/netio/pkg/cni/pending"
	"netio.dev/netio/pkg/ipam"
)

// Kills at every point, by what they leave behind.
func TestRecover(t *testing.T) {
	b := start(t)
	live, gone, deleted, killed := b.pod("live"), b.pod("gone"), b.pod("deleted"), b.pod("killed")
	for _, r := range []Request{live, gone, deleted} {
		b.add(r)
	}
	was := b.agent.get(live.ID)
	// Killed after the port was in force and before the record.
	if _, err := b.agent.leases.Lease(context.Background(), owner(killed.ID), ipam.Request{}); err != nil {
		t.Fatal(err)
	}
	half := &attachment.Attachment{ID: killed.ID, Port: "killed/eth0", NetNS: killed.NetNS, Namespace: "shop", Name: "killed", MTU: 1400,
		Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.200")}}
	if _, err := b.agent.keeper.Add(context.Background(), half.Port, func(s desired.State) desired.State { return s.With(half) }); err != nil {
		t.Fatal(err)
	}
	b.agent.kill()
	netnstest.Remove(gone.NetNS)
	if err := pending.Write(pending.Dir(b.dir), record(deleted.ID)); err != nil {
		t.Fatal(err)
	}
	never := pending.Record{Network: "netio", ContainerID: "never", IfName: "eth0"}
	if err := pending.Write(pending.Dir(b.dir), never); err != nil {
		t.Fatal(err)
	}

	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	b.expect("live")
	if left, err := pending.List(pending.Dir(b.dir)); len(left) != 0 || err != nil {
		t.Errorf("pending deletions %v, %v", left, err)
	}
	if err := b.agent.Check(context.Background(), live.ID, live.NetNS, was.Addresses); err != nil {
		t.Error(err)
	}
	// And again: nothing is sent, nothing blinks.
	sent := len(b.fake.Requests())
	b.agent.kill()
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	if now := len(b.fake.Requests()); now != sent {
		t.Errorf("%d requests after a restart for nothing", now-sent)
	}
}

// The databases are damaged: what can be kept is, and people are told.
func TestRecoverDamage(t *testing.T) {
	b := start(t)
	for _, name := range []string{"a", "b"} {
		b.add(b.pod(name))
	}
	addresses := b.agent.get(attachment.ID{Network: "netio", ContainerID: "a", IfName: "eth0"}).Addresses
	b.agent.kill()
	if err := os.WriteFile(filepath.Join(b.dir, "attachments", "netio@a@eth0.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := b.run()
	if err == nil || !strings.Contains(err.Error(), "netio@a@eth0.json") {
		t.Errorf("damaged record: %v", err)
	}
	if l, ok, err := b.agent.leases.Lookup("netio/a/eth0"); !ok || err != nil || !slices.Equal(l.Addresses, addresses) {
		t.Errorf("the lease of the damaged record: %v, %v", l, err)
	}
	if err := b.agent.Del(context.Background(), attachment.ID{Network: "netio", ContainerID: "a", IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	b.expect("b")

	b.agent.kill()
	if err := os.Remove(filepath.Join(b.dir, "leases.db")); err != nil {
		t.Fatal(err)
	}
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	b.expect("b") // leased again
}

// A promise that is made while the agent runs, and one that is overtaken by a
// new ADD.
func TestPending(t *testing.T) {
	b := start(t)
	ctx := context.Background()
	a := b.add(b.pod("a"))
	r := b.pod("b")
	old := b.add(r)
	for _, id := range []attachment.ID{a.ID, old.ID} {
		if err := pending.Write(pending.Dir(b.dir), record(id)); err != nil {
			t.Fatal(err)
		}
	}
	fresh := b.add(r) // settles its record first
	if fresh == old {
		t.Error("got the attachment whose deletion was promised")
	}
	if err := b.agent.SettlePending(ctx); err != nil {
		t.Fatal(err)
	}
	b.expect("b")
	if left, err := pending.List(pending.Dir(b.dir)); len(left) != 0 || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
}

// A promise that cannot be kept at the agent's start is not forgotten: else the
// attachment would be back after the next one.
func TestRecoverKeepsPromise(t *testing.T) {
	b := start(t)
	r := b.pod("web")
	b.add(r)
	b.agent.kill()
	if err := pending.Write(pending.Dir(b.dir), record(r.ID)); err != nil {
		t.Fatal(err)
	}
	// What something is mounted on cannot be removed.
	file := filepath.Join(b.dir, "attachments", "netio@web@eth0.json")
	if err := unix.Mount(file, file, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if err := unix.Unmount(file, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(unmount)
	if err := b.run(); err == nil || !strings.Contains(err.Error(), "netio@web@eth0.json") {
		t.Errorf("recovery: %v", err)
	}
	b.expect("web")
	unmount()
	if err := b.agent.SettlePending(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.expect()
}

// undone is the promise to take back an ADD of a request.
func undone(t *testing.T, r Request) pending.Record {
	t.Helper()
	id, err := podnet.Identify(r.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	p := record(r.ID)
	p.Undo, p.NetNS, p.NetNSID = true, r.NetNS, id
	return p
}

// An ADD that named the ID of an attachment in another network namespace is taken
// back: by a call, by a promise while the agent runs, in the ADD after it, and at
// the agent's start. The attachment stays. That of the ADD's own namespace goes.
func TestUndo(t *testing.T) {
	ctx := context.Background()
	ways := []struct {
		name string
		do   func(*bed, pending.Record) error
	}{
		{"call", func(b *bed, p pending.Record) error {
			return b.agent.Undo(ctx, promisedFor(p), p.NetNS, p.NetNSID)
		}},
		{"promise", func(b *bed, p pending.Record) error {
			return errors.Join(pending.Write(pending.Dir(b.dir), p), b.agent.SettlePending(ctx))
		}},
		{"start", func(b *bed, p pending.Record) error {
			b.agent.kill()
			return errors.Join(pending.Write(pending.Dir(b.dir), p), b.run())
		}},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			b := start(t)
			r := b.pod("web")
			a := b.add(r)
			moved, aged := r, undone(t, r)
			moved.NetNS = netnstest.New(t)
			aged.NetNSID.Boot = "before"
			for _, p := range []pending.Record{undone(t, moved), aged} {
				if err := way.do(b, p); err != nil {
					t.Fatal(err)
				}
				b.expect("web")
				if err := b.agent.Check(ctx, r.ID, r.NetNS, a.Addresses); err != nil {
					t.Error(err)
				}
			}
			if err := way.do(b, undone(t, r)); err != nil {
				t.Fatal(err)
			}
			b.expect()
			if left, err := pending.List(pending.Dir(b.dir)); len(left) != 0 || err != nil {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

// The ADD after a promise settles it: what it is about is made anew, what it
// spares is found.
func TestUndoBeforeAdd(t *testing.T) {
	b := start(t)
	r := b.pod("web")
	first := b.add(r)
	moved := r
	moved.NetNS = netnstest.New(t)
	for _, c := range []struct {
		of   Request
		same bool
	}{{moved, true}, {r, false}} {
		if err := pending.Write(pending.Dir(b.dir), undone(t, c.of)); err != nil {
			t.Fatal(err)
		}
		if a := b.add(r); (a == first) != c.same {
			t.Errorf("undo at %s: the same attachment: %v, expected %v", c.of.NetNS, a == first, c.same)
		}
	}
	b.expect("web")
	if left, err := pending.List(pending.Dir(b.dir)); len(left) != 0 || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
}

// A lease without attachment is what a kill leaves of an ADD; an undo takes it.
// Where a damaged attachment is cannot be told, so an undo leaves it alone.
func TestUndoOfHalf(t *testing.T) {
	b := start(t)
	ctx := context.Background()
	half, whole := b.pod("half"), b.pod("whole")
	if _, err := b.agent.leases.Lease(ctx, owner(half.ID), ipam.Request{}); err != nil {
		t.Fatal(err)
	}
	if err := b.agent.Undo(ctx, half.ID, half.NetNS, undone(t, half).NetNSID); err != nil {
		t.Fatal(err)
	}
	b.expect()

	b.add(whole)
	b.agent.kill()
	if err := os.WriteFile(filepath.Join(b.dir, "attachments", "netio@whole@eth0.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.run(); err == nil {
		t.Error("the damage was not noticed")
	}
	if err := b.agent.Undo(ctx, whole.ID, whole.NetNS, undone(t, whole).NetNSID); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := b.agent.leases.Lookup(owner(whole.ID)); !ok || err != nil {
		t.Errorf("the lease of the damaged record: %v, %v", ok, err)
	}
}

// DEL while the forwarder is away.
func TestDelWithoutForwarder(t *testing.T) {
	b := start(t)
	a := b.add(b.pod("a"))
	b.add(b.pod("kept"))
	b.fake.Stop()
	for s := range b.status {
		if !s.Connected {
			break
		}
	}
	if err := b.agent.Del(context.Background(), a.ID); err != nil {
		t.Fatal(err)
	}
	b.fake.Run()
	<-b.joined
	b.expect("kept")
}

// Who is told of an attachment's end does not find it any more.
func TestDetached(t *testing.T) {
	b := start(t)
	a := b.add(b.pod("a"))
	b.add(b.pod("kept"))
	b.left.Store(-1)
	if err := b.agent.Del(context.Background(), a.ID); err != nil {
		t.Fatal(err)
	}
	if n := b.left.Load(); n != 1 {
		t.Errorf("told of %d attachments that are left, want 1", n)
	}
}

// The forwarder lost its device and made the interfaces anew.
func TestRewire(t *testing.T) {
	b := start(t)
	r := b.pod("a")
	a := b.add(r)
	b.fake.Remake()
	ctx := context.Background()
	if err := b.agent.Check(ctx, a.ID, r.NetNS, nil); !errors.Is(err, podnet.ErrDiffers) {
		t.Fatalf("before: %v", err)
	}
	if err := b.agent.Rewire(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.agent.Check(ctx, a.ID, r.NetNS, a.Addresses); err != nil {
		t.Errorf("after: %v", err)
	}
	b.fake.Forget()
	if err := b.agent.Rewire(ctx); !errors.Is(err, ErrNoPort) {
		t.Errorf("without interface: %v", err)
	}
}
