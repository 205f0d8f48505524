// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

const clockFormat = "15:04:05.000000"

func (a *app) monitorCommand() *cobra.Command {
	var filter filterFlags
	var limit uint64
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Show verdicts as they are given: new flows and drops",
		Long: `Show verdicts as they are given, until interrupted: the first packet of each
flow, and every packet that is dropped. Watching never slows forwarding: what
comes too fast is left out, and counted.`,
		Example: `  netioctl monitor --verdict deny
  netioctl monitor --port default/web --protocol tcp -o json | jq .rule`,
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.monitor(cmd.Context(), filter, limit)
		},
	}
	filter.add(a, cmd)
	filter.addVerdict(a, cmd)
	cmd.Flags().Uint64Var(&limit, "count", 0, "end after this many; 0: do not")
	flagCompletion(cmd, "count", cobra.NoFileCompletions)
	return cmd
}

func (a *app) monitor(ctx context.Context, flags filterFlags, limit uint64) error {
	fw, err := a.forwarder()
	if err != nil {
		return err
	}
	defer fw.Close()
	filter, err := flags.filter(ctx, a, fw)
	if err != nil {
		return err
	}
	stream, err := fw.Monitor(ctx, &dataplanev1.MonitorRequest{Filter: filter})
	if err != nil {
		return err
	}
	lost, shown := uint64(0), uint64(0)
	for limit == 0 || shown < limit {
		ev, err := stream.Recv()
		if ended(ctx, err) {
			break
		} else if err != nil {
			return err
		}
		lost += ev.GetLost()
		if ev.GetVerdict() != "" {
			shown++
		}
		if err := a.showEvent(ev); err != nil {
			return err
		}
	}
	if lost > 0 {
		a.note("%s: %s came too fast and were left out; narrow the filter", a.name, plural(lost, "event"))
	}
	return nil
}

// ended tells whether a stream is at its end: interrupted by the user, or
// closed by the daemon.
func ended(ctx context.Context, err error) bool {
	return errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil
}

func (a *app) showEvent(ev *dataplanev1.Event) error {
	if a.format != formatTable {
		return a.printOne(ev)
	}
	var line strings.Builder
	line.WriteString(a.clock(ev.GetTimeUnixNano()))
	if ev.GetLost() > 0 {
		fmt.Fprintf(&line, " %s left out", plural(ev.GetLost(), "event"))
		if ev.GetVerdict() != "" {
			line.WriteString("\n" + a.clock(ev.GetTimeUnixNano()))
		}
	}
	if ev.GetVerdict() != "" {
		a.writeEvent(&line, ev)
	}
	_, err := fmt.Fprintln(a.out, line.String())
	return err
}

func (a *app) writeEvent(line *strings.Builder, ev *dataplanev1.Event) {
	t := ev.GetTuple()
	verdict := ev.GetVerdict() + strings.Repeat(" ", max(0, 5-len(ev.GetVerdict())))
	if painted := a.verdict(ev.GetVerdict()); painted != ev.GetVerdict() {
		verdict = strings.Replace(verdict, ev.GetVerdict(), painted, 1)
	}
	fmt.Fprintf(line, " %s %-4s %s > %s", verdict, protocolOf(t), printable(source(t)), printable(destination(t)))
	fmt.Fprintf(line, " len %d", ev.GetLength())
	for _, f := range []struct{ name, value string }{
		{"in", ev.GetInPort()}, {"out", ev.GetOutPort()}, {"reason", ev.GetReason()}, {"rule", ev.GetRule()},
	} {
		if f.value == "" {
			continue
		}
		value := printable(f.value)
		if strings.Contains(value, " ") {
			value = `"` + value + `"`
		}
		fmt.Fprintf(line, " %s=%s", f.name, value)
	}
}

// clock shows a time of day to the microsecond.
func (a *app) clock(unixNano int64) string {
	return time.Unix(0, unixNano).In(a.zone).Format(clockFormat)
}
