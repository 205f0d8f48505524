// SPDX-License-Identifier: Apache-2.0

package policylog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// fake is a forwarder whose streams the test feeds.
type fake struct {
	dataplanev1.ObservationClient
	opened, closed int
	events         chan *dataplanev1.Event // nil: the stream breaks off
}

type stream struct {
	grpc.ServerStreamingClient[dataplanev1.Event]
	ctx context.Context
	f   *fake
}

func (f *fake) Monitor(ctx context.Context, r *dataplanev1.MonitorRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[dataplanev1.Event], error) {
	if !r.GetFilter().GetLogged() {
		return nil, errors.New("asked for more than what is logged")
	}
	f.opened++
	return &stream{ctx: ctx, f: f}, nil
}

func (s *stream) Recv() (*dataplanev1.Event, error) {
	select {
	case ev := <-s.f.events:
		if ev == nil {
			s.f.closed++
			return nil, io.EOF
		}
		return ev, nil
	case <-s.ctx.Done():
		s.f.closed++
		return nil, s.ctx.Err()
	}
}

func logger(to io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestLines(t *testing.T) {
	tuple := func(protocol, sport, dport uint32) *dataplanev1.Tuple {
		return &dataplanev1.Tuple{Src: "10.0.0.1", Dst: "fd00::2", Protocol: protocol, SrcPort: sport, DstPort: dport}
	}
	for _, test := range []struct {
		name string
		ev   *dataplanev1.Event
		want []string
	}{
		{"denied", &dataplanev1.Event{Verdict: "deny", Rule: "shop/web/ingress[1]", Tuple: tuple(6, 40112, 80), InPort: "cart", OutPort: "web"},
			[]string{`level=INFO msg=policy verdict=deny rule=shop/web/ingress[1] protocol=tcp source=10.0.0.1:40112 destination=[fd00::2]:80 from=cart to=web`}},
		{"ping", &dataplanev1.Event{Verdict: "allow", Tuple: tuple(58, 7, 128<<8)},
			[]string{`level=INFO msg=policy verdict=allow protocol="icmpv6 128/0" source=10.0.0.1 destination=fd00::2`}},
		{"another protocol", &dataplanev1.Event{Verdict: "allow", Tuple: tuple(47, 0, 0)},
			[]string{`level=INFO msg=policy verdict=allow protocol=47 source=10.0.0.1 destination=fd00::2`}},
		{"loss", &dataplanev1.Event{Lost: 12}, []string{`level=WARN msg="policy verdicts came too fast to be logged" lost=12`}},
		{"loss before an event", &dataplanev1.Event{Lost: 1, Verdict: "audit", Tuple: tuple(17, 1, 2)}, []string{
			`level=WARN msg="policy verdicts came too fast to be logged" lost=1`,
			`level=INFO msg=policy verdict=audit protocol=udp source=10.0.0.1:1 destination=[fd00::2]:2`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			New(nil, logger(&out)).write(t.Context(), test.ev)
			if got, want := out.String(), strings.Join(test.want, "\n")+"\n"; got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

// TestFollow: the forwarder is watched only while a rule asks for it, and again
// after the stream broke off.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := &fake{events: make(chan *dataplanev1.Event)}
		var out bytes.Buffer
		l := New(f, logger(&out))
		go l.Run(ctx)
		expect := func(opened, closed int) {
			t.Helper()
			synctest.Wait()
			if f.opened != opened || f.closed != closed {
				t.Fatalf("%d streams opened and %d closed, want %d and %d", f.opened, f.closed, opened, closed)
			}
		}
		l.Want(false)
		expect(0, 0)
		l.Want(true)
		l.Want(true)
		expect(1, 0)
		f.events <- &dataplanev1.Event{Verdict: "allow", Tuple: &dataplanev1.Tuple{}}
		f.events <- nil
		time.Sleep(2 * retry)
		expect(2, 1)
		l.Want(false)
		expect(2, 2)
		l.Want(true)
		expect(3, 2)
		cancel()
		expect(3, 3)
		if n := strings.Count(out.String(), "msg=policy"); n != 1 {
			t.Errorf("%d lines, want 1: %s", n, out.String())
		}
	})
}
