// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
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
code, 0 if it can, and in words if it cannot. It is what kubelet asks.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return fmt.Errorf("reach the agent: %w", err)
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), readyPatience)
			defer cancel()
			if _, err := agentv1.NewCNIClient(conn).Status(ctx, &agentv1.StatusRequest{}); err != nil {
				return fmt.Errorf("not ready: %s", status.Convert(err).Message())
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "socket", filepath.Join(config.DefaultRunDir, "agent.sock"), "the agent's socket, a `FILE`")
	return cmd
}
