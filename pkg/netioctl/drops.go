// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func (a *app) dropsCommand() *cobra.Command {
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "drops [PORT]",
		Short: "Show how many packets were dropped, why, and what to do",
		Long: `Show how many packets were dropped, why, and what to do about it, by the port that
they came from. "-" stands for ports that are gone.

With --watch it goes on, until interrupted, with a line for each port and reason of
which there are more: how many more.`,
		Example: `  netioctl drops
  netioctl drops default/web --watch`,
		Args:              arguments(0, 1, "at most one port name"),
		ValidArgsFunction: first(a.completePorts),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case every <= 0:
				return usagef("--every %v: give a time above 0, such as 2s", every)
			case cmd.Flags().Changed("every") && !watch:
				return usagef("--every says how often --watch looks; give --watch too")
			}
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
			if watch {
				return a.watchDrops(cmd.Context(), fw, req, every)
			}
			list, err := fw.ListDrops(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) error { return writeDrops(w, list) })
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and show what is dropped from now on")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often --watch looks")
	flagCompletion(cmd, "every", cobra.NoFileCompletions)
	return cmd
}

func writeDrops(w io.Writer, list *dataplanev1.ListDropsResponse) error {
	t := newTable(left("PORT", "REASON"), right("PACKETS"), left("MEANING"))
	for _, d := range list.GetDrops() {
		t.add(d.GetPort(), d.GetReason(), count(d.GetPackets()), d.GetDescription())
	}
	return t.write(w)
}

// watchDrops shows what there is, in a table, and then what is more, line by line;
// as JSON and YAML an object each.
func (a *app) watchDrops(ctx context.Context, fw *forwarder, req *dataplanev1.ListDropsRequest, every time.Duration) error {
	type key struct{ port, reason string }
	seen := map[key]uint64{}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for begun := false; ; begun = true {
		list, err := fw.ListDrops(ctx, req)
		switch {
		case ended(ctx, err):
			return nil
		case err != nil:
			return err
		case !begun && a.format == formatTable:
			if err := writeDrops(a.out, list); err != nil {
				return err
			}
		}
		now := map[key]uint64{}
		for _, d := range list.GetDrops() {
			k := key{d.GetPort(), d.GetReason()}
			now[k] = d.GetPackets()
			more := risen(seen[k], d.GetPackets())
			if !begun && a.format == formatTable || more == 0 {
				continue
			}
			if err := a.showRisen(d, more); err != nil {
				return err
			}
		}
		seen = now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// risen is by how much a counter rose. One that fell began anew, with its worker.
func risen(was, is uint64) uint64 {
	if is < was {
		return is
	}
	return is - was
}

// showRisen shows more packets of a reason.
func (a *app) showRisen(d *dataplanev1.DropCount, more uint64) error {
	if a.format != formatTable {
		return a.printOne(&dataplanev1.DropCount{Port: d.GetPort(), Reason: d.GetReason(), Packets: more, Description: d.GetDescription()})
	}
	port := d.GetPort()
	if port == "" {
		port = "-"
	}
	_, err := fmt.Fprintf(a.out, "%s +%s %s %s: %s\n", a.clock(a.now().UnixNano()), count(more), printable(port), printable(d.GetReason()), printable(d.GetDescription()))
	return err
}
