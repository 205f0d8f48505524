// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

type observation struct {
	dataplanev1.UnimplementedObservationServer
	events   *Events
	captures *Captures
}

func (o observation) Monitor(req *dataplanev1.MonitorRequest, stream grpc.ServerStreamingServer[dataplanev1.Event]) error {
	return o.events.Monitor(req, stream)
}

func (o observation) Capture(req *dataplanev1.CaptureRequest, stream grpc.ServerStreamingServer[dataplanev1.CapturedPacket]) error {
	return o.captures.Capture(req, stream)
}

// serve returns a client of a forwarder that has nothing but these two.
func serve(t *testing.T, e *Events, c *Captures) dataplanev1.ObservationClient {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	srv := grpc.NewServer()
	dataplanev1.RegisterObservationServer(srv, observation{events: e, captures: c})
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///forwarder",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return dataplanev1.NewObservationClient(conn)
}

func TestMonitorStream(t *testing.T) {
	e, c := newTestEvents(nil), newTestCaptures(nil)
	client := serve(t, e, c)
	stream, err := client.Monitor(t.Context(), &dataplanev1.MonitorRequest{Filter: &dataplanev1.Filter{Verdict: "deny"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	e.Worker(1).Emit(&sampleRecord)
	ev, err := stream.Recv()
	if err != nil || ev.GetRule() != "rule-4-7-1-2" {
		t.Errorf("got %v, %v", ev, err)
	}
	e.Close()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}

func TestCaptureStream(t *testing.T) {
	e, c := newTestEvents(nil), newTestCaptures(nil)
	client := serve(t, e, c)
	stream, err := client.Capture(t.Context(), &dataplanev1.CaptureRequest{Port: "p1", SnapLength: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	c.Tap(0).Deliver(1, false, 7, 5, []byte("abcde"))
	p, err := stream.Recv()
	if err != nil || string(p.GetData()) != "abc" || p.GetLength() != 5 {
		t.Errorf("got %v, %v", p, err)
	}
	c.PortGone(1)
	if _, err := stream.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("after PortGone: %v", err)
	}
}

// A client that goes away ends what it asked for.
func TestStreamsEndWithTheirClient(t *testing.T) {
	e, c := newTestEvents(nil), newTestCaptures(nil)
	client := serve(t, e, c)
	ctx, cancel := context.WithCancel(t.Context())
	monitor, err := client.Monitor(ctx, &dataplanev1.MonitorRequest{})
	if err != nil {
		t.Fatal(err)
	}
	capture, err := client.Capture(ctx, &dataplanev1.CaptureRequest{Port: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := monitor.Header(); err != nil {
		t.Fatal(err)
	}
	if _, err := capture.Header(); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	sub := e.subs[0]
	e.mu.Unlock()
	c.mu.Lock()
	session := c.sessions[0]
	c.mu.Unlock()
	cancel()
	<-sub.done
	<-session.done
	if e.Worker(0).Active() || c.Tap(0).Want(1) {
		t.Error("the workers still work for a client that is gone")
	}
}

func TestStreamErrors(t *testing.T) {
	e, c := newTestEvents(nil), newTestCaptures(nil)
	client := serve(t, e, c)
	monitor := func(f *dataplanev1.Filter) error {
		s, err := client.Monitor(t.Context(), &dataplanev1.MonitorRequest{Filter: f})
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}
	capture := func(port string) error {
		s, err := client.Capture(t.Context(), &dataplanev1.CaptureRequest{Port: port})
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}
	for _, test := range []struct {
		name string
		err  error
		code codes.Code
		text string
	}{
		{"bad filter", monitor(&dataplanev1.Filter{Address: "nowhere"}), codes.InvalidArgument, `address is "nowhere"`},
		{"unknown port", capture("nobody"), codes.NotFound, `"nobody"`},
	} {
		if status.Code(test.err) != test.code || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("%s: %v, want %v with %q", test.name, test.err, test.code, test.text)
		}
	}
}
