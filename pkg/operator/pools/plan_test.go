// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

// makePool is one of IPv4, born after the other tests' minutes.
func makePool(name string, minute, size int, list ...v1alpha1.Prefix) v1alpha1.NetIOIPPool {
	return v1alpha1.NetIOIPPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Time{Time: time.Unix(0, 0).Add(time.Duration(minute) * time.Minute)}},
		Spec:       v1alpha1.NetIOIPPoolSpec{IPv4: &v1alpha1.IPv4Pool{CIDRs: list, BlockSize: int32(size)}},
	}
}

func makeNode(name string, podCIDRs ...string) corev1.Node {
	return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: podCIDRs}}
}

// state is a node that has blocks, has seen them, and wants addresses.
func state(name, pool string, wanted int64, blocks ...string) v1alpha1.NetIONode {
	s := v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if len(blocks) > 0 {
		s.Spec.Pools = []v1alpha1.NodePool{{Name: pool, Blocks: blocks}}
	}
	s.Status.Pools = []v1alpha1.NodePoolStatus{{Name: pool, Blocks: blocks, IPv4: v1alpha1.NodePoolUse{Wanted: wanted}}}
	return s
}

func TestPlan(t *testing.T) {
	unseen := state("n1", "web", 5, "10.1.0.0/28")
	unseen.Status.Pools[0].Blocks = nil
	lost := state("n1", "web", 0, "10.1.0.16/28")
	lost.Spec = v1alpha1.NetIONodeSpec{}
	contested := state("n2", "web", 0, "10.1.0.0/28")
	contested.Spec = v1alpha1.NetIONodeSpec{}
	going := state("n1", "web", 1)
	going.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	full := state("n1", "web", 0, "10.1.0.16/28")
	full.Spec.Pools[0].Blocks = []string{"10.1.0.0/28", "10.1.0.16/28"}
	full.Status.Pools[0].Empty = []string{"10.1.0.0/28"}
	hungry := full.DeepCopy()
	hungry.Status.Pools[0].IPv4.Wanted = 1
	torn := full.DeepCopy()
	torn.Status.Pools[0].Blocks = []string{"10.1.0.0/28", "10.1.0.16/28"}
	idle := full.DeepCopy()
	idle.Spec.Pools[0].Blocks, idle.Status.Pools[0].Blocks = []string{"10.1.0.0/28"}, nil
	dual := makePool("web", 0, 28, "10.1.0.0/24")
	dual.Spec.IPv6 = &v1alpha1.IPv6Pool{CIDRs: []v1alpha1.Prefix{"fd01::/64"}, BlockSize: 122}
	wantsSix := state("n1", "web", 1)
	wantsSix.Status.Pools[0].IPv6.Wanted = 64
	at := makeNode("n1")
	at.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "10.1.0.9"}}

	for _, test := range []struct {
		name   string
		pools  []v1alpha1.NetIOIPPool
		nodes  []corev1.Node // n1 and n2 if there are none
		states []v1alpha1.NetIONode
		// want are the blocks that are allotted, as NODE POOL BLOCK.
		want []string
		// ready is the pool web's reason, message a part of its message.
		reason, message string
	}{
		{"nothing wanted", nil, nil, []v1alpha1.NetIONode{state("n1", "web", 0)}, nil, v1alpha1.PoolReasonReady, "nodes get"},
		{"one block", nil, nil, []v1alpha1.NetIONode{state("n1", "web", 1)}, []string{"n1 web 10.1.0.0/28"}, v1alpha1.PoolReasonReady, ""},
		{"as many as a block has", nil, nil, []v1alpha1.NetIONode{state("n1", "web", 14)}, []string{"n1 web 10.1.0.0/28"}, v1alpha1.PoolReasonReady, ""},
		{"more than a block has", nil, nil, []v1alpha1.NetIONode{state("n1", "web", 15)}, []string{"n1 web 10.1.0.0/28", "n1 web 10.1.0.16/28"}, v1alpha1.PoolReasonReady, ""},
		{"by turns", nil, nil, []v1alpha1.NetIONode{state("n2", "web", 15), state("n1", "web", 15)},
			[]string{"n1 web 10.1.0.0/28", "n2 web 10.1.0.16/28", "n1 web 10.1.0.32/28", "n2 web 10.1.0.48/28"}, v1alpha1.PoolReasonReady, ""},
		{"another node's is taken", nil, nil, []v1alpha1.NetIONode{state("n1", "web", 1), state("n2", "web", 0, "10.1.0.0/28")}, []string{"n1 web 10.1.0.16/28"}, v1alpha1.PoolReasonReady, ""},
		{"also a pool's that is gone", nil, nil, []v1alpha1.NetIONode{state("n1", "web", 1), state("n2", "gone", 0, "10.1.0.0/28")}, []string{"n1 web 10.1.0.16/28"}, v1alpha1.PoolReasonReady, ""},
		{"has not seen what it has", nil, nil, []v1alpha1.NetIONode{unseen}, nil, v1alpha1.PoolReasonReady, ""},
		{"two families", []v1alpha1.NetIOIPPool{dual}, nil, []v1alpha1.NetIONode{wantsSix}, []string{"n1 web 10.1.0.0/28", "n1 web fd01::/122", "n1 web fd01::40/122"}, v1alpha1.PoolReasonReady, ""},
		{"full", []v1alpha1.NetIOIPPool{makePool("web", 0, 28, "10.1.0.0/27")}, nil, []v1alpha1.NetIONode{state("n1", "web", 20), state("n2", "web", 20)},
			[]string{"n1 web 10.1.0.0/28", "n2 web 10.1.0.16/28"}, v1alpha1.PoolReasonExhausted, "node n1 needs a block and none is left (2 of 2 blocks of IPv4 are allotted): add a CIDR"},
		{"an older pool has its addresses", []v1alpha1.NetIOIPPool{makePool("web", 1, 28, "10.1.0.0/24"), makePool("old", 0, 28, "10.1.0.128/25")}, nil,
			[]v1alpha1.NetIONode{state("n1", "web", 1), state("n2", "old", 1)}, []string{"n2 old 10.1.0.128/28"}, v1alpha1.PoolReasonOverlap, "10.1.0.0/24 overlaps with 10.1.0.128/25 of the pool old"},
		{"a younger one has", []v1alpha1.NetIOIPPool{makePool("web", 1, 28, "10.1.0.0/24"), makePool("young", 2, 28, "10.1.0.0/25")}, nil,
			[]v1alpha1.NetIONode{state("n1", "web", 1)}, []string{"n1 web 10.1.0.0/28"}, v1alpha1.PoolReasonReady, ""},
		{"a node's pods have", nil, []corev1.Node{makeNode("n1", "10.1.0.0/26")}, []v1alpha1.NetIONode{state("n1", "web", 1)}, nil, v1alpha1.PoolReasonNodes, "the spec.podCIDRs 10.1.0.0/26 of node n1"},
		{"a node has", nil, []corev1.Node{at}, []v1alpha1.NetIONode{state("n1", "web", 1)}, nil, v1alpha1.PoolReasonNodes, "the address 10.1.0.9 of node n1"},
		{"CIDR was removed", nil, nil, []v1alpha1.NetIONode{state("n1", "web", 1, "10.7.0.0/28")}, []string{"n1 web 10.1.0.0/28"}, v1alpha1.PoolReasonOutside, "10.7.0.0/28 of node n1 lies in none"},
		{"the NetIONode was lost", nil, nil, []v1alpha1.NetIONode{lost, state("n2", "web", 20)}, []string{"n1 web 10.1.0.16/28", "n2 web 10.1.0.0/28", "n2 web 10.1.0.32/28"}, v1alpha1.PoolReasonReady, ""},
		{"and its block is another's", nil, nil, []v1alpha1.NetIONode{state("n1", "web", 0, "10.1.0.0/28"), contested}, nil, v1alpha1.PoolReasonReady, ""},
		{"an empty block", nil, nil, []v1alpha1.NetIONode{full}, []string{"-n1 web 10.1.0.0/28"}, v1alpha1.PoolReasonReady, ""},
		{"is another's when it is written", nil, nil, []v1alpha1.NetIONode{full, state("n2", "web", 1)}, []string{"-n1 web 10.1.0.0/28", "n2 web 10.1.0.32/28"}, v1alpha1.PoolReasonReady, ""},
		{"while one is wanted", nil, nil, []v1alpha1.NetIONode{*hungry}, []string{"-n1 web 10.1.0.0/28", "n1 web 10.1.0.32/28"}, v1alpha1.PoolReasonReady, ""},
		{"that the node wants back", nil, nil, []v1alpha1.NetIONode{*torn}, nil, v1alpha1.PoolReasonReady, ""},
		{"the last one of a node", nil, nil, []v1alpha1.NetIONode{*idle}, []string{"-n1 web 10.1.0.0/28"}, v1alpha1.PoolReasonReady, ""},
		{"a node that is gone", nil, []corev1.Node{makeNode("n2")}, []v1alpha1.NetIONode{state("n1", "web", 1)}, nil, v1alpha1.PoolReasonReady, ""},
		{"a NetIONode that goes", nil, nil, []v1alpha1.NetIONode{going}, nil, v1alpha1.PoolReasonReady, ""},
		{"unknown pool", nil, nil, []v1alpha1.NetIONode{state("n1", "none", 1)}, nil, v1alpha1.PoolReasonReady, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world{pools: test.pools, nodes: test.nodes, states: test.states}
			if w.pools == nil {
				w.pools = []v1alpha1.NetIOIPPool{makePool("web", 0, 28, "10.1.0.0/24")}
			}
			if w.nodes == nil {
				w.nodes = []corev1.Node{makeNode("n1", "10.244.1.0/24"), makeNode("n2", "10.244.2.0/24")}
			}
			p := makePlan(w)
			var got []string
			for _, a := range p.returned {
				got = append(got, fmt.Sprint("-", a.node, " ", a.pool, " ", a.block))
				if slices.ContainsFunc(p.specs[a.node], func(np v1alpha1.NodePool) bool {
					return slices.Contains(np.Blocks, a.block.String()) || len(np.Blocks) == 0
				}) {
					t.Errorf("%s is still in the spec %+v", a.block, p.specs[a.node])
				}
			}
			for _, a := range p.allotted {
				got = append(got, fmt.Sprint(a.node, " ", a.pool, " ", a.block))
				if !slices.ContainsFunc(p.specs[a.node], func(np v1alpha1.NodePool) bool {
					return np.Name == a.pool && slices.Contains(np.Blocks, a.block.String())
				}) {
					t.Errorf("%s is not in the spec %+v", a.block, p.specs[a.node])
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			c := apimeta.FindStatusCondition(p.statuses["web"].Conditions, v1alpha1.PoolReady)
			if c.Reason != test.reason || !strings.Contains(c.Message, test.message) || (c.Status == metav1.ConditionTrue) != (c.Reason == v1alpha1.PoolReasonReady) {
				t.Errorf("condition %+v", c)
			}
		})
	}
}

