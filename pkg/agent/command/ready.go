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
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/socket"
)

// readyPatience is how long an agent that runs may take to answer.
const readyPatience = 3 * time.Second

func readyCommand() *cobra.Command {
	var path string
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
				conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
				if err != nil {
					return nil, err
				}
				peer, err := socket.Peer(conn.(*net.UnixConn))
				if err != nil {
					return nil, errors.Join(err, conn.Close())
				}
				elsewhere = peer.Pid == 0 // a container's number is none of another's
				return conn, nil
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
	cmd.Flags().StringVar(&path, "socket", filepath.Join(config.DefaultRunDir, "agent.sock"), "the agent's socket, a `FILE`")
	return cmd
}
