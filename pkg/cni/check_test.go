// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

const prevOfCheck = `"prevResult": {"cniVersion": "1.1.0",
	"interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/run/netns/no-such-netns"}],
	"ips": [{"address": "192.0.2.9/24"}, {"interface": 0, "address": "192.0.2.1/24"},
		{"interface": 1, "address": "10.244.0.5/32", "gateway": "10.244.0.1"}, {"interface": 1, "address": "fd00::5/128"}]}`

func TestCheck(t *testing.T) {
	b := newBed(t)
	b.fails(11, "CHECK", b.conf(prevOfCheck), nil, "not reachable")
	a := startAgent(b)
	if out := b.succeeds("CHECK", b.conf(prevOfCheck)); out != "" {
		t.Errorf("stdout %q", out)
	}
	a.was("Check " + idABC)
	a.asked("Check", &agentv1.CheckRequest{
		Id: &agentv1.AttachmentID{Network: "net", ContainerId: "abc", Ifname: "eth0"}, Netns: netnsNo,
		Addresses: []*agentv1.AddressConfig{{Address: "10.244.0.5/32", Gateway: "10.244.0.1"}, {Address: "fd00::5/128"}},
	})
	b.fails(7, "CHECK", b.conf(), nil, "prevResult")
	b.fails(7, "CHECK", b.conf(prevOfCheck), []string{"CNI_IFNAME=eth9"}, "eth9", "missing")
	b.fails(1, "CHECK", b.confVersion("0.3.1"), nil, "does not allow CHECK")
	a.was()
	for _, c := range []struct {
		err  error
		code uint
	}{
		{status.Error(codes.NotFound, "no such attachment"), 3},
		{cniError(codes.NotFound, 100, "no such attachment"), 100},
		{status.Error(codes.FailedPrecondition, "address 10.244.0.5 is missing"), 999},
	} {
		a.fails("Check", c.err)
		b.fails(c.code, "CHECK", b.conf(prevOfCheck), nil, status.Convert(c.err).Message())
	}
}

func TestStatus(t *testing.T) {
	b := newBed(t)
	b.fails(50, "STATUS", b.conf(), nil, "not reachable")
	a := startAgent(b)
	if out := b.succeeds("STATUS", b.conf()); out != "" {
		t.Errorf("stdout %q", out)
	}
	a.asked("Status", &agentv1.StatusRequest{Network: "net"})
	a.fails("Status", cniError(codes.Unavailable, 51, "the forwarder is away"))
	b.fails(51, "STATUS", b.conf(), nil, "the forwarder is away")
	a.fails("Status", cniError(codes.ResourceExhausted, 50, "no free address"))
	b.fails(50, "STATUS", b.conf(), nil, "no free address")
	a.fails("Status", status.Error(codes.Unavailable, "starting"))
	b.fails(50, "STATUS", b.conf(), nil, "starting")
	a.fails("Status", status.Error(codes.Unimplemented, "what?"))
	b.fails(50, "STATUS", b.conf(), nil, "install both")
	b.fails(2, "STATUS", b.conf(`"bridge": "cni0"`), nil, "bridge")
	b.fails(1, "STATUS", b.confVersion("1.0.0"), nil, "does not allow STATUS")
}

func TestGC(t *testing.T) {
	b := newBed(t)
	const two = `"cni.dev/valid-attachments": [{"containerID": "abc", "ifname": "eth0"}, {"containerID": "def", "ifname": "net1"}]`
	b.fails(11, "GC", b.conf(two), nil, "not reachable")
	a := startAgent(b)
	want := &agentv1.GCRequest{Network: "net", Valid: []*agentv1.AttachmentID{
		{Network: "net", ContainerId: "abc", Ifname: "eth0"}, {Network: "net", ContainerId: "def", Ifname: "net1"},
	}}
	if out := b.succeeds("GC", b.conf(two)); out != "" {
		t.Errorf("stdout %q", out)
	}
	a.asked("GC", want)
	b.succeeds("GC", b.conf(`"cni.dev/attachments": [{"containerID": "abc", "ifname": "eth0"}, {"containerID": "def", "ifname": "net1"}]`))
	a.asked("GC", want)
	for _, none := range []string{"[]", "null"} {
		b.succeeds("GC", b.conf(`"cni.dev/valid-attachments": `+none))
		a.asked("GC", &agentv1.GCRequest{Network: "net"})
	}
	a.was("GC", "GC", "GC", "GC")
	b.fails(7, "GC", b.conf(), nil, "cni.dev/valid-attachments", "an empty one removes all")
	b.fails(7, "GC", b.conf(`"cni.dev/valid-attachments": [{"containerID": "abc"}]`), nil, "entry 0", "ifname")
	b.fails(7, "GC", b.conf(`"cni.dev/valid-attachments": {}`), nil, "expected a list")
	a.was()
	a.fails("GC", status.Error(codes.Internal, "2 of 3 removed"))
	b.fails(999, "GC", b.conf(two), nil, "2 of 3 removed")
}

func TestVersionAndEnvironment(t *testing.T) {
	b := newBed(t)
	sameJSON(t, b.succeeds("VERSION", `{"cniVersion": "1.0.0"}`),
		`{"cniVersion": "1.1.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}`)
	c := b.run("", b.conf())
	if c.code != 0 || c.out != "" || c.err == "" {
		t.Errorf("without command: %+v", c)
	}
	b.fails(4, "RENAME", b.conf(), nil, "RENAME")
	for _, v := range []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"} {
		b.fails(4, "ADD", b.conf(), []string{v + "="}, v)
	}
	b.fails(4, "ADD", b.conf(), []string{"CNI_CONTAINERID=../x"}, "containerID")
	b.fails(4, "ADD", b.conf(), []string{"CNI_IFNAME=an/interface"}, "interface name")
	b.fails(4, "ADD", b.conf(), []string{"CNI_IFNAME=eth\xff"}, "CNI_IFNAME", "UTF-8")
	b.fails(4, "ADD", b.conf(), []string{"CNI_NETNS=relative"}, "CNI_NETNS", "absolute")
	b.fails(4, "ADD", b.conf(), []string{"CNI_ARGS=K8S_POD_NAME"}, "CNI_ARGS", "KEY=VALUE")
	b.fails(4, "ADD", b.conf(), []string{"CNI_ARGS=FOO=1;BAR=2;K8S_POD_NAME=x"}, "unknown keys FOO, BAR", "IgnoreUnknown=1")
	b.fails(4, "ADD", b.conf(), []string{"CNI_ARGS=IgnoreUnknown=maybe"}, "IgnoreUnknown", "maybe")
	b.fails(4, "ADD", b.conf(), []string{"CNI_ARGS=IP=10.0.0.300"}, "IP", "10.0.0.300")
	b.fails(4, "ADD", b.conf(), []string{"CNI_ARGS=K8S_POD_NAME=\xff"}, "UTF-8")
}