func TestPoolUse(t *testing.T) {
	one, two := state("n1", "web", 0, "10.1.0.0/28"), state("n2", "web", 1)
	one.Status.Pools[0].IPv4.Used = 7
	p := makePlan(world{
		pools: []v1alpha1.NetIOIPPool{makePool("web", 0, 28, "10.1.0.0/24")}, nodes: []corev1.Node{makeNode("n1"), makeNode("n2")},
		states: []v1alpha1.NetIONode{one, two},
	})
	if diff := cmp.Diff(&v1alpha1.PoolUse{Capacity: 16, Allotted: 2, Used: 7}, p.statuses["web"].IPv4); diff != "" {
		t.Error(diff)
	}
	if p.statuses["web"].IPv6 != nil {
		t.Error("numbers of a family that the pool does not have")
	}
}

// TestPlanProperties: whatever comes, no address is two nodes', nothing is taken from
// a node but what it gives back, and the same world gives the same plan; also when of
// what is planned only a part could be written.
func TestPlanProperties(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := world{}
		for i := range 6 {
			name := fmt.Sprint("n", i)
			w.nodes = append(w.nodes, makeNode(name, fmt.Sprintf("10.244.%d.0/24", i)))
			w.states = append(w.states, v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		for step := range 60 {
			// Pools come, change and go; some overlap.
			w.pools = nil
			for i := range 1 + r.IntN(4) {
				w.pools = append(w.pools, makePool(fmt.Sprint("p", i), r.IntN(3), 26+r.IntN(5), v1alpha1.Prefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(r.IntN(2)), byte(r.IntN(4) * 64)}), 24+r.IntN(3)).Masked().String())))
			}
			for i := range w.states {
				s := &w.states[i]
				if r.IntN(40) == 0 { // the node is gone, and another one comes
					*s = v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: s.Name}}
					continue
				}
				s.Status.Pools = nil
				for _, np := range s.Spec.Pools {
					st := v1alpha1.NodePoolStatus{Name: np.Name, IPv4: v1alpha1.NodePoolUse{Wanted: int64(r.IntN(20))}}
					for _, b := range np.Blocks {
						if r.IntN(4) == 0 {
							st.Empty = append(st.Empty, b)
						} else {
							st.Blocks = append(st.Blocks, b)
						}
					}
					s.Status.Pools = append(s.Status.Pools, st)
				}
				if name := fmt.Sprint("p", r.IntN(4)); !slices.ContainsFunc(s.Status.Pools, func(st v1alpha1.NodePoolStatus) bool { return st.Name == name }) {
					s.Status.Pools = append(s.Status.Pools, v1alpha1.NodePoolStatus{Name: name, IPv4: v1alpha1.NodePoolUse{Wanted: 1}})
				}
			}
			p := makePlan(w)
			if diff := cmp.Diff(p.specs, makePlan(w).specs); diff != "" {
				t.Fatalf("seed %d, step %d: another plan of the same: %s", seed, step, diff)
			}
			var all []netip.Prefix
			for i := range w.states {
				spec, ok := p.specs[w.states[i].Name]
				if !ok || r.IntN(5) == 0 {
					spec = w.states[i].Spec.Pools // another one wrote first
				}
				for _, st := range w.states[i].Status.Pools {
					now := slices.IndexFunc(spec, func(n v1alpha1.NodePool) bool { return n.Name == st.Name })
					for _, b := range st.Blocks {
						if now < 0 || !slices.Contains(spec[now].Blocks, b) {
							t.Fatalf("seed %d, step %d: %s leases from %s and has %v", seed, step, w.states[i].Name, b, spec)
						}
					}
				}
				for _, np := range spec {
					all = append(all, prefixes(np.Blocks)...)
				}
				w.states[i].Spec.Pools = spec
			}
			for i, a := range all {
				if slices.ContainsFunc(all[:i], a.Overlaps) {
					t.Fatalf("seed %d, step %d: %s is allotted twice, of %v", seed, step, a, all)
				}
			}
		}
	}
}
