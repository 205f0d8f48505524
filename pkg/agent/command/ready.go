// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/agent/config"
)

// readyPatience is how long an agent that runs may take to answer.
const readyPatience = 3 * time.Second

func readyCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "ready [--socket FILE]",
		Short: "Tell whether the agent that runs can give pods their network",
		Long: `Tell whether the agent that runs can give pods their network: by the exit
code, 0 if it can, and in words if it cannot. It is what kubelet asks. An agent
of another container, as while one takes over from another, is not meant.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			elsewhere := false
			dial := func(ctx context.Context, _ string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
				if err == nil {
					elsewhere, err = isElsewhere(conn.(*net.UnixConn))
				}
				return conn, err
			}
			conn, err := grpc.NewClient("passthrough:///agent", grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return fmt.Errorf("reach the agent: %w", err)
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), readyPatience)
			defer cancel()
			if _, err := agentv1.NewCNIClient(conn).Status(ctx, &agentv1.StatusRequest{}); err != nil {
				return fmt.Errorf("not ready: %s", status.Convert(err).Message())
			}
			if elsewhere {
				return errors.New("not ready: the agent of another container serves this node")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "socket", filepath.Join(config.DefaultRunDir, "agent.sock"), "the agent's socket, a `FILE`")
	return cmd
}

// isElsewhere tells whether the process at the other end is in a PID namespace that is
// not this one's: it has no number here (unix(7), SO_PEERCRED).
func isElsewhere(conn *net.UnixConn) (bool, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("find who serves: %w", err)
	}
	var peer *unix.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) { peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return false, fmt.Errorf("find who serves: %w", err)
	}
	if perr != nil {
		return false, fmt.Errorf("find who serves: %w", perr)
	}
	return peer.Pid == 0, nil
}
