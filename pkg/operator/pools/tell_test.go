// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/operator"
)

// TestUsedWaits: how many addresses are in use is not written with each pod, all else
// at once.
func TestUsedWaits(t *testing.T) {
	scheme, err := operator.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.NetIOIPPool{}).
		WithObjects(&v1alpha1.NetIOIPPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}}).Build()
	r := &reconciler{cached: c, live: c, told: map[string]time.Time{}}
	for _, step := range []struct {
		what     string
		allotted int64
		used     int64
		later    bool
		pass     time.Duration
		want     int64 // used, as it is written
	}{
		{"first", 1, 1, false, 0, 1},
		{"another pod", 1, 2, true, 0, 1},
		{"another block", 2, 3, false, 0, 3},
		{"another pod", 2, 4, true, 0, 3},
		{"after a while", 2, 5, false, usedEvery, 5},
		{"nothing", 2, 5, false, 0, 5},
	} {
		r.told["web"] = r.told["web"].Add(-step.pass)
		p := &v1alpha1.NetIOIPPool{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: "web"}, p); err != nil {
			t.Fatal(err)
		}
		later, err := r.tell(t.Context(), p, v1alpha1.NetIOIPPoolStatus{IPv4: &v1alpha1.PoolUse{Allotted: step.allotted, Used: step.used}})
		if err != nil || (later > 0) != step.later || later > usedEvery {
			t.Errorf("%s: later %v, %v", step.what, later, err)
		}
		if err := c.Get(t.Context(), client.ObjectKey{Name: "web"}, p); err != nil {
			t.Fatal(err)
		}
		if p.Status.IPv4.Used != step.want || p.Status.IPv4.Allotted != step.allotted {
			t.Errorf("%s: %+v", step.what, p.Status.IPv4)
		}
	}
}
