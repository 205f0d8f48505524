// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

// maxBlocks bounds what a node gets of a pool and family at one time.
const maxBlocks = 64

// world is what is planned for. It is read only.
type world struct {
	pools  []v1alpha1.NetIOIPPool
	nodes  []corev1.Node
	states []v1alpha1.NetIONode
}

// plan is what is to be written.
type plan struct {
	// specs are the pools of the nodes whose spec is to change, by name.
	specs map[string][]v1alpha1.NodePool
	// statuses of all pools, by name; their conditions have no times yet.
	statuses map[string]v1alpha1.NetIOIPPoolStatus
	// allotted are the blocks that are new, for the log.
	allotted []allotment
	// returned are blocks that nodes have no more.
	returned []allotment
}

type allotment struct {
	pool, node string
	block      netip.Prefix
}

// pool is a NetIOIPPool while it is planned.
type pool struct {
	name     string
	families [2]family // IPv4, IPv6
	reason   string    // "" if blocks may be allotted
	message  string
	// lacking is the first node that got less than it wants, "" for none.
	lacking string
	outside string // a block that lies in no CIDR, and whose it is
}

// family is one family's part of a pool; size is 0 if the pool does not have it.
type family struct {
	cidrs []netip.Prefix
	size  int
	use   v1alpha1.PoolUse
}

// makePlan gives each node the blocks that it lacks. It is a function of its argument:
// blocks that are allotted overlap with nothing that any node has.
func makePlan(w world) plan {
	pools := poolsOf(w)
	p := plan{specs: map[string][]v1alpha1.NodePool{}, statuses: map[string]v1alpha1.NetIOIPPoolStatus{}}
	var held []netip.Prefix
	for i := range w.states {
		for _, np := range w.states[i].Spec.Pools {
			held = append(held, prefixes(np.Blocks)...)
		}
	}
	taken := spaceOf(held) // also what is returned, until it is written
	alive := map[string]bool{}
	for _, n := range w.nodes {
		alive[n.Name] = true
	}
	states := slices.Clone(w.states)
	slices.SortFunc(states, func(a, b v1alpha1.NetIONode) int { return strings.Compare(a.Name, b.Name) })
	states = slices.DeleteFunc(states, func(s v1alpha1.NetIONode) bool { return !alive[s.Name] || s.DeletionTimestamp != nil })
	give := func(s *v1alpha1.NetIONode, name string, block netip.Prefix) {
		spec, changed := p.specs[s.Name]
		if !changed {
			spec = s.DeepCopy().Spec.Pools
		}
		i := slices.IndexFunc(spec, func(np v1alpha1.NodePool) bool { return np.Name == name })
		if i < 0 {
			i, spec = len(spec), append(spec, v1alpha1.NodePool{Name: name})
		}
		spec[i].Blocks = append(spec[i].Blocks, block.String())
		p.specs[s.Name] = spec
		p.allotted = append(p.allotted, allotment{name, s.Name, block})
		taken.add(block)
	}

	for i := range states {
		p.takeBack(&states[i])
	}
	// What an agent leases from is its node's, though its NetIONode was lost.
	for i := range states {
		for _, st := range states[i].Status.Pools {
			for _, b := range prefixes(st.Blocks) {
				if _, overlaps := taken.overlap(b); !overlaps {
					give(&states[i], st.Name, b)
				}
			}
		}
	}
	for _, pl := range pools {
		if pl.reason == "" {
			pl.allot(states, &taken, give)
		}
	}
	for i := range w.states {
		spec, changed := p.specs[w.states[i].Name]
		if !changed {
			spec = w.states[i].Spec.Pools
		}
		for _, pl := range pools {
			pl.count(&w.states[i], spec)
		}
	}
	for _, pl := range pools {
		p.statuses[pl.name] = pl.status()
	}
	return p
}

