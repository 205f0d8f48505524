// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// deaf leaves a socket that nothing listens on.
func deaf(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestConnectionErrorsSayWhatToLookAt(t *testing.T) {
	b := newBed(t, nil, false)
	deaf(t, filepath.Join(b.dir, "dead.sock"))
	for args, want := range map[string]string{
		"ports": "the forwarder has no socket at " + filepath.Join(b.dir, "forwarder.sock") +
			": start it (netio-agent forward), or say where its socket is with --forwarder or NETIO_RUN_DIR",
		"endpoints": "the agent has no socket at " + filepath.Join(b.dir, "agent.sock") +
			": start it (netio-agent), or say where its socket is with --agent or NETIO_RUN_DIR",
		"drops --forwarder " + filepath.Join(b.dir, "dead.sock"): "nothing listens on the forwarder's socket " + filepath.Join(b.dir, "dead.sock"),
		"monitor": "the forwarder has no socket at",
		"capture --forwarder /nonexistent/f.sock x": "/nonexistent/f.sock",
		"flows": "the forwarder has no socket at",
		"config --forwarder " + filepath.Join(b.dir, strings.Repeat("x", 200)): "connect to the forwarder: ",
	} {
		if code := b.do(t, strings.Fields(args)...); code != exitError || !strings.Contains(b.errOut.String(), want) {
			t.Errorf("%s: exit code %d, %q; want %q", args, code, b.errOut.String(), want)
		}
	}
}

func TestPermissionError(t *testing.T) {
	d := &daemon{name: "agent", socket: "/run/netio/agent.sock"}
	got := d.explainDial(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", os.ErrPermission)})
	if want := "no permission to open the agent's socket /run/netio/agent.sock: run netioctl as root"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A status without a forwarder is an error, but says what the agent knows.
func TestStatusWithoutForwarder(t *testing.T) {
	b := newBed(t, nil, true)
	if code := b.do(t, "status"); code != exitError || !strings.Contains(b.out.String(), "node-a") {
		t.Errorf("exit code %d: %s", code, b.out.String())
	}
	if code := b.do(t, "status", "-o", "json"); code != exitError || !strings.Contains(b.out.String(), `"forwarderError": "the forwarder has no socket`) {
		t.Errorf("exit code %d: %s", code, b.out.String())
	}
}

// oddForwarder fails in the ways that a forwarder can.
type oddForwarder struct {
	dataplanev1.UnimplementedObservationServer
	err error
}

func (f oddForwarder) ListDrops(ctx context.Context, _ *dataplanev1.ListDropsRequest) (*dataplanev1.ListDropsResponse, error) {
	if f.err == nil {
		<-ctx.Done() // hangs
		return nil, ctx.Err()
	}
	return nil, f.err
}

func TestRequestErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		args string
		want string
	}{
		{"hanging", nil, "drops --timeout 50ms", "the forwarder did not answer within 50ms; look at its log, or wait longer with --timeout"},
		{"older", nil, "ports", "the forwarder does not know this request"},
		{"going", status.Error(codes.Unavailable, "shutting down"), "drops", "the forwarder has gone away: shutting down"},
		{"refusing", status.Error(codes.NotFound, `no port "x"`), "drops", `forwarder: no port "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, nil, false)
			serveFake(t, filepath.Join(b.dir, "forwarder.sock"), func(s *grpc.Server) {
				dataplanev1.RegisterObservationServer(s, oddForwarder{err: c.err})
			})
			if code := b.do(t, strings.Fields(c.args)...); code != exitError || !strings.Contains(b.errOut.String(), c.want) {
				t.Errorf("exit code %d, %q; want %q", code, b.errOut.String(), c.want)
			}
		})
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	b := newBed(t, nil, false)
	serveFake(t, filepath.Join(b.dir, "agent.sock"), func(s *grpc.Server) {
		agentv1.RegisterAgentServer(s, agentv1.UnimplementedAgentServer{})
	})
	b.agentSocket, b.timeout = filepath.Join(b.dir, "agent.sock"), 1<<40
	g, err := b.agent()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := g.Info(t.Context(), &agentv1.InfoRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("code %v of %v", status.Code(err), err)
	}
}

func TestTimeoutMustBePositive(t *testing.T) {
	b := newBed(t, nil, false)
	if code := b.do(t, "ports", "--timeout", "0s"); code != exitUsage || !strings.Contains(b.errOut.String(), "--timeout") {
		t.Errorf("exit code %d, %q", code, b.errOut.String())
	}
}
