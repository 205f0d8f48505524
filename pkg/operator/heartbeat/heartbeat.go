// SPDX-License-Identifier: Apache-2.0

// Package heartbeat tells which nodes' agents do not report any more. Nodes' clocks
// may be wrong: what counts is when a heartbeat changed, by the operator's own.
package heartbeat

import (
	"time"

	"netio.dev/netio/api/v1alpha1"
)

// Silence is how long a node may leave out to report; it does each minute.
const Silence = 150 * time.Second

// Monitor follows the nodes. It is for one goroutine.
type Monitor struct {
	nodes map[string]*pulse
}

// pulse is a node's heartbeat, and when it was new.
type pulse struct {
	heartbeat time.Time
	at        time.Time
	silent    bool
	seen      bool // since the last Forget
}

// New makes a Monitor that knows no node.
func New() *Monitor { return &Monitor{nodes: map[string]*pulse{}} }

// Hear tells since when a node is silent, zero if it is not, and whether that is new.
func (m *Monitor) Hear(n *v1alpha1.NetIONode, now time.Time) (since time.Time, turned bool) {
	beat := n.Status.LastHeartbeatTime.Time
	p := m.nodes[n.Name]
	switch {
	case p == nil:
		p = &pulse{heartbeat: beat, at: now}
		if beat.Before(now) && !beat.IsZero() {
			p.at = beat
		}
		m.nodes[n.Name] = p
	case !p.heartbeat.Equal(beat):
		p.heartbeat, p.at = beat, now
	}
	p.seen = true
	was := p.silent
	if p.silent = now.Sub(p.at) > Silence; p.silent {
		return p.at, !was
	}
	return time.Time{}, was
}

// Forget forgets the nodes that were not heard since the last call.
func (m *Monitor) Forget() {
	for name, p := range m.nodes {
		if !p.seen {
			delete(m.nodes, name)
		}
		p.seen = false
	}
}
