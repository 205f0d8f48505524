// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// fakeNow is the time at which the fake daemons are looked at.
var fakeNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) int64 { return fakeNow.Add(-d).UnixNano() }

// fakeForwarder answers with fixed data.
type fakeForwarder struct {
	dataplanev1.UnimplementedObservationServer
	dataplanev1.UnimplementedConfigurationServer

	events  []*dataplanev1.Event
	packets []*dataplanev1.CapturedPacket
	// end is what a stream returns after the last of them; nil: it stays open.
	end   error
	ports []*dataplanev1.PortStatus // instead of the fixed ones
	// dropped are the answers to ListDrops, one after the other; nil: a fixed one.
	dropped chan *dataplanev1.ListDropsResponse
	// requests that were made.
	explained chan *dataplanev1.ExplainRequest
	traced    chan *dataplanev1.TraceRequest
	// trace answers instead of the fixed data.
	trace     func(*dataplanev1.TraceRequest) (*dataplanev1.TraceResponse, error)
	monitored chan *dataplanev1.MonitorRequest
	captured  chan *dataplanev1.CaptureRequest
	listed    chan *dataplanev1.ListFlowsRequest
}

var (
	webPort = &dataplanev1.Port{
		Name: "knet7f3a", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/web", Mtu: 1450,
		Addresses: []string{"10.42.0.7", "fd00:42::7"}, Policies: []string{"default/web"},
		Tags: map[string]string{"namespace": "default", "pod": "web"},
	}
	clientPort = &dataplanev1.Port{
		Name: "knet12c0", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/client",
		Addresses: []string{"10.42.0.5", "fd00:42::5"}, Policies: []string{"default/web", "default/trace"},
		Tags: map[string]string{"namespace": "default", "pod": "client"},
	}
	hostPort1 = &dataplanev1.Port{Name: "host", Kind: dataplanev1.Port_HOST, Ifname: "netio0", Addresses: []string{"10.42.0.1"}}
)

func (f *fakeForwarder) Status(context.Context, *dataplanev1.StatusRequest) (*dataplanev1.StatusResponse, error) {
	return &dataplanev1.StatusResponse{
		Version: "v0.1.0", Pid: 4711, StartedUnixNano: ago(3*time.Hour + 12*time.Minute), Restarts: 1, LastRestartGapNano: 12_300_000,
		Device: "soft", AbiVersion: "1.0", Revision: 42, Ports: 3, Connections: 1_310, ConnectionsMax: 262_144,
		Nbufs: 8_192, NbufsFree: 7_936,
		Lanes: []*dataplanev1.LaneStatus{{
			RxPackets: 48_210_334, RxBytes: 61_234_567_890, TxPackets: 48_209_990, TxBytes: 61_230_000_000, Vectors: 1_900_000,
			Polls: 5_000_000, Sleeps: 30_120, Kicks: 120, Syscalls: 410_000, SlowPath: 20_511, PayloadCopied: 1_234,
		}},
	}, nil
}

func (f *fakeForwarder) ListPorts(context.Context, *dataplanev1.ListPortsRequest) (*dataplanev1.ListPortsResponse, error) {
	if f.ports != nil {
		return &dataplanev1.ListPortsResponse{Ports: f.ports}, nil
	}
	return &dataplanev1.ListPortsResponse{Ports: []*dataplanev1.PortStatus{
		{Config: hostPort1, Id: 1, Up: true, RxPackets: 9_999, RxBytes: 1_200_000, TxPackets: 10_002, TxBytes: 900_000, Connections: 3},
		{
			Config: clientPort, Id: 2, Up: true, RxPackets: 24_100_000, RxBytes: 30_600_000_000, TxPackets: 24_000_000, TxBytes: 1_600_000_000,
			Drops: 128, Connections: 1_300, QueuePackets: 12, QueueBytes: 18_000, Nbufs: 40, ParkedBytes: 1_310_720,
		},
		{Config: webPort, Id: 5, RxPackets: 24_000_000, RxBytes: 1_600_000_000, TxPackets: 24_100_000, TxBytes: 30_600_000_000, Connections: 7},
	}}, nil
}

