// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/forwardertest"
	"netio.dev/netio/pkg/agent/netnstest"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/agent/socket"
	"netio.dev/netio/pkg/agent/standalone"
	"netio.dev/netio/pkg/cni/pending"
)

// bed is a machine: a host's namespace, a forwarder, folders, and an agent
// that comes and goes.
type bed struct {
	*testing.T
	node.Options
	source *standalone.Source
	dir    string
	fake   *forwardertest.Fake
	conn   *grpc.ClientConn
	stop   func()
}

func newBed(t *testing.T) *bed {
	dir := t.TempDir()
	b := &bed{T: t, dir: dir, source: &standalone.Source{ManifestDir: filepath.Join(dir, "manifests")}, stop: func() {}, Options: node.Options{
		ConfigFile: filepath.Join(dir, "agent.yaml"), Version: "test",
		HostNetNS: netnstest.New(t), Plugin: filepath.Join(dir, "netio-cni"),
	}}
	b.Source = b.source
	b.config("masquerade: true")
	if err := errors.Join(os.Mkdir(b.source.ManifestDir, 0o700), os.WriteFile(b.Plugin, []byte("binary"), 0o755)); err != nil {
		t.Fatal(err)
	}
	b.fake = forwardertest.Start(t, filepath.Join(dir, "f.sock"), b.HostNetNS, true)
	conn, err := grpc.NewClient("unix://"+b.path("a.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	b.conn = conn
	t.Cleanup(func() { conn.Close() })
	return b
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bed) write(path, text string) {
	b.Helper()
	tmp := filepath.Join(b.dir, ".tmp")
	if err := errors.Join(os.WriteFile(tmp, []byte(text), 0o600), os.Rename(tmp, path)); err != nil {
		b.Fatal(err)
	}
}

// config writes the configuration file with more lines.
func (b *bed) config(more string) {
	b.Helper()
	b.write(b.ConfigFile, fmt.Sprintf(`node: n1
podCIDRs: [10.244.0.0/24, fd00:10:244::/64]
runDir: %[1]s/run
stateDir: %[1]s/state
socket: %[1]s/a.sock
forwarderSocket: %[1]s/f.sock
coolDown: 0s
%[2]s
`, b.dir, more))
}

// start runs the agent in this process.
func (b *bed) start() {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx, b.Options) }()
	stopped := false
	b.stop = func() {
		b.Helper()
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.Cleanup(func() { b.stop() })
	b.until("in force", func() bool { return b.status() == "" })
}

func (b *bed) cni() agentv1.CNIClient     { return agentv1.NewCNIClient(b.conn) }
func (b *bed) agent() agentv1.AgentClient { return agentv1.NewAgentClient(b.conn) }

// status is what STATUS says: "" or a CNI code and why.
func (b *bed) status() string {
	_, err := b.cni().Status(context.Background(), &agentv1.StatusRequest{})
	if err == nil {
		return ""
	}
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return i.Metadata["code"] + " " + status.Convert(err).Message()
		}
	}
	return err.Error()
}

// until waits for what the agent does by itself.
func (b *bed) until(what string, ok func() bool) {
	b.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("not %s after a minute; problems: %v", what, b.problems())
		}
	}
}

func (b *bed) info() *agentv1.InfoResponse {
	b.Helper()
	info, err := b.agent().Info(context.Background(), &agentv1.InfoRequest{})
	if err != nil {
		b.Fatal(err)
	}
	return info
}

func (b *bed) problems() (out []string) {
	b.Helper()
	for _, p := range b.info().GetProblems() {
		out = append(out, p.Source+": "+p.Message)
	}
	return out
}

// hasProblem tells whether a problem has all the texts in it.
func (b *bed) hasProblem(texts ...string) bool {
	b.Helper()
	return slices.ContainsFunc(b.problems(), func(p string) bool {
		return !slices.ContainsFunc(texts, func(t string) bool { return !strings.Contains(p, t) })
	})
}

func id(name string) *agentv1.AttachmentID {
	return &agentv1.AttachmentID{Network: "netio", ContainerId: name, Ifname: "eth0"}
}

