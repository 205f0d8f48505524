// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/cniconf"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/cni/pending"
	"netio.dev/netio/pkg/policy/manifest"
)

// watchManifests reads the policies and follows their changes. The channel
// gives the first ones.
func (a *agent) watchManifests(ctx context.Context, workers *sync.WaitGroup) <-chan manifest.Set {
	first := make(chan manifest.Set, 1)
	told := false
	notify := func(set manifest.Set, wrong []manifest.Problem) {
		a.problems.Replace("manifests", manifestProblems(wrong)...)
		a.policies.Store(int64(len(set.Policies)))
		a.policyLog.Want(asksForLog(set))
		if !told {
			told = true
			first <- set
			return
		}
		slog.Info("policies changed", "policies", len(set.Policies))
		err := a.keeper.Change(func(s desired.State) desired.State {
			s.Policies = set.Policies
			return s
		})
		a.refused("policies", err)
	}
	workers.Go(func() {
		err := manifest.Watch(ctx, a.ManifestDir, notify, manifest.KeepIn(statePath(a.current(), keptFile)))
		if ctx.Err() == nil {
			a.problems.Report("manifests", fmt.Errorf("changes are not followed any more: %w; restart the agent", err))
		}
	})
	return first
}

// asksForLog tells whether any rule does.
func asksForLog(set manifest.Set) bool {
	return slices.ContainsFunc(set.Policies, func(p *v1alpha1.NetIOPolicy) bool {
		return slices.ContainsFunc(p.Spec.Ingress, func(r v1alpha1.IngressRule) bool { return r.Log }) ||
			slices.ContainsFunc(p.Spec.Egress, func(r v1alpha1.EgressRule) bool { return r.Log })
	})
}

func manifestProblems(wrong []manifest.Problem) []problem.Problem {
	var out []problem.Problem
	for _, p := range wrong {
		source := p.File
		for _, place := range []int{p.Line, p.Column} {
			if place > 0 {
				source += fmt.Sprint(":", place)
			}
		}
		message := strings.TrimPrefix(p.Error(), source+": ")
		out = append(out, problem.Problem{Source: source, Message: message})
	}
	return out
}

// refused reports a change that the forwarder did not take. While it is away
// that is not the change's fault.
func (a *agent) refused(part string, err error) {
	if errors.Is(err, forwarder.ErrDown) || errors.Is(err, forwarder.ErrStopped) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("%w; what was in force before stays in force", err)
	}
	a.problems.Report(part, err)
}

// watchConfig follows the configuration file; data is what was read of it.
func (a *agent) watchConfig(ctx context.Context, data []byte) {
	err := config.Watch(ctx, a.ConfigFile, data, func(data []byte, err error) {
		if err != nil {
			a.problems.Replace("config", problem.Problem{Source: a.ConfigFile, Message: fmt.Sprintf("%v; the last good configuration stays in force", err)})
			return
		}
		a.reconfigure(data)
	})
	if err != nil {
		a.problems.Replace("config", problem.Problem{Source: a.ConfigFile, Message: fmt.Sprintf("changes are not followed: %v; restart the agent after a change", err)})
	}
}

// reconfigure takes a new configuration into force as far as that can be done
// while pods run.
func (a *agent) reconfigure(data []byte) {
	next, err := config.Parse(a.ConfigFile, data)
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		a.problems.Replace("config", configProblems(mistakes, "; the last good configuration stays in force")...)
		return
	}
	was := a.current()
	if next.Node == "" {
		next.Node = was.Node
	}
	merged, kept := was.Merge(a.ConfigFile, next)
	mtu, err := a.mtu(merged)
	if err != nil {
		kept = append(kept, config.Mistake{File: a.ConfigFile, Field: "mtu", Message: err.Error()})
		merged.MTU, mtu = was.MTU, 0
	}
	a.mu.Lock()
	a.config = merged
	a.mu.Unlock()
	slog.Info("configuration changed", "file", a.ConfigFile)
	if mtu != 0 {
		a.manager.Set(attach.Settings{MTU: mtu, Gateways: merged.RouterAddresses})
	}
	a.wantHost()
	a.problems.Replace("config", configProblems(kept, "")...)
	a.refused("connections", a.keeper.Change(func(s desired.State) desired.State {
		s.Node.Connections = merged.Connections
		return s
	}))
	a.installCNI()
}

func configProblems(mistakes config.Mistakes, effect string) []problem.Problem {
	var out []problem.Problem
	for _, m := range mistakes {
		source := m.File
		if m.Line > 0 {
			source = fmt.Sprintf("%s:%d", m.File, m.Line)
		}
		message := m.Message
		if m.Field != "" {
			message = m.Field + ": " + message
		}
		out = append(out, problem.Problem{Source: source, Message: message + effect})
	}
	return out
}

// installCNI puts plugin and network where runtimes look, if it is to, and if a
// runtime that sees them would succeed.
func (a *agent) installCNI() {
	c := a.current()
	if c.InstallCNI == nil || a.ready() != nil {
		return
	}
	plugin, err := a.plugin()
	if err == nil {
		err = cniconf.Install(c, plugin)
	}
	a.problems.Report("installCNI", err)
}

// pendingPeriod is how often promised deletions are looked for without a
// notice.
const pendingPeriod = 30 * time.Second

// watchPending makes deletions good that the CNI plugin promised, as soon as it
// does: a call that took too long leaves one while the agent runs.
func (a *agent) watchPending(ctx context.Context) {
	var events chan fsnotify.Event
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		events = w.Events
		err = w.Add(pending.Dir(a.current().StateDir))
	}
	if err != nil {
		slog.Warn("cannot follow promised deletions; looking now and then", "period", pendingPeriod, "error", err)
	}
	tick := time.NewTicker(pendingPeriod)
	defer tick.Stop()
	for {
		if err := a.manager.SettlePending(ctx); ctx.Err() == nil {
			a.problems.Replace("pending deletions", lines("pending deletions", err)...)
		}
		select {
		case <-ctx.Done():
			return
		case <-events:
		case <-tick.C:
		}
	}
}

// lines makes a problem of each line of an error.
func lines(source string, err error) []problem.Problem {
	if err == nil {
		return nil
	}
	var out []problem.Problem
	for line := range strings.SplitSeq(err.Error(), "\n") {
		out = append(out, problem.Problem{Source: source, Message: line})
	}
	return out
}

func statePath(c *config.Config, name string) string {
	return filepath.Join(c.StateDir, name)
}
