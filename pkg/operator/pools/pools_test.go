// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/operatortest"
)

type bed struct {
	*testing.T
	client.Client
	ctx context.Context
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) addNode(name string) *v1alpha1.NetIONode {
	b.Helper()
	b.must(b.Create(b.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	s := &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.must(b.Create(b.ctx, s))
	return s
}

// ask has a node's agent say that it wants so many, having seen what it has.
func (b *bed) ask(s *v1alpha1.NetIONode, pool string, wanted int64) {
	b.Helper()
	for {
		b.must(b.Get(b.ctx, client.ObjectKeyFromObject(s), s))
		st := v1alpha1.NodePoolStatus{Name: pool, IPv4: v1alpha1.NodePoolUse{Wanted: wanted, Used: 1}}
		if len(s.Spec.Pools) > 0 {
			st.Blocks = s.Spec.Pools[0].Blocks
		}
		s.Status.Pools = []v1alpha1.NodePoolStatus{st}
		err := b.Status().Update(b.ctx, s)
		if !apierrors.IsConflict(err) {
			b.must(err)
			return
		}
	}
}

func isReady(reason string) func(*v1alpha1.NetIOIPPool) bool {
	return func(p *v1alpha1.NetIOIPPool) bool {
		c := apimeta.FindStatusCondition(p.Status.Conditions, v1alpha1.PoolReady)
		return c != nil && c.Reason == reason && c.ObservedGeneration == p.Generation
	}
}

func hasBlocks(n int) func(*v1alpha1.NetIONode) bool {
	return func(s *v1alpha1.NetIONode) bool { return len(s.Spec.Pools) == 1 && len(s.Spec.Pools[0].Blocks) == n }
}

// TestController: nodes that ask get blocks, and pools tell how they are.
func TestController(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	b := &bed{t, kubetest.Client(t, config), t.Context()}
	defer operatortest.Start(t, config, operator.Controller{Name: Name, Register: Register}, nil)()

	web := &v1alpha1.NetIOIPPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NetIOIPPoolSpec{
		IPv4: &v1alpha1.IPv4Pool{CIDRs: []v1alpha1.Prefix{"10.1.0.0/27"}, BlockSize: 28}, IPv6: &v1alpha1.IPv6Pool{CIDRs: []v1alpha1.Prefix{"fd01::/64"}},
	}}
	b.must(b.Create(b.ctx, web))
	kubetest.Await(b, b, "the pool is ready", web, isReady(v1alpha1.PoolReasonReady))
	if web.Spec.IPv6.BlockSize != 122 || web.Status.IPv4.Capacity != 2 || web.Status.IPv6.Capacity != 1<<58 {
		t.Errorf("%+v", web)
	}

	n1, n2 := b.addNode("n1"), b.addNode("n2")
	b.ask(n1, "web", 1)
	b.ask(n2, "web", 1)
	kubetest.Await(b, b, "n1 has a block", n1, hasBlocks(1))
	kubetest.Await(b, b, "n2 has a block", n2, hasBlocks(1))
	if one, two := n1.Spec.Pools[0].Blocks[0], n2.Spec.Pools[0].Blocks[0]; one == two || n1.Spec.Pools[0].Name != "web" {
		t.Errorf("n1 has %s, n2 has %s", one, two)
	}
	b.ask(n1, "web", 1)
	kubetest.Await(b, b, "no more blocks", web, isReady(v1alpha1.PoolReasonExhausted))
	if web.Status.IPv4.Allotted != 2 || web.Status.IPv4.Used != 2 {
		t.Errorf("%+v", web.Status.IPv4)
	}

	// One more CIDR, and a node that is gone.
	web.Spec.IPv4.CIDRs = append(web.Spec.IPv4.CIDRs, "10.2.0.0/28")
	b.must(b.Update(b.ctx, web))
	kubetest.Await(b, b, "another block", n1, hasBlocks(2))
	b.ask(n1, "web", 0)
	kubetest.Await(b, b, "the pool is ready again", web, isReady(v1alpha1.PoolReasonReady))
	freed := n2.Spec.Pools[0].Blocks[0]
	b.must(b.Delete(b.ctx, n2))
	n3 := b.addNode("n3")
	b.ask(n3, "web", 1)
	kubetest.Await(b, b, "n3 has a block", n3, hasBlocks(1))
	if got := n3.Spec.Pools[0].Blocks[0]; got != freed {
		t.Errorf("n3 has %s, expected %s of the node that is gone", got, freed)
	}

	// n1 gives one back, and it is n3's.
	for {
		b.must(b.Get(b.ctx, client.ObjectKeyFromObject(n1), n1))
		has := n1.Spec.Pools[0].Blocks
		n1.Status.Pools = []v1alpha1.NodePoolStatus{{Name: "web", Blocks: has[:1], Empty: has[1:]}}
		if err := b.Status().Update(b.ctx, n1); !apierrors.IsConflict(err) {
			b.must(err)
			break
		}
	}
	returned := n1.Status.Pools[0].Empty[0]
	kubetest.Await(b, b, "it is taken back", n1, hasBlocks(1))
	b.ask(n3, "web", 1)
	kubetest.Await(b, b, "n3 has another block", n3, hasBlocks(2))
	if got := n3.Spec.Pools[0].Blocks[1]; got != returned {
		t.Errorf("n3 has %s, expected %s", got, returned)
	}

	// Of one second the name decides which is older.
	young := &v1alpha1.NetIOIPPool{ObjectMeta: metav1.ObjectMeta{Name: "young"}, Spec: v1alpha1.NetIOIPPoolSpec{IPv4: &v1alpha1.IPv4Pool{CIDRs: []v1alpha1.Prefix{"10.0.0.0/8"}}}}
	b.must(b.Create(b.ctx, young))
	kubetest.Await(b, b, "the younger pool overlaps", young, isReady(v1alpha1.PoolReasonOverlap))
	b.must(b.Delete(b.ctx, web))
	// Its blocks are not the younger one's as long as nodes have them.
	kubetest.Await(b, b, "the younger pool is ready", young, isReady(v1alpha1.PoolReasonReady))
}

// TestValidation: the API server refuses what cannot be, and says what to do.
func TestValidation(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	b := &bed{t, kubetest.Client(t, config), t.Context()}
	four := func(size int32, cidrs ...v1alpha1.Prefix) v1alpha1.NetIOIPPoolSpec {
		return v1alpha1.NetIOIPPoolSpec{IPv4: &v1alpha1.IPv4Pool{CIDRs: cidrs, BlockSize: size}}
	}
	six := func(size int32, cidrs ...v1alpha1.Prefix) v1alpha1.NetIOIPPoolSpec {
		return v1alpha1.NetIOIPPoolSpec{IPv6: &v1alpha1.IPv6Pool{CIDRs: cidrs, BlockSize: size}}
	}
	for _, test := range []struct {
		name string
		spec v1alpha1.NetIOIPPoolSpec
		err  string // "" for none
	}{
		{"four", four(0, "10.0.0.0/16", "192.168.0.0/24"), ""},
		{"six", six(0, "fd00::/48"), ""},
		{"no-addresses", v1alpha1.NetIOIPPoolSpec{}, "give ipv4, ipv6 or both"},
		{"no-cidrs", four(26), "spec.ipv4.cidrs: Required"},
		{"no-prefix", four(26, "10.0.0.0"), "CIDR notation"},
		{"host-bits", four(26, "10.0.0.1/16"), "clear them"},
		{"family", four(26, "fd00::/64"), "IPv6 ones belong under ipv6"},
		{"other-family", six(122, "10.0.0.0/16"), "IPv4 ones belong under ipv4"},
		{"block-too-large", four(24, "10.0.0.0/16", "10.9.0.0/26"), "give larger CIDRs or a greater blockSize"},
		{"block-too-small", four(31, "10.0.0.0/16"), "less than or equal to 30"},
		{"six-block-too-large", six(64, "fd00::/80"), "give larger CIDRs"},
		{"twice", four(26, "10.0.0.0/16", "10.0.0.0/16"), "overlap with each other"},
		{"overlap", four(26, "10.0.0.0/16", "10.0.128.0/24"), "overlap with each other"},
		{"all", four(26, "0.0.0.0/0"), "larger than a /8"},
		{"loopback", four(26, "127.1.0.0/16"), "not loopback"},
		{"multicast", six(122, "ff02::/64"), "not loopback"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &v1alpha1.NetIOIPPool{ObjectMeta: metav1.ObjectMeta{Name: test.name}, Spec: test.spec}
			err := b.Create(b.ctx, p)
			if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, expected %q", err, test.err)
			}
			if err != nil {
				return
			}
			if p.Spec.IPv4 != nil {
				p.Spec.IPv4.BlockSize = 27
			} else {
				p.Spec.IPv6.BlockSize = 124
			}
			if err := b.Update(b.ctx, p); err == nil || !strings.Contains(err.Error(), "cannot be changed: make another pool") {
				t.Errorf("another blockSize: %v", err)
			}
		})
	}
}