func (b *bed) add(name string, labels map[string]string) (*agentv1.AddResponse, string) {
	b.Helper()
	ns := netnstest.New(b.T)
	resp, err := b.cni().Add(context.Background(), &agentv1.AddRequest{Id: id(name), Netns: ns, PodNamespace: "default", PodName: name, Labels: labels})
	if err != nil {
		b.Fatal(err)
	}
	return resp, ns
}

func (b *bed) run(netns string, args ...string) string {
	b.Helper()
	var out []byte
	err := netnstest.Do(netns, func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		b.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

func (b *bed) policies(name string) []string {
	b.Helper()
	for _, p := range b.fake.Snapshot().GetPorts() {
		if p.Name == name+"/eth0" {
			return p.Policies
		}
	}
	return nil
}

const webPolicy = `apiVersion: netio.dev/v1alpha1
kind: NetIOPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - action: Allow
    from: [{podSelector: {matchLabels: {app: client}}}]
`

func TestAgent(t *testing.T) {
	b := newBed(t)
	b.write(filepath.Join(b.source.ManifestDir, "web.yaml"), webPolicy)
	b.start()
	ctx := context.Background()
	resp, ns := b.add("web", map[string]string{"app": "web"})
	if resp.Ifname != "eth0" || resp.Netns != ns || len(resp.Addresses) != 2 || resp.Addresses[0].Gateway != "10.244.0.1" ||
		resp.Addresses[0].Address != "10.244.0.2/32" || len(resp.Routes) != 4 || resp.Mtu != 1500 {
		t.Errorf("ADD returned %v", resp)
	}
	if got := b.policies("web"); len(got) != 1 {
		t.Errorf("the port has policies %v", got)
	}
	if _, err := b.cni().Check(ctx, &agentv1.CheckRequest{Id: id("web"), Netns: ns, Addresses: resp.Addresses}); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	// The pod reaches its gateway by what the host's stack knows, and back.
	b.until("routed", func() bool {
		return strings.Contains(b.run(b.HostNetNS, "ip", "route"), "10.244.0.0/24 dev netio0 proto 110 scope link src 10.244.0.1")
	})
	info := b.info()
	if info.Node != "n1" || info.Mode != "standalone" || info.Version != "test" || info.Endpoints != 1 || info.Policies != 1 ||
		info.Revision != b.fake.Snapshot().Revision || len(info.Pools) != 2 || info.Pools[0].Used != 1 || len(info.Problems) != 0 {
		t.Errorf("info %v", info)
	}
	list, err := b.agent().ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
	if err != nil || len(list.Endpoints) != 1 || list.Endpoints[0].Port != "web/eth0" || len(list.Endpoints[0].Policies) != 1 || list.Endpoints[0].Labels["app"] != "web" {
		t.Errorf("endpoints %v, %v", list, err)
	}
	if st, err := os.Stat(b.path("a.sock")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", st, err)
	}

	gc, err := b.cni().GC(ctx, &agentv1.GCRequest{Network: "netio", Valid: []*agentv1.AttachmentID{id("web")}})
	if err != nil || len(gc.Removed) != 0 {
		t.Errorf("GC: %v, %v", gc, err)
	}
	for range 2 {
		if _, err := b.cni().Del(ctx, &agentv1.DelRequest{Id: id("web"), Netns: ns}); err != nil {
			t.Error(err)
		}
	}
	if n := len(b.fake.Snapshot().GetPorts()); n != 1 {
		t.Errorf("%d ports are left, expected the host's", n)
	}

	// Stopping leaves the network, and nothing in the way of the next agent.
	b.stop()
	b.run(b.HostNetNS, "ip", "addr", "show", "netio0")
	if _, err := os.Stat(b.path("a.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestManifestsChange(t *testing.T) {
	b := newBed(t)
	b.start()
	b.add("web", map[string]string{"app": "web"})
	file := filepath.Join(b.source.ManifestDir, "web.yaml")
	if got := b.policies("web"); len(got) != 0 {
		t.Errorf("policies %v without manifests", got)
	}
	b.write(file, webPolicy)
	b.until("closed", func() bool { return len(b.policies("web")) == 1 })

	b.write(file, strings.Replace(webPolicy, "podSelector:", "podSelectr:", 1))
	b.until("reported", func() bool { return b.hasProblem("web.yaml:5:", "podSelectr", "last good") })
	if got := b.policies("web"); len(got) != 1 {
		t.Errorf("a mistake opened the pod: %v", got)
	}
	// The agent is restarted while the mistake is there: the pod stays closed.
	sent := len(b.fake.Requests())
	b.stop()
	b.start()
	if got := b.policies("web"); len(got) != 1 || len(b.fake.Requests()) != sent {
		t.Errorf("after a restart: policies %v, %d requests", got, len(b.fake.Requests())-sent)
	}
	b.write(file, webPolicy)
	b.until("good again", func() bool { return len(b.problems()) == 0 })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	b.until("open", func() bool { return len(b.policies("web")) == 0 })
}

func TestConfigChange(t *testing.T) {
	b := newBed(t)
	b.start()
	hasNAT := func() bool { return strings.Contains(b.run(b.HostNetNS, "nft", "list", "tables"), "netio") }
	b.until("masqueraded", hasNAT)

	b.config("masquerade: maybe")
	b.until("reported", func() bool { return b.hasProblem("agent.yaml:8: masquerade", "last good") })
	if !hasNAT() {
		t.Error("a mistake turned masquerading off")
	}
	b.config("masquerade: false\nmtu: 1380\nconnections: {max: 5000}\ninstallCNI: {binDir: " + b.path("bin") + ", confDir: " + b.path("net.d") + "}")
	b.until("in force", func() bool { return len(b.problems()) == 0 && !hasNAT() })
	b.until("installed", func() bool {
		_, err := os.Stat(b.path("net.d/10-netio.conflist"))
		return err == nil
	})
	if got := b.fake.Snapshot().GetSettings().GetMaxConnections(); got != 5000 {
		t.Errorf("max connections %d", got)
	}
	if resp, _ := b.add("new", nil); resp.Mtu != 1380 {
		t.Errorf("MTU %d, expected that of the new configuration", resp.Mtu)
	}
	b.config("masquerade: false\nhostInterface: other0")
	b.until("reported", func() bool { return b.hasProblem("hostInterface", "when the agent is restarted") })
	if err := os.Remove(b.ConfigFile); err != nil {
		t.Fatal(err)
	}
	b.until("reported", func() bool { return b.hasProblem("agent.yaml", "no such file", "last good") })
	b.config("masquerade: true")
	b.until("good again", func() bool { return len(b.problems()) == 0 && hasNAT() })
}

func TestForwarderComesAndGoes(t *testing.T) {
	b := newBed(t)
	b.start()
	resp, ns := b.add("web", nil)
	b.fake.Stop()
	b.until("noticed", func() bool { return strings.HasPrefix(b.status(), "51 ") })
	if !b.hasProblem("forwarder", "is netio-agent forward running?") {
		t.Errorf("problems %v", b.problems())
	}
	b.fake.Remake() // as a forwarder does whose device is gone
	b.fake.Run()
	b.until("well again", func() bool { return b.status() == "" && len(b.problems()) == 0 })
	b.until("wired again", func() bool {
		_, err := b.cni().Check(context.Background(), &agentv1.CheckRequest{Id: id("web"), Netns: ns, Addresses: resp.Addresses})
		return err == nil
	})
	b.until("routed again", func() bool { return strings.Contains(b.run(b.HostNetNS, "ip", "route"), "10.244.0.0/24 dev netio0") })
}

// The interface's name is taken by something that is no knet.
func TestHostDegraded(t *testing.T) {
	b := newBed(t)
	b.run(b.HostNetNS, "ip", "link", "add", "netio0", "type", "veth", "peer", "name", "x")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx, b.Options) }()
	b.until("degraded", func() bool { return strings.HasPrefix(b.status(), "51 the host's network") })
	if !b.hasProblem("host network", "netio0", "veth", "hostInterface") {
		t.Errorf("problems %v", b.problems())
	}
	_, err := b.cni().Add(ctx, &agentv1.AddRequest{Id: id("web"), Netns: netnstest.New(t)})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "hostInterface") {
		t.Errorf("ADD: %v", err)
	}
	if used := b.info().Pools[0].Used; used != 0 || len(b.fake.Snapshot().GetPorts()) != 1 {
		t.Errorf("left of it: %d addresses, ports %v", used, b.fake.Snapshot().GetPorts())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A deletion that the plugin promised while the agent runs.
func TestPendingWhileRunning(t *testing.T) {
	b := newBed(t)
	b.start()
	b.add("web", nil)
	r := pending.Record{Network: "netio", ContainerID: "web", IfName: "eth0"}
	if err := pending.Write(pending.Dir(b.path("state")), r); err != nil {
		t.Fatal(err)
	}
	b.until("made good", func() bool { return b.info().Endpoints == 0 })
}

func TestDoesNotStart(t *testing.T) {
	tests := []struct {
		name   string
		before func(*bed)
		want   string
	}{
		{"no config", func(b *bed) { b.ConfigFile += "-none" }, "write one, for example"},
		{"bad config", func(b *bed) { b.config("mtu: big") }, "agent.yaml:8: mtu"},
		{"no manifests", func(b *bed) { b.source.ManifestDir += "-none" }, "make the folder"},
		{"manifests is a file", func(b *bed) { b.source.ManifestDir = b.ConfigFile }, "is not a folder"},
		{"second agent", func(b *bed) {
			lock, err := socket.Acquire(b.path("a.sock"))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { lock.Release() })
		}, "another process serves the socket"},
		{"socket path taken", func(b *bed) { b.write(b.path("a.sock"), "a file") }, "is there and is no socket"},
		{"router has a pod's address", func(b *bed) {
			b.start()
			b.add("web", nil)
			b.stop()
			b.config("routerAddresses: [10.244.0.2, 'fd00:10:244::1']")
		}, "10.244.0.2 is the address of pod default/web"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t)
			tt.before(b)
			err := node.Run(context.Background(), b.Options)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, expected %q", err, tt.want)
			}
		})
	}
}