func (f *fakeForwarder) ListFlows(req *dataplanev1.ListFlowsRequest, stream grpc.ServerStreamingServer[dataplanev1.Flow]) error {
	if f.listed != nil {
		f.listed <- req
	}
	flows := []*dataplanev1.Flow{
		{
			Original: &dataplanev1.Tuple{Src: "10.42.0.5", Dst: "10.42.0.7", Protocol: 1, SrcPort: 77, DstPort: 8 << 8},
			Reply:    &dataplanev1.Tuple{Src: "10.42.0.7", Dst: "10.42.0.5", Protocol: 1, SrcPort: 77, DstPort: 0},
			InPort:   "knet12c0", OutPort: "knet7f3a", State: "reply seen", Packets: 4, Bytes: 336, ReplyPackets: 4, ReplyBytes: 336,
			IdleNano: int64(300 * time.Millisecond), ExpiresNano: int64(29 * time.Second),
		},
		{
			Original: &dataplanev1.Tuple{Src: "10.42.0.5", Dst: "10.96.0.10", Protocol: 6, SrcPort: 40112, DstPort: 80},
			Reply:    &dataplanev1.Tuple{Src: "10.42.0.7", Dst: "10.42.0.5", Protocol: 6, SrcPort: 8080, DstPort: 40112},
			InPort:   "knet12c0", OutPort: "knet7f3a", State: "established", Packets: 1_204_000, Bytes: 1_800_000_000,
			ReplyPackets: 640_000, ReplyBytes: 33_300_000, ExpiresNano: int64(2 * time.Hour), Rule: "default/web/ingress[0]",
		},
		{
			Original: &dataplanev1.Tuple{Src: "fd00:42::5", Dst: "2001:db8::53", Protocol: 17, SrcPort: 5353, DstPort: 53},
			Reply:    &dataplanev1.Tuple{Src: "2001:db8::53", Dst: "2001:db8::1", Protocol: 17, SrcPort: 53, DstPort: 1053},
			InPort:   "knet12c0", OutPort: "host", State: "one way", Packets: 1, Bytes: 80,
			IdleNano: int64(12 * time.Second), ExpiresNano: int64(18 * time.Second),
		},
	}
	for _, fl := range flows {
		if err := stream.Send(fl); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeForwarder) ListDrops(_ context.Context, req *dataplanev1.ListDropsRequest) (*dataplanev1.ListDropsResponse, error) {
	if f.dropped != nil {
		list, ok := <-f.dropped
		if !ok {
			return nil, status.Error(codes.Unavailable, "shutting down")
		}
		return list, nil
	}
	all := []*dataplanev1.DropCount{
		{Port: "knet12c0", Reason: "policy-ingress", Packets: 112, Description: "a policy of the receiver forbids it; netioctl policy explain says which"},
		{Port: "knet12c0", Reason: "spoofed-source", Packets: 16, Description: "its source address does not belong to the port"},
		{Reason: "unknown-port", Packets: 15_200, Description: "it came from a port that the configuration does not have (any more)"},
	}
	res := &dataplanev1.ListDropsResponse{}
	for _, d := range all {
		if req.GetPort() == "" || d.GetPort() == req.GetPort() {
			res.Drops = append(res.Drops, d)
		}
	}
	return res, nil
}

func (f *fakeForwarder) Explain(_ context.Context, req *dataplanev1.ExplainRequest) (*dataplanev1.ExplainResponse, error) {
	if f.explained != nil {
		f.explained <- req
	}
	start := []*dataplanev1.ExplainStep{
		{Stage: "ingress port", Verdict: "pass", Detail: "knet12c0"},
		{Stage: "anti-spoofing", Verdict: "pass", Detail: "the source belongs to port knet12c0"},
		{Stage: "route", Verdict: "pass", Detail: "to port knet7f3a"},
		{Stage: "egress policy", Verdict: "open", Detail: "no policy covers what knet12c0 sends"},
	}
	if req.GetTuple().GetDstPort() == 8080 {
		return &dataplanev1.ExplainResponse{Verdict: "allow", Steps: append(start,
			&dataplanev1.ExplainStep{Stage: "ingress policy", Verdict: "allow", Rule: "default/web/ingress[0]", Detail: "default/web/ingress[0]: allow, matches"},
		)}, nil
	}
	return &dataplanev1.ExplainResponse{Verdict: "deny", Steps: append(start,
		&dataplanev1.ExplainStep{
			Stage: "ingress policy", Verdict: "deny", Rule: "isolation by default/web",
			Detail: "default/web/ingress[0]: no match, TCP port 80 is not TCP port 8080 or ICMP type 8; isolation by default/web: deny, no rule allows it, and the policy isolates the pod",
		},
		&dataplanev1.ExplainStep{Stage: "ingress policy", Verdict: "drop", Detail: "a policy of the receiver forbids it; netioctl policy explain says which"},
	)}, nil
}

// samplePacket is a SYN from 10.42.0.5:49152 to 10.43.0.9:80.
var samplePacket, _ = hex.DecodeString("45000028000040003f06276e0a2a00050a2b0009c000005000000000000000005002ffffdb2f0000")

// Trace is of a forwarder whose pod web takes port 8080 only.
func (f *fakeForwarder) Trace(_ context.Context, req *dataplanev1.TraceRequest) (*dataplanev1.TraceResponse, error) {
	if f.traced != nil {
		f.traced <- req
	}
	if f.trace != nil {
		return f.trace(req)
	}
	d := req.GetDescription()
	t := proto.CloneOf(d.GetTuple())
	if t.GetSrcPort() == 0 {
		t.SrcPort = 49152
	}
	what := fmt.Sprintf("IPv4 %s %s > %s", strings.ToUpper(protocolName(t.GetProtocol())), source(t), destination(t))
	res := &dataplanev1.TraceResponse{Verdict: "forwarded", Port: "knet12c0", Length: max(40, req.GetLength()), Tuple: t}
	stage := func(stage, verdict, rule, detail string) {
		res.Stages = append(res.Stages, &dataplanev1.TraceStage{Stage: stage, Verdict: verdict, Rule: rule, Detail: detail})
	}
	sent := func(port, src string) {
		out := proto.CloneOf(t)
		out.Src = src
		res.Sent = append(res.Sent, &dataplanev1.TracedPacket{Port: port, Tuple: out, HopLimit: 63, Length: res.Length, Packet: samplePacket})
		stage("transmit", "sent", "", "to port "+port)
	}
	stage("ingress port", "pass", "", "port knet12c0, number 2, a pod's")
	stage("headers", "pass", "", fmt.Sprintf("%s SYN, %d bytes", what, res.GetLength()))
	if t.GetSrc() != "10.42.0.5" {
		stage("anti-spoofing", "drop", "", "its source address does not belong to the port; give the port the address, or look for an impostor")
		res.Verdict, res.Reason = "dropped", "spoofed-source"
		return res, nil
	}
	stage("anti-spoofing", "pass", "", "10.42.0.5 is an address of port knet12c0")
	stage("hop limit", "pass", "", "64 left")
	stage("connection", "new", "", "none has these addresses and ports")
	switch {
	case t.GetDst() == "192.0.2.1", t.GetDst() == "10.44.0.9":
		stage("route", "pass", "", "0.0.0.0/0 to port host")
		stage("egress policy", "open", "", "no policy covers what knet12c0 sends")
		stage("ingress policy", "open", "", "no policy covers what host receives")
		stage("MTU", "pass", "", "40 bytes fit into the 1500 of port host")
		sent("host", t.GetSrc())
	case t.GetDst() == "10.43.0.9":
		stage("route", "pass", "", "10.43.0.0/24 to port tunnel-node-b")
		stage("MTU", "pass", "", "40 bytes fit into the 1450 of port tunnel-node-b")
		sent("tunnel-node-b", t.GetSrc())
		res.Sent[0].Remote, res.Sent[0].Carrier = "172.18.0.3", "host"
	case t.GetDstPort() == 8080:
		stage("route", "pass", "", "10.42.0.7/32 to port knet7f3a")
		stage("egress policy", "open", "", "no policy covers what knet12c0 sends")
		stage("ingress policy", "allow", "default/web/ingress[0]", "default/web/ingress[0]: allow, matches")
		if res.GetLength() > 1450 {
			stage("MTU", "drop", "", fmt.Sprintf("%d bytes do not fit into the 1450 of port knet7f3a", res.GetLength()))
			stage("ICMP error", "sent", "", "10.42.0.5: too big, the MTU is 1450")
			res.Verdict, res.Reason = "dropped", "too-big"
			sent("knet12c0", "10.42.0.1")
			res.Sent[0].Answer = true
			break
		}
		stage("MTU", "pass", "", "40 bytes fit into the 1450 of port knet7f3a")
		sent("knet7f3a", t.GetSrc())
	default:
		stage("route", "pass", "", "10.42.0.7/32 to port knet7f3a")
		stage("egress policy", "open", "", "no policy covers what knet12c0 sends")
		stage("ingress policy", "deny", "isolation by default/web",
			"default/web/ingress[0]: no match, TCP port 80 is not TCP port 8080 or ICMP type 8; isolation by default/web: deny, no rule allows it, and the policy isolates the pod")
		stage("ingress policy", "drop", "", "a policy of the receiver forbids it; netioctl policy explain says which")
		res.Verdict, res.Reason = "dropped", "policy-ingress"
	}
	return res, nil
}

func (f *fakeForwarder) Monitor(req *dataplanev1.MonitorRequest, stream grpc.ServerStreamingServer[dataplanev1.Event]) error {
	if f.monitored != nil {
		f.monitored <- req
	}
	return send(stream, f.events, f.end)
}

func (f *fakeForwarder) Capture(req *dataplanev1.CaptureRequest, stream grpc.ServerStreamingServer[dataplanev1.CapturedPacket]) error {
	if f.captured != nil {
		f.captured <- req
	}
	if f.packets == nil {
		return status.Errorf(codes.ResourceExhausted, "as many streams at once as are allowed")
	}
	return send(stream, f.packets, f.end)
}

func send[T any](stream grpc.ServerStreamingServer[T], list []*T, end error) error {
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for _, m := range list {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	if end == nil {
		<-stream.Context().Done()
	}
	return end
}

func (f *fakeForwarder) Get(context.Context, *dataplanev1.GetRequest) (*dataplanev1.Snapshot, error) {
	typ := uint32(8)
	return &dataplanev1.Snapshot{
		Revision: 42,
		Settings: &dataplanev1.Settings{Ipv4: "10.42.0.1"},
		Ports:    []*dataplanev1.Port{hostPort1, clientPort, webPort},
		Policies: []*dataplanev1.Policy{
			{
				Name: "default/web", IsolatesIngress: true,
				Ingress: []*dataplanev1.Rule{
					{
						Name: "ingress[0]", Tier: 2, Priority: 100, Action: dataplanev1.Action_ALLOW, Peers: []string{"default: app=client", "entity:host"},
						L4: []*dataplanev1.L4Match{{Protocol: 6, FirstPort: 8080}, {Protocol: 17, FirstPort: 5000, LastPort: 5100}, {Protocol: 1, IcmpType: &typ}},
					},
					{Name: "ingress[1]", Tier: 2, Priority: 100, Action: dataplanev1.Action_DENY, Log: true, Peers: []string{"entity:world"}},
				},
			},
			{Name: "default/trace", Audit: true, Egress: []*dataplanev1.Rule{{Name: "egress[0]", Tier: 2, Priority: 100, Action: dataplanev1.Action_PASS}}},
		},
	}, nil
}

// fakeAgent answers with fixed data.
type fakeAgent struct {
	agentv1.UnimplementedAgentServer
}

func (fakeAgent) Info(context.Context, *agentv1.InfoRequest) (*agentv1.InfoResponse, error) {
	return &agentv1.InfoResponse{
		Version: "v0.1.0", Node: "node-a", Mode: "standalone", StartedUnixNano: ago(50 * time.Hour), Endpoints: 3, Policies: 2, Revision: 42,
		Problems: []*agentv1.Problem{{
			Source: "/etc/netio/manifests/db.yaml:14", Message: `spec.ingress[0].action: "Permit": expected Allow or Deny`, SinceUnixNano: ago(200 * time.Second),
		}},
		Pools: []*agentv1.PoolInfo{
			{Cidr: "10.42.0.0/24", Size: 253, Used: 3, Cooling: 1},
			{Cidr: "fd00:42::/64", Size: 1 << 63, Used: 3},
		},
	}, nil
}

func (fakeAgent) ListEndpoints(context.Context, *agentv1.ListEndpointsRequest) (*agentv1.ListEndpointsResponse, error) {
	endpoint := func(namespace, name, container, port string, labels map[string]string, addresses, policies []string) *agentv1.Endpoint {
		return &agentv1.Endpoint{
			Id:   &agentv1.AttachmentID{Network: "netio", ContainerId: container, Ifname: "eth0"},
			Port: port, Namespace: namespace, Name: name, Labels: labels, Addresses: addresses, Netns: "/run/netns/" + name, Policies: policies,
		}
	}
	return &agentv1.ListEndpointsResponse{Endpoints: []*agentv1.Endpoint{
		endpoint("default", "client", "12c0", "knet12c0", map[string]string{"app": "client"}, []string{"10.42.0.5", "fd00:42::5"}, []string{"default/trace"}),
		endpoint("default", "web", "7f3a", "knet7f3a", map[string]string{"app": "web", "tier": "front"}, []string{"10.42.0.7/32", "fd00:42::7/128"}, []string{"default/web"}),
		endpoint("staging", "web", "99aa", "knet99aa", nil, []string{"10.42.0.9"}, nil),
	}}, nil
}

// bed is a netioctl with fake daemons.
type bed struct {
	*app
	out, errOut bytes.Buffer
	dir         string
	hostSource  netip.Addr // that the host sends with, if it is valid
}

// newBed starts the daemons that are not nil.
func newBed(t *testing.T, fw *fakeForwarder, withAgent bool) *bed {
	t.Helper()
	b := &bed{dir: t.TempDir()}
	t.Setenv(RunDirEnv, b.dir)
	if fw != nil {
		serveFake(t, filepath.Join(b.dir, "forwarder.sock"), func(s *grpc.Server) {
			dataplanev1.RegisterObservationServer(s, fw)
			dataplanev1.RegisterConfigurationServer(s, fw)
		})
	}
	if withAgent {
		serveFake(t, filepath.Join(b.dir, "agent.sock"), func(s *grpc.Server) { agentv1.RegisterAgentServer(s, fakeAgent{}) })
	}
	b.app = newApp("v0.1.0", &b.out, &b.errOut)
	b.zone = time.UTC
	b.completionTimeout = time.Minute // the machine may be busy
	b.now = func() time.Time { return fakeNow }
	b.hostRoute = func(a netip.Addr) (hostRoute, error) {
		via := netip.MustParseAddr("172.18.0.1")
		if neighbours := netip.MustParsePrefix("10.44.0.0/24"); neighbours.Contains(a) {
			via = netip.MustParseAddr("172.18.0.4")
		}
		return hostRoute{text: fmt.Sprintf("%s by %s on eth0", a, via), src: b.hostSource, via: via}, nil
	}
	return b
}

func serveFake(t *testing.T, socket string, register func(*grpc.Server)) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	go s.Serve(l)
	t.Cleanup(s.Stop)
}

// do runs a command line and returns its exit code.
func (b *bed) do(t *testing.T, args ...string) int {
	t.Helper()
	b.out.Reset()
	b.errOut.Reset()
	b.format = formatTable
	return b.run(t.Context(), args)
}
