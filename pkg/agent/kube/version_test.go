// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

// TestVersions: a View tells up to which version it has policies; what becomes of
// them in their status changes that, but neither the objects nor Spec.
func TestVersions(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	p := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}}
	b.must(b.Create(ctx, p))
	created := p.ResourceVersion
	v := b.until("the policy is there", func(v *View) bool { return len(v.Policies) == 1 })
	if got := v.Versions.Policies; got.Seen != created || got.Spec != created {
		t.Errorf("%+v, expected %s", got, created)
	}
	if got := v.Versions.ClusterPolicies; got.Seen != "" {
		t.Errorf("%+v of a kind without objects", got)
	}
	p.Status.Enforced = "1/1"
	b.must(b.Status().Update(ctx, p))
	w := b.until("the status counts", func(v *View) bool { return v.Versions.Policies.Seen == p.ResourceVersion })
	if w.Policies[0] != v.Policies[0] || w.Versions.Policies.Spec != created {
		t.Errorf("%+v: a status makes another policy", w.Versions.Policies)
	}
	p.Spec.Audit = true
	b.must(b.Update(ctx, p))
	w = b.until("the change counts", func(v *View) bool { return v.Policies[0].Spec.Audit })
	if got := w.Versions.Policies; got.Seen != p.ResourceVersion || got.Spec != p.ResourceVersion || w.Policies[0].Status.Enforced != "" {
		t.Errorf("%+v, %+v", got, w.Policies[0].Status)
	}
	// One that is gone takes no version with it: it may be the newest one.
	b.must(b.Delete(ctx, p))
	w = b.until("the policy is gone", func(v *View) bool { return len(v.Policies) == 0 })
	if got := w.Versions.Policies; got.Seen != p.ResourceVersion {
		t.Errorf("%+v, expected %s", got, p.ResourceVersion)
	}
}

func TestNewer(t *testing.T) {
	for _, test := range [][3]string{{"9", "10", "10"}, {"10", "9", "10"}, {"", "3", "3"}, {"7", "7", "7"}} {
		if got := newer(test[0], test[1]); got != test[2] {
			t.Errorf("%s, %s: %s", test[0], test[1], got)
		}
	}
}

func TestChangedLater(t *testing.T) {
	w := &Watcher{later: time.Millisecond, dirty: make(chan struct{}, 1)}
	for range 2 {
		w.mu.Lock()
		w.changedLater()
		w.changedLater()
		w.mu.Unlock()
		<-w.dirty
	}
}
