// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/agent/netnsid"
	"netio.dev/netio/pkg/cni/pending"
)

const (
	idABC   = "net/abc/eth0"
	netnsNo = "/run/netns/no-such-netns"
)

// pendings are the attachments with a record.
func (b *bed) pendings() []string {
	b.t.Helper()
	rs, err := pending.List(pending.Dir(b.stateDir))
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, r := range rs {
		what := r.String() + " " + r.NetNS
		if r.Undo {
			what += " undo"
		}
		out = append(out, what)
	}
	return out
}

func (b *bed) hasPending(want ...string) {
	b.t.Helper()
	if got := b.pendings(); len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		b.t.Errorf("pending deletions %q, want %q", got, want)
	}
}

// sameJSON compares meaning, not layout.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestAddInEveryVersion(t *testing.T) {
	const ips1 = `[
		{"interface": 0, "address": "10.244.0.5/32", "gateway": "10.244.0.1"},
		{"interface": 0, "address": "fd00:10:244::5/128", "gateway": "fd00:10:244::1"}]`
	const ips0 = `[
		{"version": "4", "interface": 0, "address": "10.244.0.5/32", "gateway": "10.244.0.1"},
		{"version": "6", "interface": 0, "address": "fd00:10:244::5/128", "gateway": "fd00:10:244::1"}]`
	const if1 = `[{"name": "eth0", "mac": "00:00:00:00:00:00", "mtu": 1450, "sandbox": "/run/netns/no-such-netns"}]`
	const if0 = `[{"name": "eth0", "mac": "00:00:00:00:00:00", "sandbox": "/run/netns/no-such-netns"}]`
	const routes = `[{"dst": "10.244.0.1/32"}, {"dst": "0.0.0.0/0", "gw": "10.244.0.1"}, {"dst": "::/0", "gw": "fd00:10:244::1"}]`
	b := newBed(t)
	startAgent(b)
	for _, v := range Versions.SupportedVersions() {
		t.Run(v, func(t *testing.T) {
			interfaces, ips := if1, ips1
			if strings.HasPrefix(v, "0.") {
				interfaces, ips = if0, ips0
			}
			// 0.3.x and 0.4.0 print an empty dns.
			dns := ""
			if strings.HasPrefix(v, "0.") {
				dns = `, "dns": {}`
			}
			sameJSON(t, b.succeeds("ADD", b.confVersion(v)),
				`{"cniVersion": "`+v+`", "interfaces": `+interfaces+`, "ips": `+ips+`, "routes": `+routes+dns+`}`)
		})
	}
	b.fails(1, "ADD", b.confVersion("0.2.0"), nil, "incompatible CNI versions")
	b.fails(1, "ADD", b.confVersion("9.0.0"), nil, "incompatible CNI versions")
}

