// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"os"

	"github.com/spf13/cobra"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// probeName is the command that pods of a connectivity test run.
const probeName = "probe"

func (a *app) probeCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:    probeName,
		Short:  "What the pods of a connectivity test run",
		Hidden: true,
	})
	var name string
	var port uint16
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Say who is asked, and from which address, by TCP and UDP",
		Args:  arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				var err error
				if name, err = os.Hostname(); err != nil {
					return err
				}
			}
			return probe.Serve(cmd.Context(), name, port)
		},
	}
	serve.Flags().StringVar(&name, "name", "", "name to answer with; without it, the host's")
	serve.Flags().Uint16Var(&port, "port", 8080, "TCP and UDP port")
	ask := &cobra.Command{
		Use:   "ask",
		Short: "Ask the questions of the standard input, a JSON array, and print the answers",
		Args:  arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return probe.Ask(cmd.Context(), cmd.InOrStdin(), a.out)
		},
	}
	cmd.AddCommand(serve, ask)
	return cmd
}