// Pods keep what they have when podCIDRs change.
func TestPodCIDRsChange(t *testing.T) {
	b := newBed(t)
	b.start()
	resp, ns := b.add("old", nil)
	b.stop()
	data, err := os.ReadFile(b.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	b.write(b.ConfigFile, strings.ReplaceAll(string(data), "10.244.0.0/24", "10.245.0.0/24"))
	b.start()
	if _, err := b.cni().Check(context.Background(), &agentv1.CheckRequest{Id: id("old"), Netns: ns, Addresses: resp.Addresses}); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	b.until("routed", func() bool {
		return strings.Contains(b.run(b.HostNetNS, "ip", "route"), "10.244.0.2 dev netio0 proto 110 scope link src 10.245.0.1")
	})
	if fresh, _ := b.add("new", nil); !strings.HasPrefix(fresh.Addresses[0].Address, "10.245.0.") {
		t.Errorf("the new pod has %v", fresh.Addresses)
	}
}

func TestCleanup(t *testing.T) {
	b := newBed(t)
	b.config("installCNI: {binDir: " + b.path("bin") + ", confDir: " + b.path("net.d") + "}")
	b.start()
	b.add("web", nil)
	b.until("installed", func() bool { _, err := os.Stat(b.path("net.d/10-netio.conflist")); return err == nil })
	o := node.CleanupOptions{ConfigFile: b.ConfigFile, HostNetNS: b.HostNetNS}
	if err := node.Cleanup(o); !errors.Is(err, socket.ErrInUse) {
		t.Errorf("while the agent runs: %v", err)
	}
	b.stop()
	if err := node.Cleanup(o); !errors.Is(err, node.ErrInUse) || !strings.Contains(err.Error(), "pod default/web") || !strings.Contains(err.Error(), "forwarder") {
		t.Errorf("while pods run: %v", err)
	}
	b.start()
	if _, err := b.cni().Del(context.Background(), &agentv1.DelRequest{Id: id("web")}); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.fake.Stop()
	o.State, o.Sysctls = true, true
	for range 2 {
		if err := node.Cleanup(o); err != nil {
			t.Fatal(err)
		}
	}
	left := b.run(b.HostNetNS, "ip", "link") + b.run(b.HostNetNS, "nft", "list", "ruleset") + b.run(b.HostNetNS, "sysctl", "net.ipv4.ip_forward")
	if strings.Contains(left, "netio") || !strings.Contains(left, "ip_forward = 0") {
		t.Errorf("left on the host:\n%s", left)
	}
	for _, dir := range []string{"bin", "net.d", "state"} {
		if entries, _ := os.ReadDir(b.path(dir)); len(entries) != 0 {
			t.Errorf("left in %s: %v", dir, entries)
		}
	}
}

// TestUninstall: nothing is left, of pods that run neither.
func TestUninstall(t *testing.T) {
	b := newBed(t)
	b.config("installCNI: {binDir: " + b.path("bin") + ", confDir: " + b.path("net.d") + "}")
	b.start()
	_, pod := b.add("web", nil)
	b.until("installed", func() bool { _, err := os.Stat(b.path("net.d/10-netio.conflist")); return err == nil })
	data, err := os.ReadFile(b.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(b.ConfigFile, data)
	if err != nil {
		t.Fatal(err)
	}
	cache := b.path("cache")
	for _, dir := range []string{cache, c.RunDir} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	inUse, unloads := errors.New("in use"), 0
	o := node.UninstallOptions{Config: c, CacheDir: cache, HostNetNS: b.HostNetNS, UnloadModule: func() error {
		if unloads++; unloads == 1 {
			return inUse
		}
		return nil
	}}
	if err := node.Uninstall(o); !errors.Is(err, socket.ErrInUse) {
		t.Errorf("while the agent runs: %v", err)
	}
	b.stop()
	if err := node.Uninstall(o); !errors.Is(err, node.ErrInUse) || !strings.Contains(err.Error(), "forwarder") {
		t.Errorf("while the forwarder runs: %v", err)
	}
	if link := b.run(pod, "ip", "link"); !strings.Contains(link, "eth0") {
		t.Fatalf("the pod has no interface:\n%s", link)
	}
	b.fake.Stop()
	if err := node.Uninstall(o); !errors.Is(err, inUse) {
		t.Errorf("while the module is in use: %v", err)
	}
	if _, err := os.Stat(c.StateDir); err != nil {
		t.Errorf("what is needed to try again: %v", err)
	}
	for range 2 {
		if err := node.Uninstall(o); err != nil {
			t.Fatal(err)
		}
	}
	left := b.run(b.HostNetNS, "ip", "link") + b.run(b.HostNetNS, "nft", "list", "ruleset") + b.run(b.HostNetNS, "sysctl", "net.ipv4.ip_forward") + b.run(pod, "ip", "link")
	if strings.Contains(left, "netio") || strings.Contains(left, "eth0") || !strings.Contains(left, "ip_forward = 0") {
		t.Errorf("left:\n%s", left)
	}
	for _, dir := range []string{"bin", "net.d"} {
		if entries, _ := os.ReadDir(b.path(dir)); len(entries) != 0 {
			t.Errorf("left in %s: %v", dir, entries)
		}
	}
	for _, dir := range []string{c.StateDir, c.RunDir, cache} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// hasty is a source that goes on telling while the agent is asked to stop.
type hasty struct {
	standalone.Source
	stop context.CancelFunc
}

func (h hasty) Follow(ctx context.Context, _ *config.Config, notify func(node.Facts), _ *problem.List) error {
	h.stop()
	notify(node.Facts{})
	notify(node.Facts{})
	<-ctx.Done()
	return nil
}

// TestStopAtTheStart: whichever the agent takes up first, the first facts or the
// wish to stop, it ends.
func TestStopAtTheStart(t *testing.T) {
	b := newBed(t)
	for range 10 {
		ctx, cancel := context.WithCancel(context.Background())
		b.Source = hasty{*b.source, cancel}
		done := make(chan error, 1)
		go func() { done <- node.Run(ctx, b.Options) }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("it goes on")
		}
	}
}
