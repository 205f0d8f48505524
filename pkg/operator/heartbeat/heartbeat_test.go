// SPDX-License-Identifier: Apache-2.0

package heartbeat

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

func TestHear(t *testing.T) {
	m, now := New(), time.Unix(1e9, 0)
	n := &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	hear := func(beat, after time.Duration) (bool, bool) {
		n.Status.LastHeartbeatTime = metav1.NewTime(now.Add(beat))
		since, turned := m.Hear(n, now.Add(after))
		return !since.IsZero(), turned
	}
	for i, test := range []struct {
		beat, after    time.Duration
		silent, turned bool
	}{
		{0, time.Minute, false, false},
		{0, Silence, false, false},
		{0, Silence + 1, true, true},
		{0, time.Hour, true, false},
		{-time.Hour, time.Hour, false, true}, // its clock is wrong, and it reports
		{-time.Hour, time.Hour + Silence + 1, true, true},
	} {
		if silent, turned := hear(test.beat, test.after); silent != test.silent || turned != test.turned {
			t.Errorf("%d: silent %v, turned %v", i, silent, turned)
		}
	}
	m.Forget()
	m.Forget()
	if silent, turned := hear(0, time.Hour); !silent || !turned {
		t.Errorf("a node that was forgotten: silent %v, turned %v", silent, turned)
	}
}
