// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"netio.dev/netio/pkg/netioctl/connectivity"
)

// Defaults of connectivity test.
const (
	testTimeout  = 5 * time.Minute
	testWait     = 3 * time.Second
	testSettle   = 15 * time.Second
	testHostPort = 9620
	testMaxNodes = 12
)

// maxBroken is how many broken links are shown in words.
const maxBroken = 40

// errBroken ends connectivity test; what there is to say has been said.
var errBroken = errors.New("broken")

func (a *app) connectivityCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "connectivity",
		Short: "Test a cluster's network with pods",
	})
	cmd.AddCommand(a.connectivityTestCommand())
	return cmd
}

func (a *app) connectivityTestCommand() *cobra.Command {
	o := connectivity.Options{Say: a.note}
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Start pods on the nodes, have them reach each other by all ways, clean up",
		Long: `Start pods on the nodes of the cluster, have them reach each other by all ways, say
which ways are broken and where, and take the pods away again: pods and nodes, on the
same node and on others, services by address and by name, node ports, the API server;
by TCP, UDP and ICMP, with large transfers, over IPv4 and IPv6. Policies are made that
forbid some of it, and have to hold.

It makes a namespace of its own. In one that is there (--namespace) it takes no right to
make any. Pods run the image of the agents. A broken way is followed through the
forwarders of both nodes, as by "netioctl trace". What cannot be tested is said.

Exits with 1 if something is broken. It cleans up also when it fails or is interrupted.`,
		Example: `  netioctl connectivity test
  netioctl connectivity test --nodes n1,n2 --world 192.0.2.1:443
  netioctl connectivity test --context staging -o json`,
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		PreRunE: func(*cobra.Command, []string) error {
			switch {
			case within <= 0 || o.Wait <= 0 || o.Settle <= 0:
				return usagef("--timeout, --wait and --settle: give times above 0, such as 3s")
			case o.MaxNodes < 0:
				return usagef("--max-nodes %d: give a number of nodes, 0 for all", o.MaxNodes)
			case o.HostPort == 0:
				return usagef("--host-port: give a port from 1 to 65535")
			case a.node != "":
				return usagef("--node asks one node; for a test of some of them, say --nodes %s", a.node)
			case o.World != "":
				if _, err := netip.ParseAddrPort(o.World); err != nil {
					return usagef("--world %q: expected ADDRESS:PORT, as 192.0.2.1:443 or [2001:db8::1]:443", o.World)
				}
			}
			return a.reachCluster()
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), within, fmt.Errorf("not done within %v (--timeout)", within))
			defer cancel()
			return a.testConnectivity(ctx, o)
		},
	}
	s := cmd.Flags()
	s.StringSliceVar(&o.Nodes, "nodes", nil, "`NODES` to test, as n1,n2; without, all up to --max-nodes")
	s.IntVar(&o.MaxNodes, "max-nodes", testMaxNodes, "how many nodes to test at most, unless --nodes says which; 0: all")
	s.StringVarP(&o.Namespace, "namespace", "n", "", "namespace that is there, to test in; without, one is made")
	s.StringVar(&o.Image, "image", "", "image of the pods, with netioctl; without, that of each node's agent")
	s.StringVar(&o.World, "world", "", "`ADDRESS:PORT` outside of the cluster that pods are to reach by TCP")
	s.Uint16Var(&o.HostPort, "host-port", testHostPort, "TCP and UDP port of the nodes to test with")
	s.DurationVar(&o.Wait, "wait", testWait, "how long an answer may take")
	s.DurationVar(&o.Settle, "settle", testSettle, "how long services and policies may take to come to all nodes")
	s.DurationVar(&within, "timeout", testTimeout, "end after this time; what is not tested by then is skipped, and the test has failed")
	s.BoolVar(&o.Keep, "keep", false, "leave all pods, services and the namespace")
	flagCompletion(cmd, "nodes", a.completeNodes)
	flagCompletion(cmd, "namespace", cobra.NoFileCompletions)
	for _, name := range []string{"max-nodes", "image", "world", "host-port", "wait", "settle", "timeout"} {
		flagCompletion(cmd, name, cobra.NoFileCompletions)
	}
	return cmd
}

func (a *app) testConnectivity(ctx context.Context, o connectivity.Options) error {
	report, err := connectivity.Run(ctx, a.cluster, observer{a}, o)
	if report == nil {
		return err
	}
	if a.format != formatTable {
		doc, jsonErr := json.Marshal(report)
		if jsonErr != nil {
			return fmt.Errorf("encode the report: %w", jsonErr)
		}
		err = errors.Join(err, a.printJSON(doc))
	} else if showErr := a.showConnectivity(a.out, report); showErr != nil {
		return showErr
	}
	if err == nil && report.Failed > 0 {
		return errBroken
	}
	return err
}

// showConnectivity prints a report for people: what was tested, where it is broken, and
// what was not tested.
func (a *app) showConnectivity(w io.Writer, r *connectivity.Report) error {
	t := newTable(left("LINKS"), right("OK"), []column{{title: "FAILED", right: true, paint: a.paintFailed}}, right("SKIPPED"), left("BY"))
	for _, row := range r.Rows() {
		t.add(string(row.Kind), strconv.Itoa(row.OK), strconv.Itoa(row.Failed), strconv.Itoa(row.Skipped), row.By)
	}
	if err := t.write(w); err != nil {
		return err
	}
	list := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s\n", title)
		for _, line := range lines {
			fmt.Fprintf(w, "  %s\n", printable(line))
		}
	}
	list("Where it is broken", r.Conclusions)
	var broken []string
	shown := 0
	for i := range r.Links {
		l := &r.Links[i]
		if l.State != connectivity.Failed {
			continue
		}
		if shown++; shown > maxBroken {
			broken = append(broken, fmt.Sprintf("and %d more; -o json has all", r.Failed-maxBroken))
			break
		}
		broken = append(broken, l.Link.String()+": "+l.Why)
		if l.Trace != "" {
			broken = append(broken, "    "+a.name+" trace: "+l.Trace)
		}
	}
	list("Broken links", broken)
	list("Skipped", r.Reasons())
	list("Not tested", r.Notes)
	verdict := a.painted(green, "All is well") + fmt.Sprintf(": %s on %s", plural(uint64(r.OK), "link"), plural(uint64(len(r.Nodes)), "node"))
	switch {
	case r.Failed > 0:
		verdict = a.painted(red, "Broken") + fmt.Sprintf(": %d of %s", r.Failed, plural(uint64(r.OK+r.Failed), "link"))
	case r.Ended != "":
		verdict = a.painted(red, "Not done") + ": " + printable(r.Ended)
	}
	_, err := fmt.Fprintf(w, "\n%s\n", verdict)
	return err
}

func (a *app) paintFailed(number string) string {
	if number == "0" {
		return number
	}
	return a.painted(red, number)
}
