// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// agent is a connection to the agent.
type agent struct {
	agentv1.CNIClient
	conn *grpc.ClientConn
}

var errBroken = errors.New("the connection broke")

const (
	// restartTime is how long an ADD waits for an agent that is away: one that is
	// being restarted is back by then. To fail would cost the runtime a sandbox, and
	// the pod the runtime's pause before it tries again.
	restartTime = 5 * time.Second
	// redial is the pause between two looks.
	redial = 50 * time.Millisecond
)

// await connects to an agent that may be about to start.
func await(ctx context.Context, patience time.Duration, connect func(context.Context) (*agent, error)) (*agent, error) {
	end := time.Now().Add(patience)
	for {
		a, err := connect(ctx)
		if err == nil || !time.Now().Before(end) {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, err
		case <-time.After(redial):
		}
	}
}

// connect opens the agent's socket itself, rather than let gRPC do it with the
// first call: if it fails, nothing has been asked of the agent and nothing need
// be undone.
func (c *config) connect(ctx context.Context) (*agent, error) {
	var d net.Dialer
	socket, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, fail(types.ErrTryAgainLater, "netio-agent is not reachable: %v; is it running, and is agentSocket right?", err)
	}
	var used atomic.Bool
	conn, err := grpc.NewClient("passthrough:///netio-agent",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errBroken
			}
			return socket, nil
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		socket.Close()
		return nil, fail(types.ErrInternal, "set up the connection to netio-agent: %v", err)
	}
	return &agent{agentv1.NewCNIClient(conn), conn}, nil
}

func (a *agent) close() { _ = a.conn.Close() }
