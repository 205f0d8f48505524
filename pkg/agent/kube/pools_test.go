// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/ipam"
)

// TestPools follows pools, and the blocks that nodes have of them.
func TestPools(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.until("there are none", func(v *View) bool { return len(v.Pools) == 0 && len(v.Blocks) == 0 })
	web := &v1alpha1.NetIOIPPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NetIOIPPoolSpec{IPv4: &v1alpha1.IPv4Pool{CIDRs: []v1alpha1.Prefix{"10.9.0.0/16"}}}}
	b.must(b.Create(ctx, web))
	v := b.until("the pool", func(v *View) bool { return v.Pools["web"] != nil })
	if want := (Pool{Name: "web", IPv4: 26}); *v.Pools["web"] != want {
		t.Errorf("pool %+v", v.Pools["web"])
	}
	web.Status.Conditions = []metav1.Condition{{Type: v1alpha1.PoolReady, Status: metav1.ConditionFalse, Reason: v1alpha1.PoolReasonExhausted, Message: "add a CIDR", LastTransitionTime: metav1.Now()}}
	b.must(b.Status().Update(ctx, web))
	b.until("why it gives no blocks", func(v *View) bool { return v.Pools["web"].Refused == "add a CIDR" })

	n := &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: v1alpha1.NetIONodeSpec{Pools: []v1alpha1.NodePool{{Name: "web", Blocks: []string{"10.9.0.0/26", "10.9.0.64/26"}}}}}
	b.must(b.Create(ctx, n))
	want := []ipam.Block{{Pool: "web", Prefix: netip.MustParsePrefix("10.9.0.0/26")}, {Pool: "web", Prefix: netip.MustParsePrefix("10.9.0.64/26")}}
	b.until("blocks", func(v *View) bool { return slices.Equal(v.Blocks["one"], want) })
	b.must(b.Delete(ctx, n))
	b.must(b.Delete(ctx, web))
	b.until("all are gone", func(v *View) bool { return len(v.Pools) == 0 && len(v.Blocks) == 0 })
}

// TestHeartbeats: what changes all the time makes no view.
func TestHeartbeats(t *testing.T) {
	w := &Watcher{blocks: map[string][]ipam.Block{}, pools: map[string]*Pool{}, dirty: make(chan struct{}, 1)}
	expect := func(what string, want bool) {
		t.Helper()
		select {
		case <-w.dirty:
			if !want {
				t.Errorf("%s: a view", what)
			}
		default:
			if want {
				t.Errorf("%s: no view", what)
			}
		}
	}
	slimmed := func(n *v1alpha1.NetIONode) *v1alpha1.NetIONode {
		o, err := slim(n)
		if err != nil {
			t.Fatal(err)
		}
		s := o.(*v1alpha1.NetIONode)
		if s.Status.Version != "" || s.ManagedFields != nil {
			t.Errorf("kept %+v", s)
		}
		return s
	}
	n := &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: "one", ManagedFields: []metav1.ManagedFieldsEntry{{}}}, Status: v1alpha1.NetIONodeStatus{Version: "v1"}}
	w.nodeBlocks(slimmed(n), false)
	expect("a node without blocks", false)
	n.Spec.Pools = []v1alpha1.NodePool{{Name: "web", Blocks: []string{"10.9.0.0/26"}}}
	w.nodeBlocks(slimmed(n), false)
	expect("a block", true)
	w.nodeBlocks(slimmed(n), false)
	expect("a heartbeat", false)
	p := &v1alpha1.NetIOIPPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	w.pool(p, false)
	expect("a pool", true)
	p.Status.IPv4 = &v1alpha1.PoolUse{Used: 1}
	w.pool(p, false)
	expect("how full it is", false)
}

// TestPoolOf: the pod's annotation, its namespace's, the pool default, or none.
func TestPoolOf(t *testing.T) {
	for _, test := range []struct {
		name, pod, namespace string
		pools                []string
		want                 string // "" for none
		err                  string
	}{
		{name: "none asked for"},
		{name: "default", pools: []string{"default", "web"}, want: "default"},
		{name: "namespace", namespace: "web", pools: []string{"default", "web"}, want: "web"},
		{name: "pod", pod: "db", namespace: "web", pools: []string{"web", "db"}, want: "db"},
		{name: "unknown of a pod", pod: "db", pools: []string{"default"}, err: `"db", of the pod's annotation netio.dev/ip-pool`},
		{name: "unknown of a namespace", namespace: "web", pools: []string{"default"}, err: `"web", of its namespace's annotation`},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &Watcher{pools: map[string]*Pool{}, namespaces: map[string]map[string]string{}, namespacePools: map[string]string{}, podsChanged: make(chan struct{}), dirty: make(chan struct{}, 1)}
			for _, name := range test.pools {
				w.pools[name] = &Pool{Name: name}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			// The namespace may be heard of after the pod.
			go w.namespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.PoolAnnotation: test.namespace}}}, false)
			got, err := w.PoolOf(ctx, &desired.Pod{Namespace: "shop", Pool: test.pod})
			if (err != nil) != (test.err != "") || err != nil && (!errors.Is(err, ErrUnknownPool) || !strings.Contains(err.Error(), test.err)) {
				t.Fatalf("error %v", err)
			}
			if (got != nil) != (test.want != "") || got != nil && got.Name != test.want {
				t.Errorf("pool %+v", got)
			}
		})
	}
}