// takeBack takes the blocks from a node that it says are empty.
func (p *plan) takeBack(s *v1alpha1.NetIONode) {
	for _, st := range s.Status.Pools {
		if len(st.Empty) == 0 {
			continue
		}
		spec, changed := p.specs[s.Name]
		if !changed {
			spec = s.DeepCopy().Spec.Pools
		}
		i := slices.IndexFunc(spec, func(np v1alpha1.NodePool) bool { return np.Name == st.Name })
		if i < 0 {
			continue
		}
		back := func(b string) bool { return slices.Contains(st.Empty, b) && !slices.Contains(st.Blocks, b) }
		if !slices.ContainsFunc(spec[i].Blocks, back) {
			continue
		}
		for _, b := range prefixes(spec[i].Blocks) {
			if back(b.String()) {
				p.returned = append(p.returned, allotment{st.Name, s.Name, b})
			}
		}
		spec[i].Blocks = slices.DeleteFunc(spec[i].Blocks, back)
		if len(spec[i].Blocks) == 0 {
			spec = slices.Delete(spec, i, i+1)
		}
		p.specs[s.Name] = spec
	}
}

// poolsOf are the pools, older ones first, and what keeps them from giving blocks.
func poolsOf(w world) []*pool {
	objects := slices.Clone(w.pools)
	slices.SortFunc(objects, func(a, b v1alpha1.NetIOIPPool) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	var pools []*pool
	for _, o := range objects {
		pl := &pool{name: o.Name}
		if v4 := o.Spec.IPv4; v4 != nil {
			pl.families[0] = family{cidrs: cidrs(v4.CIDRs), size: int(v4.BlockSize)}
		}
		if v6 := o.Spec.IPv6; v6 != nil {
			pl.families[1] = family{cidrs: cidrs(v6.CIDRs), size: int(v6.BlockSize)}
		}
		pl.checkPools(pools)
		if pl.reason == "" {
			pl.checkNodes(w.nodes)
		}
		pools = append(pools, pl)
	}
	return pools
}

func (pl *pool) all() []netip.Prefix {
	return slices.Concat(pl.families[0].cidrs, pl.families[1].cidrs)
}

// checkPools finds an older pool that has addresses of this one.
func (pl *pool) checkPools(older []*pool) {
	for _, o := range older {
		for _, c := range pl.all() {
			for _, d := range o.all() {
				if c.Overlaps(d) {
					pl.reason = v1alpha1.PoolReasonOverlap
					pl.message = fmt.Sprintf("%s overlaps with %s of the pool %s, which is older; nothing is allotted from this pool, and what nodes have of it stays: take the addresses out of one of them", c, d, o.name)
					return
				}
			}
		}
	}
}

// checkNodes finds a node whose own addresses or spec.podCIDRs are the pool's.
func (pl *pool) checkNodes(nodes []corev1.Node) {
	refuse := func(c netip.Prefix, what, node string) {
		pl.reason = v1alpha1.PoolReasonNodes
		pl.message = fmt.Sprintf("%s overlaps with %s of node %s; nothing is allotted from this pool, and what nodes have of it stays: give the pool other addresses", c, what, node)
	}
	for i := range nodes {
		for _, c := range pl.all() {
			for _, d := range prefixes(nodes[i].Spec.PodCIDRs) {
				if c.Overlaps(d) {
					refuse(c, "the spec.podCIDRs "+d.String(), nodes[i].Name)
					return
				}
			}
			for _, address := range nodes[i].Status.Addresses {
				if a, err := netip.ParseAddr(address.Address); err == nil && c.Contains(a.Unmap()) {
					refuse(c, "the address "+address.Address, nodes[i].Name)
					return
				}
			}
		}
	}
}

// allot gives nodes what they want of the pool, one block after the other, so that
// all get some where there are few.
func (pl *pool) allot(states []v1alpha1.NetIONode, taken *space, give func(*v1alpha1.NetIONode, string, netip.Prefix)) {
	for i, six := range []bool{false, true} {
		f := &pl.families[i]
		if f.size == 0 {
			continue
		}
		wants := make([]int64, len(states))
		for n := range states {
			wants[n] = wanted(&states[n], pl.name, f.size, six)
		}
		for more := true; more; {
			more = false
			for n := range states {
				if wants[n] == 0 {
					continue
				}
				block, ok := next(f.cidrs, f.size, taken)
				if !ok {
					pl.lacking = cmp.Or(pl.lacking, states[n].Name)
					wants[n] = 0
					continue
				}
				give(&states[n], pl.name, block)
				wants[n]--
				more = true
			}
		}
	}
}

// wanted is how many blocks a node wants. One that has not seen all that it has
// tells of times before.
func wanted(s *v1alpha1.NetIONode, name string, size int, six bool) int64 {
	i := slices.IndexFunc(s.Status.Pools, func(st v1alpha1.NodePoolStatus) bool { return st.Name == name })
	if i < 0 {
		return 0
	}
	st := &s.Status.Pools[i]
	for _, np := range s.Spec.Pools {
		if np.Name == name && slices.ContainsFunc(np.Blocks, func(b string) bool {
			return !slices.Contains(st.Blocks, b) && !slices.Contains(st.Empty, b)
		}) {
			return 0
		}
	}
	use := st.IPv4
	if six {
		use = st.IPv6
	}
	if use.Wanted <= 0 {
		return 0
	}
	per := usable(size, six)
	return min((use.Wanted-1)/per+1, maxBlocks)
}

// count adds what a node has of the pool, spec being its pools.
func (pl *pool) count(s *v1alpha1.NetIONode, spec []v1alpha1.NodePool) {
	for _, np := range spec {
		if np.Name != pl.name {
			continue
		}
		for _, b := range prefixes(np.Blocks) {
			f := &pl.families[0]
			if b.Addr().Is6() {
				f = &pl.families[1]
			}
			f.use.Allotted++
			if pl.outside == "" && !slices.ContainsFunc(f.cidrs, func(c netip.Prefix) bool { return c.Contains(b.Addr()) && c.Bits() <= b.Bits() }) {
				pl.outside = fmt.Sprintf("%s of node %s", b, s.Name)
			}
		}
	}
	for _, st := range s.Status.Pools {
		if st.Name == pl.name {
			pl.families[0].use.Used += st.IPv4.Used
			pl.families[1].use.Used += st.IPv6.Used
		}
	}
}

// status tells how the pool is, when all is allotted.
func (pl *pool) status() v1alpha1.NetIOIPPoolStatus {
	var s v1alpha1.NetIOIPPoolStatus
	var sizes []string
	for i, use := range []**v1alpha1.PoolUse{&s.IPv4, &s.IPv6} {
		f := &pl.families[i]
		if f.size == 0 && f.use == (v1alpha1.PoolUse{}) {
			continue
		}
		f.use.Capacity = blocks(f.cidrs, f.size)
		*use = &f.use
		sizes = append(sizes, fmt.Sprintf("%d of %d blocks of IPv%d", f.use.Allotted, f.use.Capacity, 4+2*i))
	}
	reason, message := pl.reason, pl.message
	switch {
	case reason != "":
	case pl.lacking != "":
		reason = v1alpha1.PoolReasonExhausted
		message = fmt.Sprintf("node %s needs a block and none is left (%s are allotted): add a CIDR to the pool", pl.lacking, strings.Join(sizes, ", "))
	case pl.outside != "":
		reason = v1alpha1.PoolReasonOutside
		message = fmt.Sprintf("the block %s lies in none of the pool's CIDRs: it stays in use; put its CIDR back, or remove the node's pods of this pool", pl.outside)
	}
	condition := metav1.Condition{Type: v1alpha1.PoolReady, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if reason == "" {
		condition.Status, condition.Reason = metav1.ConditionTrue, v1alpha1.PoolReasonReady
		condition.Message = "nodes get the blocks that they need"
	}
	apimeta.SetStatusCondition(&s.Conditions, condition)
	return s
}

func cidrs(list []v1alpha1.Prefix) []netip.Prefix {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = string(p)
	}
	return prefixes(texts)
}

// prefixes leaves out what is none, which the schema does not let in.
func prefixes(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all
}
