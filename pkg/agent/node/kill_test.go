// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/netnstest"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/standalone"
	"netio.dev/netio/pkg/cni/pending"
	"netio.dev/netio/pkg/ipam"
)

// beAgent makes the test's binary an agent, so that it can be killed.
const beAgent = "NETIO_TEST_AGENT"

func TestMain(m *testing.M) {
	if text := os.Getenv(beAgent); text != "" {
		o := node.Options{Source: &standalone.Source{}}
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
		if err := node.Run(context.Background(), o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if !testing.Verbose() {
		slog.SetDefault(slog.New(slog.DiscardHandler))
	}
	os.Exit(m.Run())
}

// spawn starts the agent as a process.
func (b *bed) spawn() *exec.Cmd {
	b.Helper()
	text, err := json.Marshal(b.Options)
	if err != nil {
		b.Fatal(err)
	}
	log, err := os.OpenFile(b.path("agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), beAgent+"="+string(text))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// runtime is a container runtime with the CNI plugin: it adds and deletes
// pods, and goes on when the agent is away.
type runtime struct {
	*bed
	random *rand.Rand
}

func (r *runtime) call(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+r.random.IntN(2000))*time.Millisecond)
	defer cancel()
	return f(ctx)
}

// cycle is one pod's life.
func (r *runtime) cycle(name string) error {
	path := r.path(name)
	if err := netnstest.Make(path); err != nil {
		return err
	}
	_ = r.call(func(ctx context.Context) error { // whatever becomes of it, a DEL follows
		_, err := r.cni().Add(ctx, &agentv1.AddRequest{Id: id(name), Netns: path})
		return err
	})
	if r.random.IntN(4) == 0 { // the namespace goes first
		netnstest.Remove(path)
	}
	err := r.call(func(ctx context.Context) error {
		_, err := r.cni().Del(ctx, &agentv1.DelRequest{Id: id(name), Netns: path})
		return err
	})
	if err != nil {
		err = pending.Write(pending.Dir(r.path("state")), pending.Record{Network: "netio", ContainerID: name, IfName: "eth0", NetNS: path, Since: time.Now()})
	}
	netnstest.Remove(path)
	return err
}

// However often the agent is killed, and whatever it was doing: nothing
// leaks, and a pod that stays does not notice.
func TestKilled(t *testing.T) {
	b := newBed(t)
	agent := b.spawn()
	defer func() { kill(agent) }()
	b.until("in force", func() bool { return b.status() == "" })
	stays, staysNS := b.add("stays", nil)
	sent := len(b.fake.Requests())

	var workers sync.WaitGroup
	done := make(chan struct{})
	for w := range 6 {
		workers.Go(func() {
			r := &runtime{b, rand.New(rand.NewPCG(uint64(w), 1))}
			for i := range 12 {
				if err := r.cycle(fmt.Sprintf("w%d-%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { workers.Wait(); close(done) }()
	random := rand.New(rand.NewPCG(99, 1))
	kills := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(time.Duration(50+random.IntN(700)) * time.Millisecond):
			kill(agent)
			kills++
			agent = b.spawn()
		}
	}
	t.Logf("%d kills", kills)

	b.until("in force", func() bool { return b.status() == "" })
	b.until("clear", func() bool { return b.info().Endpoints == 1 })
	if _, err := b.cni().Check(context.Background(), &agentv1.CheckRequest{Id: id("stays"), Netns: staysNS, Addresses: stays.Addresses}); err != nil {
		t.Errorf("the pod that stays: %v", err)
	}
	for _, r := range b.fake.Requests()[sent:] {
		if slices.Contains(r.GetDelta().GetDeletePorts(), "stays/eth0") || slices.Contains(r.GetDelta().GetDeletePorts(), "host") {
			t.Error("the network blinked: a port that stays was deleted")
		}
	}
	kill(agent)
	b.countLeaks("stays")
}

// countLeaks counts all that the agent makes, against the pods that are there.
func (b *bed) countLeaks(pods ...string) {
	b.Helper()
	var ports, records, leased []string
	for _, p := range b.fake.Snapshot().GetPorts() {
		if name, ok := strings.CutSuffix(p.Name, "/eth0"); ok {
			ports = append(ports, name)
		}
	}
	store, err := attachment.Open(b.path("state/attachments"))
	if err != nil {
		b.Fatal(err)
	}
	all, _, err := store.Load()
	if err != nil {
		b.Error(err)
	}
	for _, a := range all {
		records = append(records, a.ContainerID)
	}
	leases, err := ipam.Open(b.path("state/leases.db"), ipam.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer leases.Close()
	list, err := leases.Leases()
	if err != nil {
		b.Error(err)
	}
	for _, l := range list {
		_, container, _, _ := ipam.ParseOwner(l.Owner)
		leased = append(leased, container)
	}
	promised, err := pending.List(pending.Dir(b.path("state")))
	if err != nil || len(promised) != 0 {
		b.Errorf("pending deletions %v, %v", promised, err)
	}
	for what, got := range map[string][]string{"ports": ports, "records": records, "leases": leased} {
		if !slices.Equal(got, pods) {
			b.Errorf("%s of %v, expected of %v", what, got, pods)
		}
	}
	if n := strings.Count(b.run(b.HostNetNS, "nft", "list", "tables"), "table"); n != 1 {
		b.Errorf("%d nftables tables, expected one", n)
	}
	if n := strings.Count(b.run(b.HostNetNS, "ip", "-o", "link"), "\n"); n != 2 {
		b.Errorf("%d interfaces on the host, expected lo and netio0", n)
	}
	strays, err := filepath.Glob(b.path("state/attachments/.*"))
	if err != nil || len(strays) != 0 {
		b.Errorf("strays %v, %v", strays, err)
	}
}
