// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// flowOrders are the orders of flows: the one that comes first has more.
var flowOrders = map[string]func(x, y *dataplanev1.Flow) int{
	"bytes": func(x, y *dataplanev1.Flow) int {
		return cmp.Compare(y.GetBytes()+y.GetReplyBytes(), x.GetBytes()+x.GetReplyBytes())
	},
	"packets": func(x, y *dataplanev1.Flow) int {
		return cmp.Compare(y.GetPackets()+y.GetReplyPackets(), x.GetPackets()+x.GetReplyPackets())
	},
	"idle": func(x, y *dataplanev1.Flow) int { return cmp.Compare(y.GetIdleNano(), x.GetIdleNano()) },
	"none": nil,
}

func (a *app) flowsCommand() *cobra.Command {
	var filter filterFlags
	var limit uint32
	var order string
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "List the connections",
		Long: `List the connections, those with the most bytes first. TRANSLATED shows where
one really goes ("to"), and with which source ("from"), under NAT.`,
		Example: `  netioctl flows --limit 20
  netioctl flows --port default/web --protocol tcp --l4-port 80 -o json`,
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			compare, ok := flowOrders[order]
			if !ok {
				return usagef("--sort %q: expected bytes, packets, idle or none", order)
			}
			fw, err := a.forwarder()
			if err != nil {
				return err
			}
			defer fw.Close()
			req := &dataplanev1.ListFlowsRequest{}
			if req.Filter, err = filter.filter(cmd.Context(), a, fw); err != nil {
				return err
			}
			if compare == nil {
				req.Limit = limit
			}
			stream, err := fw.ListFlows(cmd.Context(), req)
			if err != nil {
				return err
			}
			var flows []*dataplanev1.Flow
			for {
				f, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return err
				}
				flows = append(flows, f)
			}
			if compare != nil {
				slices.SortStableFunc(flows, compare)
			}
			if limit != 0 && len(flows) > int(limit) {
				flows = flows[:limit]
			}
			if a.format != formatTable {
				return a.printFlows(flows)
			}
			return flowTable(flows).write(a.out)
		},
	}
	filter.add(a, cmd)
	cmd.Flags().Uint32Var(&limit, "limit", 0, "show at most this many; 0: all")
	cmd.Flags().StringVar(&order, "sort", "bytes", "order: bytes, packets, idle or none")
	fixedCompletion(cmd, "sort", "bytes", "packets", "idle", "none")
	flagCompletion(cmd, "limit", cobra.NoFileCompletions)
	return cmd
}

func (a *app) printFlows(flows []*dataplanev1.Flow) error {
	doc := struct {
		Flows []json.RawMessage `json:"flows"`
	}{Flows: make([]json.RawMessage, len(flows))}
	for i, f := range flows {
		var err error
		if doc.Flows[i], err = marshal(f); err != nil {
			return err
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode flows: %w", err)
	}
	return a.printJSON(b)
}

func flowTable(flows []*dataplanev1.Flow) *table {
	t := newTable(left("PROTOCOL", "SOURCE", "DESTINATION", "TRANSLATED", "IN", "OUT", "STATE"),
		right("PKTS", "BYTES", "REPLY PKTS", "REPLY BYTES", "IDLE", "EXPIRES"), left("RULE"))
	for _, f := range flows {
		t.add(protocolOf(f.GetOriginal()), source(f.GetOriginal()), destination(f.GetOriginal()), translated(f),
			f.GetInPort(), f.GetOutPort(), f.GetState(),
			count(f.GetPackets()), size(f.GetBytes()), count(f.GetReplyPackets()), size(f.GetReplyBytes()),
			age(time.Duration(f.GetIdleNano())), age(time.Duration(f.GetExpiresNano())), f.GetRule())
	}
	return t
}

// translated tells what NAT has made of a flow, from where its replies come and
// go to.
func translated(f *dataplanev1.Flow) string {
	o, r := f.GetOriginal(), f.GetReply()
	if r == nil {
		return ""
	}
	var parts []string
	ports := hasPorts(o.GetProtocol())
	if r.GetSrc() != o.GetDst() || ports && r.GetSrcPort() != o.GetDstPort() {
		parts = append(parts, "to "+source(r))
	}
	if r.GetDst() != o.GetSrc() || ports && r.GetDstPort() != o.GetSrcPort() {
		parts = append(parts, "from "+destination(r))
	}
	return strings.Join(parts, ", ")
}
