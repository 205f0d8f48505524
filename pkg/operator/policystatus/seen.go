// SPDX-License-Identifier: Apache-2.0

package policystatus

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
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

func newMemory() *memory {
	return &memory{policies: map[types.UID]*sighting{}}
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

// forget forgets what was not there in the pass.
func (m *memory) forget(pass uint64) {
	for uid, s := range m.policies {
		if s.pass != pass {
			delete(m.policies, uid)
		}
	}
}
