// SPDX-License-Identifier: Apache-2.0

package policystatus

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"netio.dev/netio/api/v1alpha1"
)

const (
	// silence is how long a node may leave out to report; it does each minute.
	silence = 150 * time.Second
	// settle is how long a policy may be on its way to the nodes before its status
	// says so: mostly it is in force by then, and one write is enough.
	settle = 2 * time.Second
	// settleAgain is the same for one whose status was written before the operator
	// started. Nodes tell up to which version they have policies each minute, and
	// that write made another version.
	settleAgain = 75 * time.Second
)

// memory is what the operator remembers from pass to pass.
type memory struct {
	policies map[types.UID]*sighting
	nodes    map[string]*pulse
}

// sighting is the first one of a generation of a policy.
type sighting struct {
	generation int64
	version    string // see object
	at         time.Time
	settle     time.Duration
	// written is the version that the last write of the status made.
	written string
	pass    uint64
}

// pulse is a node's heartbeat, and when it was new.
type pulse struct {
	heartbeat time.Time
	at        time.Time
	silent    bool
	pass      uint64
}

func newMemory() *memory {
	return &memory{policies: map[types.UID]*sighting{}, nodes: map[string]*pulse{}}
}

// see notes a policy as it is now. Writes of its status make other versions of it,
// but no other generation: it is its first version that nodes must have.
func (m *memory) see(o metav1.Object, conditions []metav1.Condition, enforced string, now time.Time, pass uint64) *sighting {
	s := m.policies[o.GetUID()]
	switch {
	case s == nil:
		s = &sighting{generation: o.GetGeneration(), version: o.GetResourceVersion(), at: now, settle: settle}
		for _, c := range conditions {
			if c.Type != enforced || c.ObservedGeneration != o.GetGeneration() {
				continue
			}
			s.settle = settleAgain
			if c.Status == metav1.ConditionTrue {
				s.version = "" // all had it before that was written
			}
		}
		m.policies[o.GetUID()] = s
	case s.generation != o.GetGeneration():
		*s = sighting{generation: o.GetGeneration(), version: o.GetResourceVersion(), at: now, settle: settle, written: s.written}
	}
	s.pass = pass
	return s
}

// hear tells since when a node is silent, zero if it is not. Its clock may be wrong:
// what counts is when its heartbeat changed.
func (m *memory) hear(n *v1alpha1.NetIONode, now time.Time, pass uint64) (since time.Time, turned bool) {
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
	p.pass = pass
	was := p.silent
	if p.silent = now.Sub(p.at) > silence; p.silent {
		return p.at, !was
	}
	return time.Time{}, was
}

// forget forgets what was not there in the pass.
func (m *memory) forget(pass uint64) {
	for uid, s := range m.policies {
		if s.pass != pass {
			delete(m.policies, uid)
		}
	}
	for name, p := range m.nodes {
		if p.pass != pass {
			delete(m.nodes, name)
		}
	}
}
