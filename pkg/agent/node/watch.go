// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/cniconf"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/cni/pending"
)

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
		a.reconfigure(ctx, data)
	})
	if err != nil {
		a.problems.Replace("config", problem.Problem{Source: a.ConfigFile, Message: fmt.Sprintf("changes are not followed: %v; restart the agent after a change", err)})
	}
}

// reconfigure takes a new configuration into force as far as that can be done
// while pods run.
func (a *agent) reconfigure(ctx context.Context, data []byte) {
	next, err := a.Source.Configure(ctx, a.ConfigFile, data, &a.problems)
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		a.problems.Replace("config", configProblems(mistakes, "; the last good configuration stays in force")...)
		return
	}
	if err != nil {
		a.problems.Report("config", err)
		return
	}
	was := a.current()
	if next.Node == "" {
		next.Node = was.Node
	}
	merged, kept := was.Merge(a.ConfigFile, next)
	mtu, _, err := a.mtu(merged)
	if err != nil {
		kept = append(kept, config.Mistake{File: a.ConfigFile, Field: "mtu", Message: err.Error()})
		merged.MTU, mtu = was.MTU, 0
	}
	a.mu.Lock()
	a.config = merged
	a.mu.Unlock()
	slog.Info("configuration changed", "file", a.ConfigFile)
	if mtu != 0 {
		a.manager.Set(attach.Settings{MTU: mtu, Gateways: merged.RouterAddresses, Sysctls: a.Sysctls})
	}
	a.wantHost()
	a.problems.Replace("config", configProblems(kept, "")...)
	a.refused("configuration", a.keeper.Change(func(s desired.State) desired.State {
		s.Node = a.node()
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
