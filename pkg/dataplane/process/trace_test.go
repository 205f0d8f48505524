// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// TestTrace asks a running forwarder for the way of packets while a stream goes
// through it: what it says is what the stream and its connections show, and the
// stream loses nothing.
func TestTrace(t *testing.T) {
	b := newBed(t)
	b.wire()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := b.stream(ctx, "10.77.0.2")
	_, conn := b.dial()
	o, c := dataplanev1.NewObservationClient(conn), dataplanev1.NewConfigurationClient(conn)
	flow := b.flow(ctx, o)

	_, err := c.Apply(ctx, &dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Delta{Delta: &dataplanev1.Delta{
		BaseRevision: 7, Revision: 8,
		DestinationNats: []*dataplanev1.DestinationNat{{
			Name: "shop", Address: "10.77.100.1", Protocol: 6, Port: 80, Backends: []*dataplanev1.Backend{{Address: "10.77.0.2", Port: flow.GetOriginal().GetDstPort()}},
		}},
		Policies: []*dataplanev1.Policy{{Name: "closed", IsolatesIngress: true, Ingress: []*dataplanev1.Rule{
			{Name: "tcp", Action: dataplanev1.Action_ALLOW, L4: []*dataplanev1.L4Match{{Protocol: 6}}},
		}}},
		Ports: []*dataplanev1.Port{{
			Name: b.b, Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/" + b.b, Addresses: []string{"10.77.0.2", "fd77::2"}, Policies: []string{"closed"},
		}},
	}}})
	if err != nil {
		t.Fatal(err)
	}

	// The stream's connection is judged by the new configuration.
	for before, deadline := s.received.Load(), time.After(30*time.Second); s.received.Load() < before+1<<20/8; {
		select {
		case err := <-s.err:
			t.Fatal(err)
		case <-deadline:
			t.Fatal("the stream stands still")
		case <-time.After(time.Millisecond):
		}
	}

	from := func(dst string, proto, sport, dport uint32, more func(*dataplanev1.TraceRequest)) *dataplanev1.TraceRequest {
		req := &dataplanev1.TraceRequest{Port: b.a, What: &dataplanev1.TraceRequest_Description{Description: &dataplanev1.PacketDescription{
			Tuple: &dataplanev1.Tuple{Src: "10.77.0.1", Dst: dst, Protocol: proto, SrcPort: sport, DstPort: dport}, TcpFlags: 2, DontFragment: true,
		}}}
		if more != nil {
			more(req)
		}
		return req
	}
	for name, x := range map[string]struct {
		req             *dataplanev1.TraceRequest
		verdict, reason string
		stage           string // "stage verdict rule" that must be there
	}{
		"a new connection": {from("10.77.0.2", 6, 0, 81, nil), "forwarded", "", "ingress policy allow closed/tcp"},
		"that of the stream": {from("10.77.0.2", 6, flow.GetOriginal().GetSrcPort(), flow.GetOriginal().GetDstPort(), func(r *dataplanev1.TraceRequest) {
			r.GetDescription().TcpFlags = 0x10
		}), "forwarded", "", "connection known closed/tcp"},
		"a service":           {from("10.77.100.1", 6, 0, 80, nil), "forwarded", "", "destination NAT pass shop"},
		"a service's no port": {from("10.77.100.1", 6, 0, 81, nil), "dropped", "no-backend", "ICMP error sent"},
		"against a policy":    {from("10.77.0.2", 17, 0, 53, nil), "dropped", "policy-ingress", "ingress policy deny isolation by closed"},
		"an address that is not its own": {from("10.77.0.2", 6, 0, 81, func(r *dataplanev1.TraceRequest) {
			r.GetDescription().Tuple.Src = "10.77.0.9"
		}), "dropped", "spoofed-source", "anti-spoofing drop"},
		"no route": {from("10.99.0.1", 6, 0, 81, nil), "dropped", "no-route", "route drop"},
		"too big":  {from("10.77.0.2", 6, 0, 81, func(r *dataplanev1.TraceRequest) { r.Length = 1501 }), "dropped", "too-big", "ICMP error sent"},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := o.Trace(ctx, x.req)
			if err != nil {
				t.Fatal(err)
			}
			var stages []string
			for _, s := range res.GetStages() {
				stages = append(stages, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.GetStage(), s.GetVerdict(), s.GetRule())))
			}
			if res.GetVerdict() != x.verdict || res.GetReason() != x.reason || !slices.Contains(stages, x.stage) {
				t.Errorf("%s %s, want %s %s with %q:\n%s", res.GetVerdict(), res.GetReason(), x.verdict, x.reason, x.stage, strings.Join(stages, "\n"))
			}
			if x.verdict == "forwarded" && res.GetSent()[0].GetPort() != b.b {
				t.Errorf("sent to port %s", res.GetSent()[0].GetPort())
			}
		})
	}

	// Traces upon traces, and the stream goes on.
	var times []time.Duration
	for begin, before := time.Now(), s.received.Load(); len(times) < 300 || s.received.Load() == before; {
		start := time.Now()
		if _, err := o.Trace(ctx, from("10.77.100.1", 6, 0, 80, nil)); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
		if len(s.err) > 0 {
			t.Fatalf("the stream: %v", <-s.err)
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("%d traces, and the stream stands still", len(times))
		}
	}
	slices.Sort(times)
	t.Logf("%d traces under load, median %v, longest %v", len(times), times[len(times)/2], times[len(times)-1])
	if n := len(b.flows(ctx, o)); n != 1 {
		t.Errorf("%d connections after the traces, want the stream's", n)
	}
	drops, err := o.ListDrops(ctx, &dataplanev1.ListDropsRequest{Port: b.a})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drops.GetDrops() {
		if d.GetReason() == "policy-ingress" || d.GetReason() == "spoofed-source" || d.GetReason() == "too-big" {
			t.Errorf("a trace was counted: %v", d)
		}
	}
	// What was said of the service is so.
	l := inNetns(t, b.b, func() (net.Listener, error) {
		return net.Listen("tcp", net.JoinHostPort("10.77.0.2", fmt.Sprint(flow.GetOriginal().GetDstPort())))
	})
	defer l.Close()
	inNetns(t, b.a, func() (net.Conn, error) { return net.DialTimeout("tcp", "10.77.100.1:80", 10*time.Second) }).Close()
}

// flow is the connection of the only stream.
func (b *bed) flow(ctx context.Context, o dataplanev1.ObservationClient) *dataplanev1.Flow {
	b.t.Helper()
	list := b.flows(ctx, o)
	if len(list) != 1 {
		b.t.Fatalf("%d connections, want the stream's: %v", len(list), list)
	}
	return list[0]
}

// flows are the TCP connections between the pods.
func (b *bed) flows(ctx context.Context, o dataplanev1.ObservationClient) []*dataplanev1.Flow {
	b.t.Helper()
	stream, err := o.ListFlows(ctx, &dataplanev1.ListFlowsRequest{Filter: &dataplanev1.Filter{Protocol: 6}})
	if err != nil {
		b.t.Fatal(err)
	}
	var list []*dataplanev1.Flow
	for {
		f, err := stream.Recv()
		if err != nil {
			return list
		}
		list = append(list, f)
	}
}
