// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// fakeNodes are other nodes: node-b has the pods of 10.43.0.0/24, shop/far among them.
type fakeNodes struct {
	t      *testing.T
	socket string // node-b's forwarder
	away   bool   // it cannot be reached
}

func (n *fakeNodes) forwarder(_ context.Context, node string) (*forwarder, error) {
	if n.away || node != "node-b" {
		return nil, errors.New("nobody is there")
	}
	a := newApp("", nil, nil)
	a.forwarderSocket, a.timeout = n.socket, time.Minute
	return a.forwarder()
}

func (n *fakeNodes) nodeOf(_ context.Context, addr netip.Addr) (string, error) {
	switch {
	case netip.MustParsePrefix("10.43.0.0/24").Contains(addr):
		return "node-b", nil
	case netip.MustParsePrefix("10.42.0.0/24").Contains(addr):
		return "node-a", nil
	}
	return "", nil
}

func (n *fakeNodes) locate(_ context.Context, name string) (place, string, error) {
	if name == "shop/far" {
		return place{label: name, port: "knet77", addresses: parseAddresses([]string{"10.43.0.9"})}, "node-b", nil
	}
	return place{}, "", errNotFound
}

// forwarded is the answer of a forwarder that sends a packet on.
func forwarded(t *dataplanev1.Tuple, port, remote string) *dataplanev1.TraceResponse {
	return &dataplanev1.TraceResponse{
		Verdict: "forwarded", Tuple: t, Length: 40,
		Stages: []*dataplanev1.TraceStage{{Stage: "transmit", Verdict: "sent", Detail: "to port " + port}},
		Sent:   []*dataplanev1.TracedPacket{{Port: port, Remote: remote, Tuple: t, Packet: []byte("inner"), Length: 40}},
	}
}

func TestWalk(t *testing.T) {
	there := &dataplanev1.Tuple{Src: "10.42.0.5", Dst: "10.43.0.9", Protocol: 6, SrcPort: 49152, DstPort: 80}
	back := &dataplanev1.Tuple{Src: "10.43.0.9", Dst: "10.42.0.5", Protocol: 6, SrcPort: 49152, DstPort: 80}
	dropped := &dataplanev1.TraceResponse{
		Verdict: "dropped", Reason: "policy-ingress", Tuple: there, Length: 40,
		Stages: []*dataplanev1.TraceStage{{Stage: "ingress policy", Verdict: "deny", Rule: "shop/far", Detail: "no rule allows it"}},
	}
	for name, c := range map[string]struct {
		args    string
		away    bool
		a, b    *dataplanev1.TraceResponse
		ingress string // at node-b
		code    int
		want    []string
	}{
		"by the tunnel": {
			args: "default/client shop/far:80", a: forwarded(there, "tunnel-node-b", "172.18.0.3"), b: forwarded(there, "knet77", ""), ingress: "tunnel-node-a",
			want: []string{"Node node-a", "Node node-b", "as it comes: 10.42.0.5:49152 > 10.43.0.9:80", "delivered to shop/far, port knet77"},
		},
		"by the host's routes": {
			args: "default/client 10.43.0.9:80", a: forwarded(there, "host", ""), b: dropped, ingress: "host", code: exitDenied,
			want: []string{"Node node-b", "dropped: policy-ingress, by ingress policy, shop/far"},
		},
		"to a node that is away": {
			args: "default/client 10.43.0.9:80", away: true, a: forwarded(there, "tunnel-node-b", "172.18.0.3"),
			want: []string{"leaves by the tunnel to node node-b (172.18.0.3); node node-b cannot be asked: nobody is there"},
		},
		"from there": {
			args: "shop/far default/client:80", a: forwarded(back, "knet12c0", ""), b: forwarded(back, "tunnel-node-a", "172.18.0.2"), ingress: "knet77",
			want: []string{"Node node-b", "Node node-a", "delivered to default/client, port knet12c0"},
		},
		"round and round": {
			args: "default/client 10.43.0.9:80", a: forwarded(there, "tunnel-node-b", "172.18.0.3"), b: forwarded(there, "tunnel-node-b", "172.18.0.3"), ingress: "tunnel-node-b",
			want: []string{"goes round in circles"},
		},
		"to a port that is not there": {
			args: "default/client 10.43.0.9:80", a: forwarded(there, "tunnel-node-b", "172.18.0.3"), ingress: "tunnel-node-a",
			want: []string{"goes on to node node-b, which cannot be asked: the forwarder has no port tunnel-node-a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			far := &fakeForwarder{ports: []*dataplanev1.PortStatus{{Config: &dataplanev1.Port{
				Name: "knet77", Kind: dataplanev1.Port_POD, Tags: map[string]string{tagNamespace: "shop", tagPod: "far"},
			}}}}
			var last *dataplanev1.TraceRequest
			far.trace = func(req *dataplanev1.TraceRequest) (*dataplanev1.TraceResponse, error) {
				last = req
				if c.b == nil {
					return nil, status.Error(codes.NotFound, "no such port")
				}
				return c.b, nil
			}
			near := goldenForwarder()
			near.trace = func(*dataplanev1.TraceRequest) (*dataplanev1.TraceResponse, error) { return c.a, nil }
			b := newBed(t, near, true)
			socket := filepath.Join(t.TempDir(), "far.sock")
			serveFake(t, socket, func(s *grpc.Server) {
				dataplanev1.RegisterObservationServer(s, far)
				dataplanev1.RegisterConfigurationServer(s, far)
			})
			b.far = &fakeNodes{t, socket, c.away}
			if code := b.do(t, append([]string{"trace"}, strings.Fields(c.args)...)...); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, b.errOut.String())
			}
			for _, want := range c.want {
				if !strings.Contains(b.out.String(), want) {
					t.Errorf("%q is missing in\n%s", want, b.out.String())
				}
			}
			if last.GetPort() != c.ingress {
				t.Errorf("node-b was asked about port %q, want %q", last.GetPort(), c.ingress)
			}
		})
	}
}
