// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/ipam"
)

// ErrUnknownPool: the cluster does not have the pool of addresses that a pod asks for.
var ErrUnknownPool = errors.New("there is no such NetIOIPPool")

// Pool is a pool of addresses. It is read only.
type Pool struct {
	Name string
	// IPv4 and IPv6 are the prefix lengths of its blocks, 0 for a family that it
	// does not have.
	IPv4, IPv6 int
	// Refused is why nodes do not get the blocks that they need, "" if they do.
	Refused string
}

// slim leaves out who wrote what, of a NetIONode what a heartbeat changes, and of a
// policy what the operator says of it. (The cache takes no transform of one kind that
// the cluster may not have yet.)
func slim(object any) (any, error) {
	switch o := object.(type) {
	case *v1alpha1.NetIONode:
		return &v1alpha1.NetIONode{ObjectMeta: slimMeta(o.ObjectMeta), Spec: o.Spec}, nil
	case *v1alpha1.NetIOPolicy:
		o.Status = v1alpha1.PolicyStatus{}
	case *v1alpha1.NetIOClusterPolicy:
		o.Status = v1alpha1.PolicyStatus{}
	}
	return cache.TransformStripManagedFields()(object)
}

// BlocksOf are what a node has of pools.
func BlocksOf(o *v1alpha1.NetIONode) []ipam.Block {
	var blocks []ipam.Block
	for _, p := range o.Spec.Pools {
		for _, b := range p.Blocks {
			if prefix, err := netip.ParsePrefix(b); err == nil {
				blocks = append(blocks, ipam.Block{Pool: p.Name, Prefix: prefix.Masked()})
			}
		}
	}
	return blocks
}

// nodeBlocks keeps what a node has of pools.
func (w *Watcher) nodeBlocks(o *v1alpha1.NetIONode, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	blocks := BlocksOf(o)
	switch {
	case deleted || len(blocks) == 0:
		if _, had := w.blocks[o.Name]; !had {
			return
		}
		delete(w.blocks, o.Name)
	case slices.Equal(blocks, w.blocks[o.Name]): // as with each heartbeat
		return
	default:
		w.blocks[o.Name] = blocks
	}
	w.changed()
}

// pool keeps a pool; how full it is does not matter here.
func (w *Watcher) pool(o *v1alpha1.NetIOIPPool, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if deleted {
		delete(w.pools, o.Name)
		w.changed()
		return
	}
	p := &Pool{Name: o.Name}
	if o.Spec.IPv4 != nil {
		p.IPv4 = int(o.Spec.IPv4.BlockSize)
	}
	if o.Spec.IPv6 != nil {
		p.IPv6 = int(o.Spec.IPv6.BlockSize)
	}
	if c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.PoolReady); c != nil && c.Status == metav1.ConditionFalse && c.Reason != v1alpha1.PoolReasonOutside {
		p.Refused = c.Message
	}
	if was := w.pools[o.Name]; was != nil && *was == *p {
		return
	}
	w.pools[o.Name] = p
	w.changed()
}

// PoolOf is the pool that a pod has its addresses from, nil for its node's
// spec.podCIDRs. It waits until the pod's namespace is known or ctx ends. Error:
// ErrUnknownPool.
func (w *Watcher) PoolOf(ctx context.Context, p *desired.Pod) (*Pool, error) {
	for {
		w.mu.Lock()
		ofNamespace, known := w.namespacePools[p.Namespace]
		changed := w.podsChanged
		name, whose := p.Pool, "the pod's"
		if name == "" {
			name, whose = ofNamespace, "its namespace's"
		}
		byDefault := name == ""
		if byDefault {
			name = v1alpha1.DefaultPool
		}
		pool := w.pools[name]
		w.mu.Unlock()
		switch {
		case !known && p.Pool == "":
		case pool != nil || byDefault:
			return pool, nil
		default:
			return nil, fmt.Errorf("%w: %q, of %s annotation %s; make it, or correct the annotation (kubectl get netioippools)", ErrUnknownPool, name, whose, v1alpha1.PoolAnnotation)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the namespace %s is not known from the apiserver", p.Namespace)
		}
	}
}
