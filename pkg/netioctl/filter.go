// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// filterFlags narrow flows and events.
type filterFlags struct {
	port, address, protocol, verdict, reason string
	l4Port                                   uint16
	logged                                   bool
}

// add defines the flags that flows and events share.
func (f *filterFlags) add(a *app, cmd *cobra.Command) {
	s := cmd.Flags()
	s.StringVar(&f.port, "port", "", "only from or to this port, by its name or its pod's")
	s.StringVar(&f.address, "address", "", "only from or to this address or prefix")
	s.StringVar(&f.protocol, "protocol", "", "only this IP protocol, by name or number")
	s.Uint16Var(&f.l4Port, "l4-port", 0, "only from or to this TCP, UDP or SCTP port")
	flagCompletion(cmd, "port", a.completePorts)
	fixedCompletion(cmd, "protocol", protocolNames()...)
	for _, name := range []string{"address", "l4-port"} {
		flagCompletion(cmd, name, cobra.NoFileCompletions)
	}
}

// addVerdict defines those that only events have.
func (f *filterFlags) addVerdict(a *app, cmd *cobra.Command) {
	s := cmd.Flags()
	s.StringVar(&f.verdict, "verdict", "", "only this verdict: allow, deny, audit or drop")
	s.StringVar(&f.reason, "reason", "", "only this drop reason")
	s.BoolVar(&f.logged, "logged", false, "only what policy rules with log: true had a say in")
	fixedCompletion(cmd, "verdict", "allow", "deny", "audit", "drop")
	flagCompletion(cmd, "reason", a.completeReasons)
}

// filter makes the request's filter. What it cannot know, such as the names of
// drop reasons, the forwarder checks.
func (f *filterFlags) filter(ctx context.Context, a *app, fw *forwarder) (*dataplanev1.Filter, error) {
	out := &dataplanev1.Filter{Address: f.address, L4Port: uint32(f.l4Port), Verdict: f.verdict, Reason: f.reason, Logged: f.logged}
	if f.protocol != "" {
		n, err := parseProtocol(f.protocol)
		if err != nil {
			return nil, usagef("--protocol: %w", err)
		}
		out.Protocol = uint32(n)
	}
	if f.port != "" {
		name, err := a.portName(ctx, fw, f.port)
		if err != nil {
			return nil, err
		}
		out.Port = name
	}
	return out, nil
}
