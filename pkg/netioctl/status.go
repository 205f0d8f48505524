// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the state of the forwarder and the agent",
		Long: `Show the state of the forwarder and the agent. The agent may be missing; a
forwarder that does not answer is an error, after what the agent has to say.

Of a cluster, without --node, it is how NetIO is on all nodes.`,
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.cluster != nil && a.node == "" {
				return a.nodesStatus(cmd.Context())
			}
			fw, g, end, err := a.both()
			if err != nil {
				return err
			}
			defer end()
			st, fwErr := fw.Status(cmd.Context(), &dataplanev1.StatusRequest{})
			info, agentErr := g.Info(cmd.Context(), &agentv1.InfoRequest{})
			if a.format != formatTable {
				err = a.printStatus(st, fwErr, info, agentErr)
			} else {
				err = a.showStatus(st, fwErr, info, agentErr)
			}
			if err != nil {
				return err
			}
			return fwErr
		},
	}
}

// statusDoc is what status prints as JSON: a daemon, or why it did not answer.
type statusDoc struct {
	Forwarder      json.RawMessage `json:"forwarder,omitempty"`
	ForwarderError string          `json:"forwarderError,omitempty"`
	Agent          json.RawMessage `json:"agent,omitempty"`
	AgentError     string          `json:"agentError,omitempty"`
}

func (a *app) printStatus(st *dataplanev1.StatusResponse, fwErr error, info *agentv1.InfoResponse, agentErr error) error {
	var doc statusDoc
	var err error
	if fwErr != nil {
		doc.ForwarderError = fwErr.Error()
	} else if doc.Forwarder, err = marshal(st); err != nil {
		return err
	}
	if agentErr != nil {
		doc.AgentError = agentErr.Error()
	} else if doc.Agent, err = marshal(info); err != nil {
		return err
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	return a.printJSON(b)
}

func (a *app) showStatus(st *dataplanev1.StatusResponse, fwErr error, info *agentv1.InfoResponse, agentErr error) error {
	if fwErr == nil {
		if err := a.showForwarder(st); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	fmt.Fprintln(a.out, a.painted(bold, "Agent"))
	if agentErr != nil {
		a.field("state", printable(agentErr.Error()))
		return nil
	}
	return a.showAgent(info)
}

// field writes a line of a section.
func (a *app) field(name, value string) { fmt.Fprintf(a.out, "  %-13s %s\n", name, value) }

func (a *app) showForwarder(st *dataplanev1.StatusResponse) error {
	fmt.Fprintln(a.out, a.painted(bold, "Forwarder"))
	a.field("version", printable(st.GetVersion()))
	a.field("up", a.since(st.GetStartedUnixNano())+", pid "+strconv.FormatUint(uint64(st.GetPid()), 10))
	restarts := count(uint64(st.GetRestarts()))
	if st.GetRestarts() > 0 {
		restarts += ", the last one took " + age(time.Duration(st.GetLastRestartGapNano()))
	}
	a.field("restarts", restarts)
	a.field("device", fmt.Sprintf("%s, ABI %s", printable(st.GetDevice()), printable(st.GetAbiVersion())))
	a.field("revision", strconv.FormatUint(st.GetRevision(), 10))
	a.field("ports", count(uint64(st.GetPorts())))
	a.field("connections", fmt.Sprintf("%s of %s (%s)", count(uint64(st.GetConnections())), count(uint64(st.GetConnectionsMax())),
		percent(uint64(st.GetConnections()), uint64(st.GetConnectionsMax()))))
	used := uint64(st.GetNbufs()) - min(uint64(st.GetNbufsFree()), uint64(st.GetNbufs()))
	a.field("nbufs", fmt.Sprintf("%s of %s in use (%s)", count(used), count(uint64(st.GetNbufs())), percent(used, uint64(st.GetNbufs()))))
	fmt.Fprintln(a.out)
	t := newTable(right("LANE", "RX PKTS", "RX", "TX PKTS", "TX", "SLOW PATH", "PKTS/VECTOR", "SYSCALLS", "SLEEPS", "COPIED", "BAD"))
	for _, l := range st.GetLanes() {
		perVector := ""
		if l.GetVectors() > 0 {
			perVector = fmt.Sprintf("%.1f", float64(l.GetRxPackets())/float64(l.GetVectors()))
		}
		t.add(strconv.FormatUint(uint64(l.GetLane()), 10),
			count(l.GetRxPackets()), size(l.GetRxBytes()), count(l.GetTxPackets()), size(l.GetTxBytes()),
			count(l.GetSlowPath()), perVector, count(l.GetSyscalls()), count(l.GetSleeps()), size(l.GetPayloadCopied()), count(l.GetBadEntries()))
	}
	return indent(a.out, t)
}

func (a *app) showAgent(info *agentv1.InfoResponse) error {
	a.field("version", printable(info.GetVersion()))
	a.field("up", a.since(info.GetStartedUnixNano()))
	a.field("node", fmt.Sprintf("%s, %s", printable(info.GetNode()), printable(info.GetMode())))
	a.field("revision", strconv.FormatUint(info.GetRevision(), 10))
	a.field("endpoints", count(uint64(info.GetEndpoints())))
	a.field("policies", count(uint64(info.GetPolicies())))
	problems := "none"
	if n := len(info.GetProblems()); n > 0 {
		problems = a.painted(red, strconv.Itoa(n))
	}
	a.field("problems", problems)
	if len(info.GetProblems()) > 0 {
		fmt.Fprintln(a.out)
		t := newTable(left("SINCE", "WHERE", "WHAT"))
		for _, p := range info.GetProblems() {
			t.add(a.since(p.GetSinceUnixNano()), p.GetSource(), p.GetMessage())
		}
		if err := indent(a.out, t); err != nil {
			return err
		}
	}
	if len(info.GetPools()) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	t := newTable(left("POOL"), right("USED", "COOLING", "SIZE"))
	for _, p := range info.GetPools() {
		t.add(strings.TrimSpace(p.GetCidr()+" "+p.GetName()), count(p.GetUsed()), count(p.GetCooling()), count(p.GetSize()))
	}
	return indent(a.out, t)
}

// since shows how long ago something was.
func (a *app) since(unixNano int64) string {
	if unixNano == 0 {
		return "unknown"
	}
	return age(a.now().Sub(time.Unix(0, unixNano)))
}

// indent writes a table two columns to the right.
func indent(w io.Writer, t *table) error {
	t.margin = "  "
	return t.write(w)
}
