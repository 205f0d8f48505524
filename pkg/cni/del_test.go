// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"os"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

func TestDel(t *testing.T) {
	b := newBed(t)
	a := startAgent(b)
	for range 2 {
		if out := b.succeeds("DEL", b.conf()); out != "" {
			t.Errorf("stdout %q", out)
		}
	}
	a.was("Del "+idABC, "Del "+idABC)
	b.succeeds("DEL", b.conf(), "CNI_NETNS=")
	a.asked("Del", &agentv1.DelRequest{Id: &agentv1.AttachmentID{Network: "net", ContainerId: "abc", Ifname: "eth0"}})
	b.hasPending()
}

func TestDelWithoutAgentIsPromised(t *testing.T) {
	b := newBed(t)
	for range 2 {
		b.succeeds("DEL", b.conf())
		b.hasPending(idABC + " " + netnsNo)
	}
	b.succeeds("DEL", b.conf(), "CNI_IFNAME=eth1", "CNI_NETNS=")
	b.hasPending(idABC+" "+netnsNo, "net/abc/eth1 ")
	// With the agent back, a DEL keeps the promise itself.
	a := startAgent(b)
	b.succeeds("DEL", b.conf())
	a.was("Del " + idABC)
	b.hasPending("net/abc/eth1 ")
}

func TestDelThatTheAgentCannotSeeTo(t *testing.T) {
	for _, c := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted} {
		b := newBed(t)
		a := startAgent(b)
		a.fails("Del", status.Error(c, "busy"))
		b.succeeds("DEL", b.conf())
		b.hasPending(idABC + " " + netnsNo)
	}
	b := newBed(t)
	a := startAgent(b)
	a.fails("Del", status.Error(codes.Internal, "cannot remove the port"))
	b.fails(999, "DEL", b.conf(), nil, "cannot remove the port")
	b.hasPending()
}

func TestDelThatCannotBePromised(t *testing.T) {
	b := newBed(t)
	if err := os.WriteFile(b.stateDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.fails(11, "DEL", b.conf(), nil, "not reachable", "pending deletion", b.stateDir)
}

// A configuration that ADD refuses must not keep a container from going.
func TestDelIsLenient(t *testing.T) {
	b := newBed(t)
	a := startAgent(b)
	for _, c := range []struct {
		code    uint // of ADD
		members string
	}{
		{2, `"unknown": 1`},
		{2, `"runtimeConfig": {"portMappings": [1]}`},
		{2, `"ipam": {"type": "host-local"}`},
		{7, `"mtu": "big"`},
		{7, `"timeoutSeconds": -1`},
		{7, `"prevResult": 5`},
		{7, `"prevResult": {"ips": [null]}`},
		{7, `"args": 5`},
	} {
		b.fails(c.code, "ADD", b.conf(c.members), nil)
		a.was()
		b.succeeds("DEL", b.conf(c.members), "CNI_ARGS=garbage")
		a.was("Del " + idABC)
	}
	b.fails(6, "DEL", `{`, nil)
	b.fails(7, "DEL", `{"cniVersion": "1.1.0"}`, nil, "name")
	a.was()
}
