// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "config",
		Short:             "Print the configuration that is in force in the forwarder",
		Long:              "Print the configuration that is in force in the forwarder, as YAML or JSON.",
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fw, err := a.forwarder()
			if err != nil {
				return err
			}
			defer fw.Close()
			snap, err := fw.Get(cmd.Context(), &dataplanev1.GetRequest{})
			if err != nil {
				return err
			}
			if a.format == formatTable {
				a.format = formatYAML
			}
			return a.print(snap, nil)
		},
	}
}
