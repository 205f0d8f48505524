// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"io"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func (a *app) dropsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "drops [PORT]",
		Short: "Show how many packets were dropped, and why",
		Long: `Show how many packets were dropped, and why, by the port that they came from.
"-" stands for ports that are gone.`,
		Args:              arguments(0, 1, "at most one port name"),
		ValidArgsFunction: first(a.completePorts),
		RunE: func(cmd *cobra.Command, args []string) error {
			fw, err := a.forwarder()
			if err != nil {
				return err
			}
			defer fw.Close()
			req := &dataplanev1.ListDropsRequest{}
			if len(args) == 1 {
				if req.Port, err = a.portName(cmd.Context(), fw, args[0]); err != nil {
					return err
				}
			}
			list, err := fw.ListDrops(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) error {
				t := newTable(left("PORT", "REASON"), right("PACKETS"), left("MEANING"))
				for _, d := range list.GetDrops() {
					t.add(d.GetPort(), d.GetReason(), count(d.GetPackets()), d.GetDescription())
				}
				return t.write(w)
			})
		},
	}
}
