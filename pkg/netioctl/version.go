// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// versionDoc is what version prints as JSON. What did not answer is left out.
type versionDoc struct {
	Netioctl   string `json:"netioctl"`
	Forwarder  string `json:"forwarder,omitempty"`
	ABIVersion string `json:"abiVersion,omitempty"`
	Agent      string `json:"agent,omitempty"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Show the versions of netioctl, the forwarder and the agent",
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fw, g, end, err := a.both()
			if err != nil {
				return err
			}
			defer end()
			doc := versionDoc{Netioctl: a.version}
			st, fwErr := fw.Status(cmd.Context(), &dataplanev1.StatusRequest{})
			if fwErr == nil {
				doc.Forwarder, doc.ABIVersion = st.GetVersion(), st.GetAbiVersion()
			}
			info, agentErr := g.Info(cmd.Context(), &agentv1.InfoRequest{})
			if agentErr == nil {
				doc.Agent = info.GetVersion()
			}
			if a.format != formatTable {
				b, err := json.Marshal(doc)
				if err != nil {
					return fmt.Errorf("encode versions: %w", err)
				}
				return a.printJSON(b)
			}
			t := newTable(left("PROGRAM", "VERSION", "ABI", "NOTE"))
			t.add("netioctl", doc.Netioctl, "", "")
			t.add("forwarder", doc.Forwarder, doc.ABIVersion, text(fwErr))
			t.add("agent", doc.Agent, "", text(agentErr))
			return t.write(a.out)
		},
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
