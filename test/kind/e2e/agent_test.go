// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/agent/socket"
	"netio.dev/netio/test/kind/node"
)

// agentOf connects to the agent of a node.
func agentOf(t *testing.T, nodeName string) agentv1.AgentClient {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+nodePath(t, nodeName, node.AgentSocket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return agentv1.NewAgentClient(conn)
}

func nodePath(t *testing.T, nodeName, path string) string {
	t.Helper()
	there, err := under.NodePath(nodeName, path)
	if err != nil {
		t.Fatal(err)
	}
	return there
}

// listener is the process, by this machine's numbers, that listens at a unix
// socket.
func listener(path string) (int, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	peer, err := socket.Peer(conn.(*net.UnixConn))
	if err != nil {
		return 0, err
	}
	return int(peer.Pid), nil
}

// killListener kills the process that listens at a socket, and waits for its
// successor.
func killListener(t *testing.T, path string) {
	t.Helper()
	old, err := listener(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "successor at "+path, func(context.Context) error {
		pid, err := listener(path)
		if err == nil && pid == old {
			err = fmt.Errorf("process %d still listens", old)
		}
		return err
	})
}
