// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/problem"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/policy"
)

// PolicySource begins the source of a problem that is a policy's.
const PolicySource = "policy "

// forwarderStatus reports how the connection to the forwarder stands.
func (a *agent) forwarderStatus(s forwarder.Status) {
	var err error
	if !s.InForce {
		err = s.Err
	}
	if err != nil && !s.Connected {
		err = fmt.Errorf("%w at %s; is netio-agent forward running?", err, a.current().ForwarderSocket)
	}
	a.problems.Report("forwarder", err)
	defer a.worthALook()
	if !s.InForce {
		return
	}
	var wrong []problem.Problem
	for _, p := range s.Problems {
		if p.Reason != policy.NoEffect { // which may well be meant so
			wrong = append(wrong, problem.Problem{Source: PolicySource + p.Policy, Message: p.Err.Error() + "; " + p.Effect})
		}
	}
	a.problems.Replace("policy", wrong...)
}

// worthALook has the node's state published soon.
func (a *agent) worthALook() {
	select {
	case a.look <- struct{}{}:
	default:
	}
}

// forwarderJoined is called when what is wanted is in force after a start of
// the forwarder or of the agent.
func (a *agent) forwarderJoined() {
	select {
	case a.joined <- struct{}{}:
	default:
	}
}

// followForwarder does after each start of the forwarder what cannot be done on
// the connection's own goroutine.
func (a *agent) followForwarder(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.joined:
		}
		slog.Info("the forwarder has its configuration", "revision", a.keeper.Status().Revision)
		a.hostLoop.Poke()
		if err := a.manager.Rewire(ctx); ctx.Err() == nil {
			a.problems.Replace("interfaces", lines("interfaces", err)...)
		}
		a.installCNI()
	}
}

// forwarderPorts keeps what the forwarder says of ports. Those of pods that
// are just being added are not listed: their callers are told.
func (a *agent) forwarderPorts(states []*dataplanev1.PortState) {
	attached := map[string]bool{desired.HostPort: true}
	for _, p := range a.manager.List() {
		attached[p.Port] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range states {
		delete(a.portErrs, s.GetName())
		if s.GetError() != "" {
			a.portErrs[s.GetName()] = s.GetError()
		}
	}
	var wrong []problem.Problem
	for _, name := range slices.Sorted(maps.Keys(a.portErrs)) {
		if !attached[name] {
			delete(a.portErrs, name)
			continue
		}
		wrong = append(wrong, problem.Problem{Source: "port " + name, Message: a.portErrs[name]})
	}
	a.problems.Replace("ports", wrong...)
}
