// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"time"

	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/policy"
)

// followPolicy is follow for a policy. One whose spec is as it was stays the object
// that it was: the operator writes what becomes of policies into their status, and
// that is no reason to work anything out anew. Its version is told all the same, a
// little later.
func followPolicy[T client.Object](w *Watcher, objects map[string]T, version *desired.Version, o T, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := policy.Name(o.GetNamespace(), o.GetName())
	if deleted {
		delete(objects, name)
		w.changed()
		return
	}
	version.Seen = newer(version.Seen, o.GetResourceVersion())
	was, ok := objects[name]
	if ok && was.GetUID() == o.GetUID() && was.GetGeneration() == o.GetGeneration() {
		w.changedLater()
		return
	}
	version.Spec = newer(version.Spec, o.GetResourceVersion())
	objects[name] = o
	w.changed()
}

// newer is the newer one of two versions of one kind. Of one that cannot be compared
// nothing is known.
func newer(a, b string) string {
	if order, err := resourceversion.CompareResourceVersion(a, b); err == nil && order >= 0 {
		return a
	}
	return b
}

// changedLater has a View made, one for all that changes meanwhile; w.mu is held.
func (w *Watcher) changedLater() {
	if w.waits {
		return
	}
	w.waits = true
	time.AfterFunc(w.later, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.waits = false
		w.changed()
	})
}
