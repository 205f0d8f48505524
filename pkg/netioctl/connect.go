// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// daemon is the other end of a connection, in words for people.
type daemon struct {
	name    string // "forwarder"
	start   string // how it is started
	flag    string // the flag that names its socket
	socket  string
	dial    func(context.Context) (net.Conn, error)
	timeout time.Duration
	dialErr atomic.Pointer[error] // of the last attempt
}

// forwarder is a connection to the forwarder. Its errors are for people.
type forwarder struct {
	dataplanev1.ObservationClient
	dataplanev1.ConfigurationClient
	conn *grpc.ClientConn
}

func (f *forwarder) Close() { f.conn.Close() }

func (a *app) forwarder() (*forwarder, error) {
	dial, err := a.dialer(a.forwarderSocket)
	if err != nil {
		return nil, err
	}
	conn, err := (&daemon{
		name: "forwarder", start: "netio-agent forward", flag: "--forwarder", socket: a.forwarderSocket, dial: dial, timeout: a.timeout,
	}).connect()
	if err != nil {
		return nil, err
	}
	return &forwarder{dataplanev1.NewObservationClient(conn), dataplanev1.NewConfigurationClient(conn), conn}, nil
}

// agent is a connection to the agent. Its errors are for people.
type agent struct {
	agentv1.AgentClient
	conn *grpc.ClientConn
}

func (g *agent) Close() { g.conn.Close() }

func (a *app) agent() (*agent, error) {
	dial, err := a.dialer(a.agentSocket)
	if err != nil {
		return nil, err
	}
	conn, err := (&daemon{
		name: "agent", start: "netio-agent", flag: "--agent", socket: a.agentSocket, dial: dial, timeout: a.timeout,
	}).connect()
	if err != nil {
		return nil, err
	}
	return &agent{agentv1.NewAgentClient(conn), conn}, nil
}

// both connects to both; close ends both connections.
func (a *app) both() (fw *forwarder, g *agent, close func(), err error) {
	if fw, err = a.forwarder(); err != nil {
		return nil, nil, nil, err
	}
	if g, err = a.agent(); err != nil {
		fw.Close()
		return nil, nil, nil, err
	}
	return fw, g, func() { g.Close(); fw.Close() }, nil
}

// connect makes the client side; the socket is opened by the first request.
func (d *daemon) connect() (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := d.dial(ctx)
		if err != nil {
			d.dialErr.Store(&err)
		}
		return conn, err
	}
	conn, err := grpc.NewClient("passthrough:///"+d.name,
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Captures are bulk data; a window of 64 KiB holds one packet.
		grpc.WithInitialWindowSize(8<<20),
		grpc.WithInitialConnWindowSize(16<<20),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)), // tens of thousands of ports
		grpc.WithUnaryInterceptor(d.unary),
		grpc.WithStreamInterceptor(d.stream),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the %s: %w", d.name, err)
	}
	return conn, nil
}

// unary bounds the time of a request and explains its error.
func (d *daemon) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	return d.explain(invoke(ctx, method, req, reply, cc, opts...))
}

func (d *daemon) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, d.explain(err)
	}
	return &explainedStream{s, d}, nil
}

// explainedStream explains the errors of a stream.
type explainedStream struct {
	grpc.ClientStream
	d *daemon
}

func (s *explainedStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, s.d.explain(err)
}

func (s *explainedStream) RecvMsg(m any) error { return s.d.explain(s.ClientStream.RecvMsg(m)) }

// rpcError is a request's error in words that say what to look at. It unwraps
// to the original one, so that its gRPC code can be asked for.
type rpcError struct {
	text string
	err  error
}

func (e *rpcError) Error() string { return e.text }
func (e *rpcError) Unwrap() error { return e.err }

func (d *daemon) explain(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	st := status.Convert(err)
	text := fmt.Sprintf("%s: %s", d.name, st.Message())
	switch st.Code() {
	case codes.Unavailable:
		if dialErr := d.dialErr.Load(); dialErr != nil {
			text = d.explainDial(*dialErr)
		} else {
			text = fmt.Sprintf("the %s has gone away: %s", d.name, st.Message())
		}
	case codes.Unimplemented:
		text = fmt.Sprintf("the %s does not know this request (%s); compare the versions with: netioctl version", d.name, st.Message())
	case codes.DeadlineExceeded:
		text = fmt.Sprintf("the %s did not answer within %v; look at its log, or wait longer with --timeout", d.name, d.timeout)
	}
	return &rpcError{text, err}
}

func (d *daemon) explainDial(err error) string {
	var far *remoteError
	switch {
	case errors.As(err, &far):
		return far.Error()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("the %s has no socket at %s: start it (%s), or say where its socket is with %s or %s",
			d.name, d.socket, d.start, d.flag, RunDirEnv)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("no permission to open the %s's socket %s: run netioctl as root", d.name, d.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens on the %s's socket %s: it has died, or is just starting; look at its log",
			d.name, d.socket)
	}
	return fmt.Sprintf("connect to the %s: %v", d.name, err)
}