func TestAddRequest(t *testing.T) {
	id := &agentv1.AttachmentID{Network: "net", ContainerId: "abc", Ifname: "eth0"}
	for _, c := range []struct {
		name    string
		members []string
		args    string
		want    *agentv1.AddRequest
	}{
		{"nothing more", nil, "", &agentv1.AddRequest{Id: id, Netns: netnsNo}},
		{"everything", []string{
			`"mtu": 9000, "timeoutSeconds": 10, "ipMasq": true, "disableCheck": true, "capabilities": {"ips": true, "portMappings": true}`,
			`"args": {"other": {}, "cni": {"other": 1, "ips": ["10.244.0.9"], "labels": [{"key": "app", "value": "web"}, {"key": "empty", "value": ""}]}}`,
			`"runtimeConfig": {"ips": ["10.244.0.7/24", "fd00::7", "::ffff:10.244.0.7"], "portMappings": [], "cgroupPath": "/x"}`,
			`"ipam": {}, "prevResult": null, "cni.dev/something": [1]`,
		}, "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=a=b;FOO=BAR;IP=10.244.0.8;", &agentv1.AddRequest{
			Id: id, Netns: netnsNo, PodNamespace: "prod", PodName: "web-0", PodUid: "a=b", Mtu: 9000,
			Labels:       map[string]string{"app": "web", "empty": ""},
			RequestedIps: []string{"10.244.0.7", "fd00::7", "10.244.0.9"},
		}},
		{"addresses of args", []string{`"args": {"cni": {"ips": ["10.244.0.9/16"]}}, "runtimeConfig": {"ips": []}`}, "IP=10.244.0.8",
			&agentv1.AddRequest{Id: id, Netns: netnsNo, RequestedIps: []string{"10.244.0.9"}}},
		{"addresses as nerdctl gives them", []string{`"runtimeConfig": {"ips": ["fd00::8"]}`}, "IgnoreUnknown=1;IP=10.244.0.8",
			&agentv1.AddRequest{Id: id, Netns: netnsNo, RequestedIps: []string{"fd00::8", "10.244.0.8"}}},
		{"address of CNI_ARGS", nil, "IP=10.244.0.8/24", &agentv1.AddRequest{Id: id, Netns: netnsNo, RequestedIps: []string{"10.244.0.8"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			a := startAgent(b)
			b.succeeds("ADD", b.conf(c.members...), "CNI_ARGS="+c.args)
			a.was("Add " + idABC)
			a.asked("Add", c.want)
		})
	}
}

func TestAddPassesDNSOn(t *testing.T) {
	b := newBed(t)
	startAgent(b)
	for _, c := range []struct{ members, dns string }{
		{`"dns": {"nameservers": ["10.0.0.10"], "domain": "d", "search": ["s"], "options": ["ndots:5"]}`,
			`{"nameservers": ["10.0.0.10"], "domain": "d", "search": ["s"], "options": ["ndots:5"]}`},
		{`"dns": {"nameservers": ["10.0.0.10"]}, "runtimeConfig": {"dns": {"servers": ["10.0.0.11"], "searches": ["t"], "options": ["o"]}}`,
			`{"nameservers": ["10.0.0.11"], "search": ["t"], "options": ["o"]}`},
	} {
		var r struct{ DNS json.RawMessage }
		if err := json.Unmarshal([]byte(b.succeeds("ADD", b.conf(c.members))), &r); err != nil {
			t.Fatal(err)
		}
		sameJSON(t, string(r.DNS), c.dns)
	}
}

func TestAddBehindOtherPlugins(t *testing.T) {
	b := newBed(t)
	a := startAgent(b)
	prev := `"prevResult": {"cniVersion": "1.1.0",
		"interfaces": [{"name": "eth0"}, {"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/no-such-netns"}],
		"ips": [{"interface": 1, "address": "192.0.2.5/24"}],
		"routes": [{"dst": "198.51.100.0/24", "gw": "192.0.2.1"}],
		"dns": {"nameservers": ["192.0.2.53"]}}`
	sameJSON(t, b.succeeds("ADD", b.conf(prev)), `{"cniVersion": "1.1.0",
		"interfaces": [{"name": "eth0"}, {"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/no-such-netns"},
			{"name": "eth0", "mac": "00:00:00:00:00:00", "mtu": 1450, "sandbox": "/run/netns/no-such-netns"}],
		"ips": [{"interface": 1, "address": "192.0.2.5/24"},
			{"interface": 2, "address": "10.244.0.5/32", "gateway": "10.244.0.1"},
			{"interface": 2, "address": "fd00:10:244::5/128", "gateway": "fd00:10:244::1"}],
		"routes": [{"dst": "198.51.100.0/24", "gw": "192.0.2.1"},
			{"dst": "10.244.0.1/32"}, {"dst": "0.0.0.0/0", "gw": "10.244.0.1"}, {"dst": "::/0", "gw": "fd00:10:244::1"}],
		"dns": {"nameservers": ["192.0.2.53"]}}`)
	a.was("Add " + idABC)

	// Before 1.0.0 a result need not say its version.
	old := `"prevResult": {"interfaces": [{"name": "net1", "sandbox": "/x"}], "ips": [{"version": "4", "interface": 0, "address": "192.0.2.5/24"}]}`
	var r struct {
		Interfaces []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(b.succeeds("ADD", b.confVersion("0.3.1", old))), &r); err != nil || len(r.Interfaces) != 2 || r.Interfaces[1].Name != "eth0" {
		t.Errorf("result %+v, %v", r, err)
	}
	a.was("Add " + idABC)

	made := `"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/no-such-netns"}]}`
	b.fails(7, "ADD", b.conf(made), nil, "interface eth0 already", "put netio-cni first")
	a.was()
}

func TestAddWithoutAgent(t *testing.T) {
	b := newBed(t)
	soon := b.conf(`"timeoutSeconds": 1`)
	b.fails(11, "ADD", soon, nil, "not reachable", b.socket, "is it running")
	if err := os.WriteFile(b.socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.fails(11, "ADD", soon, nil, "not reachable", "connection refused")
	b.hasPending() // nothing was asked, nothing is to be undone
}

// TestAwait: an agent that starts while the plugin looks for it is in time.
func TestAwait(t *testing.T) {
	away := errors.New("away")
	looks := 0
	look := func(context.Context) (*agent, error) {
		if looks++; looks < 4 {
			return nil, away
		}
		return &agent{}, nil
	}
	if a, err := await(t.Context(), time.Minute, look); a == nil || err != nil || looks != 4 {
		t.Errorf("%v, %v after %d looks", a, err, looks)
	}
	looks = 0
	if _, err := await(t.Context(), 0, look); !errors.Is(err, away) || looks != 1 {
		t.Errorf("without time: %v after %d looks", err, looks)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	looks = 0
	if _, err := await(ctx, time.Minute, look); !errors.Is(err, away) || looks != 1 {
		t.Errorf("told to end: %v after %d looks", err, looks)
	}
}

func TestAddRefusedByTheAgent(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code uint
		says string
	}{
		{"code given", cniError(codes.ResourceExhausted, 11, "no free address, next free in 5 s"), 11, "no free address, next free in 5 s"},
		{"code of its own", cniError(codes.Unknown, 142, "odd"), 142, "odd"},
		{"code beside an ambiguous status", cniError(codes.Unavailable, 7, "bad"), 7, "bad"},
		{"invalid", status.Error(codes.InvalidArgument, "mtu too small"), 7, "mtu too small"},
		{"there already", status.Error(codes.AlreadyExists, "eth0 exists"), 999, "eth0 exists"},
		{"not implemented", status.Error(codes.Unimplemented, "unknown method Add"), 999, "install both from one release"},
		{"aborted", status.Error(codes.Aborted, "stopping"), 11, "stopping"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			a := startAgent(b)
			a.fails("Add", c.err)
			b.fails(c.code, "ADD", b.conf(), nil, "netio-agent", c.says)
			a.was("Add " + idABC) // it has cleaned up: no Del
			b.hasPending()
		})
	}
}

func TestAddOfUnknownOutcomeIsUndone(t *testing.T) {
	for _, c := range []struct {
		name  string
		onAdd addFunc
		code  uint
		says  string
	}{
		{"too late", func(ctx context.Context, _ *agentv1.AddRequest) (*agentv1.AddResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, 11, "did not finish within 1s (timeoutSeconds)"},
		{"unavailable", func(context.Context, *agentv1.AddRequest) (*agentv1.AddResponse, error) {
			return nil, status.Error(codes.Unavailable, "stopping")
		}, 11, "stopping"},
		{"another interface", func(_ context.Context, req *agentv1.AddRequest) (*agentv1.AddResponse, error) {
			resp := answer(req)
			resp.Ifname = "eth1"
			return resp, nil
		}, 999, `interface "eth1" instead of "eth0"`},
		{"no address", func(_ context.Context, req *agentv1.AddRequest) (*agentv1.AddResponse, error) {
			resp := answer(req)
			resp.Addresses = nil
			return resp, nil
		}, 999, "no address"},
		{"malformed address", func(_ context.Context, req *agentv1.AddRequest) (*agentv1.AddResponse, error) {
			resp := answer(req)
			resp.Addresses[0].Address = "10.244.0.5"
			return resp, nil
		}, 999, "10.244.0.5"},
		{"malformed gateway", func(_ context.Context, req *agentv1.AddRequest) (*agentv1.AddResponse, error) {
			resp := answer(req)
			resp.Routes[1].Gateway = "gw"
			return resp, nil
		}, 999, "gateway to 0.0.0.0/0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			a := startAgent(b)
			a.adds(c.onAdd)
			var members []string
			if c.name == "too late" {
				members = append(members, `"timeoutSeconds": 1`)
			}
			b.fails(c.code, "ADD", b.conf(members...), nil, c.says)
			a.was("Add "+idABC, "Del "+idABC)
			a.asked("Del", &agentv1.DelRequest{Id: &agentv1.AttachmentID{Network: "net", ContainerId: "abc", Ifname: "eth0"}, Netns: netnsNo, Undo: true})
			b.hasPending()
		})
	}
}

func TestAddThatCannotBeUndoneNowIsLater(t *testing.T) {
	t.Run("the agent dies", func(t *testing.T) {
		b := newBed(t)
		a := startAgent(b)
		a.adds(func(ctx context.Context, _ *agentv1.AddRequest) (*agentv1.AddResponse, error) {
			go a.server.Stop()
			<-ctx.Done()
			return nil, ctx.Err()
		})
		b.fails(11, "ADD", b.conf(), nil, "netio-agent at "+b.socket, "try again")
		b.hasPending(idABC + " " + netnsNo + " undo")
	})
	t.Run("the Del fails", func(t *testing.T) {
		b := newBed(t)
		a := startAgent(b)
		a.fails("Add", status.Error(codes.Unavailable, "stopping"))
		a.fails("Del", status.Error(codes.Internal, "broken"))
		b.fails(11, "ADD", b.conf(), nil, "stopping")
		a.was("Add "+idABC, "Del "+idABC)
		b.hasPending(idABC + " " + netnsNo + " undo")
	})
	t.Run("not even the record can be written", func(t *testing.T) {
		b := newBed(t)
		a := startAgent(b)
		a.fails("Add", status.Error(codes.Unavailable, "stopping"))
		a.fails("Del", status.Error(codes.Internal, "broken"))
		if err := os.WriteFile(b.stateDir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b.fails(5, "ADD", b.conf(), nil, b.stateDir)
		a.was() // what may be pending cannot be told, so nothing is added
		if err := os.Remove(b.stateDir); err != nil {
			t.Fatal(err)
		}
		a.adds(func(context.Context, *agentv1.AddRequest) (*agentv1.AddResponse, error) {
			if err := os.WriteFile(b.stateDir, nil, 0o600); err != nil {
				t.Error(err)
			}
			return nil, status.Error(codes.Unavailable, "stopping")
		})
		a.fails("Add", nil)
		b.fails(11, "ADD", b.conf(), nil, "stopping", "could not be undone", "broken", b.stateDir)
	})
	t.Run("the agent is frozen", func(t *testing.T) {
		b := newBed(t)
		l, err := net.Listen("unix", b.socket) // nobody accepts
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		p := &plugin{stdout: os.Stdout, undoTimeout: time.Millisecond}
		err = p.add(context.Background(), &skel.CmdArgs{
			ContainerID: "abc", Netns: netnsNo, IfName: "eth0", StdinData: []byte(b.conf(`"timeoutSeconds": 1`)),
		})
		if err == nil || !strings.Contains(err.Error(), "did not finish") {
			t.Errorf("error %v", err)
		}
		b.hasPending(idABC + " " + netnsNo + " undo")
	})
}

// An undo is of the namespace that was there when the ADD began, now and later.
func TestUndoIsOfTheNetworkNamespace(t *testing.T) {
	const netns = "/proc/self/ns/net"
	id, err := netnsid.At(netns)
	if err != nil {
		t.Fatal(err)
	}
	b := newBed(t)
	a := startAgent(b)
	want := &agentv1.DelRequest{Id: &agentv1.AttachmentID{Network: "net", ContainerId: "abc", Ifname: "eth0"}, Netns: netns,
		Undo: true, NetnsId: &agentv1.NetNSID{Device: id.Dev, Inode: id.Inode, Boot: id.Boot}}
	a.fails("Add", status.Error(codes.Unavailable, "stopping"))
	a.fails("Del", status.Error(codes.Unavailable, "stopping"))
	add := func() {
		b.fails(11, "ADD", b.conf(), []string{"CNI_NETNS=" + netns, "CNI_NETNS_OVERRIDE=1"}, "stopping")
	}
	add()
	a.asked("Del", want)
	b.hasPending(idABC + " " + netns + " undo")
	add() // tries to settle what it has promised
	a.was("Add "+idABC, "Del "+idABC, "Del "+idABC)
	a.asked("Del", want)

	// A promised DEL is about whatever is there, and stands beside.
	b.succeeds("DEL", b.conf(), "CNI_NETNS=")
	b.hasPending(idABC+" "+netns+" undo", idABC+" ")
	a.fails("Del", nil)
	a.was("Del " + idABC)
	a.fails("Add", nil)
	b.succeeds("ADD", b.conf())
	a.was("Del "+idABC, "Del "+idABC, "Add "+idABC)
	b.hasPending()
}

func TestAddInterrupted(t *testing.T) {
	b := newBed(t)
	a := startAgent(b)
	asked := make(chan struct{})
	a.adds(func(ctx context.Context, _ *agentv1.AddRequest) (*agentv1.AddResponse, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	cmd := b.cmd("ADD", b.conf())
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the plugin succeeded")
	}
	b.isError(out.String(), 11, "interrupted")
	a.was("Add "+idABC, "Del "+idABC)
}

func TestAddThatNobodyHearsOf(t *testing.T) {
	b := newBed(t)
	a := startAgent(b)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := b.cmd("ADD", b.conf())
	cmd.Stdout = w
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit: %v", err)
	}
	a.was("Add "+idABC, "Del "+idABC)
	b.hasPending()
}

func TestAddToTheOwnNetworkNamespace(t *testing.T) {
	b := newBed(t)
	a := startAgent(b)
	b.fails(8, "ADD", b.conf(), []string{"CNI_NETNS=/proc/self/ns/net"}, "own network namespace")
	a.was()
	b.succeeds("ADD", b.conf(), "CNI_NETNS=/proc/self/ns/net", "CNI_NETNS_OVERRIDE=1")
	a.was("Add " + idABC)
}

func TestAddAfterPendingDeletion(t *testing.T) {
	b := newBed(t)
	b.succeeds("DEL", b.conf(), "CNI_NETNS=/run/netns/old")
	b.hasPending(idABC + " /run/netns/old")
	a := startAgent(b)
	a.fails("Del", cniError(codes.Unavailable, 11, "later"))
	b.fails(11, "ADD", b.conf(), nil, "later")
	a.was("Del " + idABC)
	b.hasPending(idABC + " /run/netns/old")

	a.fails("Del", nil)
	b.succeeds("ADD", b.conf())
	a.was("Del "+idABC, "Add "+idABC)
	a.asked("Del", &agentv1.DelRequest{Id: &agentv1.AttachmentID{Network: "net", ContainerId: "abc", Ifname: "eth0"}, Netns: "/run/netns/old"})
	b.hasPending()
	b.succeeds("ADD", b.conf(), "CNI_CONTAINERID=other")
	a.was("Add net/other/eth0")
}
