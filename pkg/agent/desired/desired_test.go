// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/config"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	dataplaneconfig "netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/policy"
)

func node() Node {
	return Node{
		HostInterface: "netio0", HostMTU: 1500,
		Routers:       []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:10:244::1")},
		PodCIDRs:      []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")},
		HostAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("10.244.0.1")},
	}
}

func pod(i int, app string) *attachment.Attachment {
	id := fmt.Sprintf("c%d", i)
	return &attachment.Attachment{
		ID: attachment.ID{Network: "netio", ContainerID: id, IfName: "eth0"}, Port: id + "/eth0", NetNS: "/run/netns/" + id,
		Namespace: "default", Name: "pod-" + id, Labels: map[string]string{"app": app}, MTU: 1500,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00:10:244::%x", i))},
	}
}

// allow lets app from reach app to and nobody else.
func allow(name, from, to string) *v1alpha1.NetIOPolicy {
	return &v1alpha1.NetIOPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: v1alpha1.NetIOPolicySpec{
			PodSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(to)}},
			PolicyTypes: []v1alpha1.PolicyType{v1alpha1.PolicyTypeIngress},
			Ingress: []v1alpha1.IngressRule{{
				Action: v1alpha1.ActionAllow,
				From:   []v1alpha1.Peer{{PodSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(from)}}}},
			}},
		},
	}
}

// TestKubeProxyReplacement: the forwarder is told what is the host's, and node ports
// are at the host's addresses but the router's.
func TestKubeProxyReplacement(t *testing.T) {
	addr := netip.MustParseAddr
	n := Node{
		Routers: []netip.Addr{addr("10.1.0.1"), addr("fd01::1")}, HostAddresses: []netip.Addr{addr("10.1.0.1"), addr("192.0.2.1")},
		ServiceSources: []netip.Addr{addr("10.1.0.2"), addr("fd01::2")},
	}
	if s := settings(n); len(s.HostAddresses) > 0 || s.ServiceIpv4 != "" || s.ServiceIpv6 != "" {
		t.Errorf("beside kube-proxy: %v", s)
	}
	n.KubeProxyReplacement = true
	if s := settings(n); !slices.Equal(s.HostAddresses, []string{"10.1.0.1", "192.0.2.1"}) || s.ServiceIpv4 != "10.1.0.2" || s.ServiceIpv6 != "fd01::2" {
		t.Errorf("%v", s)
	}
	if s := n.ServiceNode(); !s.Proxy || !slices.Equal(s.Addresses, []netip.Addr{addr("192.0.2.1")}) {
		t.Errorf("%+v", s)
	}
}

func TestBuild(t *testing.T) {
	s := State{Node: node(), Policies: []*v1alpha1.NetIOPolicy{allow("web", "client", "web")}}
	s.Node.Connections = config.Connections{Max: 65536, Timeouts: config.Timeouts{UDP: 10 * time.Second}}
	s = s.With(pod(3, "web")).With(pod(2, "client"))
	got, problems := NewBuilder().Build(s)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if err := dataplaneconfig.Validate(got); err != nil {
		t.Fatal(err)
	}
	policies := got.Policies
	if len(policies) != 1 || !policies[0].IsolatesIngress || policies[0].IsolatesEgress {
		t.Errorf("policies %v", policies)
	}
	if len(got.AddressSets) != 1 || !cmp.Equal(got.AddressSets[0].Prefixes, []string{"10.244.0.2/32", "fd00:10:244::2/128"}) {
		t.Errorf("address sets %v", got.AddressSets)
	}
	want := &dataplanev1.Snapshot{
		Settings: &dataplanev1.Settings{Ipv4: "10.244.0.1", Ipv6: "fd00:10:244::1", MaxConnections: 65536, Timeouts: &dataplanev1.Timeouts{Udp: 10}},
		Ports: []*dataplanev1.Port{
			{Name: "c2/eth0", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/c2", Mtu: 1500, Addresses: []string{"10.244.0.2", "fd00:10:244::2"},
				Tags: map[string]string{"namespace": "default", "pod": "pod-c2", "container": "c2", "network": "netio"}},
			{Name: "c3/eth0", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/c3", Mtu: 1500, Addresses: []string{"10.244.0.3", "fd00:10:244::3"},
				Policies: []string{policies[0].Name},
				Tags:     map[string]string{"namespace": "default", "pod": "pod-c3", "container": "c3", "network": "netio"}},
			{Name: "host", Kind: dataplanev1.Port_HOST, Ifname: "netio0", Mtu: 1500, Addresses: []string{"10.244.0.1", "fd00:10:244::1"}},
		},
		Routes: []*dataplanev1.Route{
			{Prefix: "0.0.0.0/0", Port: "host"}, {Prefix: "10.244.0.0/24"},
			{Prefix: "::/0", Port: "host"}, {Prefix: "fd00:10:244::/64"},
		},
		AddressSets: got.AddressSets,
		Policies:    got.Policies,
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestBuildOneFamily(t *testing.T) {
	n := node()
	n.Routers, n.PodCIDRs = n.Routers[:1], n.PodCIDRs[:1]
	got, _ := NewBuilder().Build(State{Node: n})
	if err := dataplaneconfig.Validate(got); err != nil {
		t.Fatal(err)
	}
	if got.Settings.Ipv6 != "" || len(got.Routes) != 2 {
		t.Errorf("IPv6 in %v", got)
	}
}

// In a cluster a pod has the labels that it has there now, pods of other nodes are
// peers, and a pod that only has the name of one is another.
func TestBuildCluster(t *testing.T) {
	local := pod(2, "at its start")
	local.UID = "2"
	stale := pod(3, "client")
	stale.UID = "of the one before"
	s := State{Node: node(), Policies: []*v1alpha1.NetIOPolicy{allow("p", "client", "web")}}.With(local).With(stale)
	s.Node.PodNetworks = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	address := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	s.Cluster = &Cluster{Pods: map[string]*Pod{
		"default/pod-c2": {Namespace: "default", Name: "pod-c2", UID: "2", Labels: map[string]string{"app": "web"}, Addresses: address("10.244.0.2")},
		"default/pod-c3": {Namespace: "default", Name: "pod-c3", UID: "3", Labels: map[string]string{"app": "web"}, Addresses: address("10.244.1.3")},
		"default/far":    {Namespace: "default", Name: "far", Labels: map[string]string{"app": "client"}, Addresses: address("10.244.1.4")},
		"default/coming": {Namespace: "default", Name: "coming", Labels: map[string]string{"app": "client"}},
		"other/far":      {Namespace: "other", Name: "far", Labels: map[string]string{"app": "client"}, Addresses: address("10.244.1.5")},
	}}
	got, problems := NewBuilder().Build(s)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, p := range got.Ports {
		if closed := len(p.Policies) > 0; closed != (p.Name == local.Port) {
			t.Errorf("port %s has policies %v", p.Name, p.Policies)
		}
	}
	if want := []string{"10.244.0.3/32", "10.244.1.4/32", "fd00:10:244::3/128"}; len(got.AddressSets) != 1 || !cmp.Equal(got.AddressSets[0].Prefixes, want) {
		t.Errorf("address sets %v, want one with %v", got.AddressSets, want)
	}
}

// The entities of a cluster, and nodes by their labels, follow its objects.
func TestBuildEntities(t *testing.T) {
	address := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	p := allow("p", "client", "web")
	p.Spec.Ingress[0].From = []v1alpha1.Peer{
		{Entity: v1alpha1.EntityRemoteNode}, {Entity: v1alpha1.EntityKubeAPIServer}, {NodeSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"disk": "ssd"}}},
	}
	s := State{Node: node(), Policies: []*v1alpha1.NetIOPolicy{p}}.With(pod(2, "web"))
	s.Node.Name = "self"
	check := func(what string, want map[string][]string) {
		t.Helper()
		got, problems := NewBuilder().Build(s)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		sets := map[string][]string{}
		for _, set := range got.AddressSets {
			sets[set.Name] = set.Prefixes
		}
		if d := cmp.Diff(want, sets); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	check("without a cluster", map[string][]string{"entity:remote-node": nil, "entity:kube-apiserver": nil, "nodes:disk=ssd": nil})

	meta := metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}}
	other := meta
	other.Name, other.Labels = "other", map[string]string{discoveryv1.LabelServiceName: "other"}
	s.Cluster = &Cluster{
		Nodes: map[string]policy.ClusterNode{
			"self": {Labels: map[string]string{"disk": "hdd"}, Addresses: address("192.0.2.5")},
			"far":  {Labels: map[string]string{"disk": "ssd"}, Addresses: address("192.0.2.6")},
		},
		Services: map[string]*corev1.Service{"default/kubernetes": {ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1", "None"}}}},
		EndpointSlices: map[string]*discoveryv1.EndpointSlice{
			"default/kubernetes": {ObjectMeta: meta, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.6"}}}},
			"default/other":      {ObjectMeta: other, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.7"}}}},
		},
	}
	check("in a cluster", map[string][]string{
		"entity:remote-node": {"192.0.2.6/32"}, "entity:kube-apiserver": {"10.96.0.1/32", "192.0.2.6/32"}, "nodes:disk=ssd": {"192.0.2.6/32"},
	})
}

// A state is a value: what is made of it later does not change it.
func TestStateIsAValue(t *testing.T) {
	one := State{Node: node()}.With(pod(2, "web"))
	two := one.With(pod(3, "web"))
	none := two.Without("c2/eth0").Without("c3/eth0").Without("never/there")
	if len(one.Attachments) != 1 || len(two.Attachments) != 2 || len(none.Attachments) != 0 {
		t.Errorf("%d, %d, %d attachments", len(one.Attachments), len(two.Attachments), len(none.Attachments))
	}
}

// cluster has some of the pods of this node, some of others, and namespaces.
func cluster(r *rand.Rand, app func() string) *Cluster {
	c := &Cluster{Pods: map[string]*Pod{}, Namespaces: map[string]map[string]string{}}
	for range r.IntN(8) {
		i := 2 + r.IntN(20)
		p := &Pod{Namespace: "default", Name: fmt.Sprint("pod-c", i), Labels: map[string]string{"app": app()}}
		if r.IntN(4) > 0 {
			p.Addresses = pod(i, "").Addresses
		}
		if r.IntN(4) == 0 {
			p.UID = "of another"
		}
		c.Pods[policy.Name(p.Namespace, p.Name)] = p
	}
	c.Nodes = map[string]policy.ClusterNode{}
	for i := range r.IntN(3) {
		c.Nodes[fmt.Sprint("node", i)] = policy.ClusterNode{Labels: map[string]string{"disk": app()}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(4))})}}
	}
	if r.IntN(2) == 0 {
		c.Namespaces["default"] = map[string]string{"team": app()}
	}
	c.Services, c.EndpointSlices = map[string]*corev1.Service{}, map[string]*discoveryv1.EndpointSlice{}
	for range r.IntN(3) {
		name := fmt.Sprint("s", r.IntN(3))
		meta := metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}}
		number := int32(80 + r.IntN(2))
		c.Services[policy.Name("default", name)] = &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIPs: []string{fmt.Sprint("10.96.0.", r.IntN(3))}, Ports: []corev1.ServicePort{{Port: number}}}}
		c.EndpointSlices[policy.Name("default", name)] = &discoveryv1.EndpointSlice{
			ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &number}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprint("10.244.0.", 2+r.IntN(20))}}},
		}
	}
	return c
}

// random makes a state of the last one.
func random(r *rand.Rand, s State) State {
	apps := []string{"web", "client", "db"}
	app := func() string { return apps[r.IntN(len(apps))] }
	for range 1 + r.IntN(4) {
		switch p := pod(2+r.IntN(12), app()); r.IntN(11) {
		case 0, 1:
			s = s.With(p)
		case 2:
			s = s.Without(p.Port)
		case 3:
			s.Policies = nil
			for i := range r.IntN(3) {
				s.Policies = append(s.Policies, allow(fmt.Sprint("p", i), app(), app()))
			}
		case 4:
			s.Node.HostAddresses = s.Node.HostAddresses[:1]
		case 5: // a container that came again in another namespace
			p.NetNS += "-again"
			s = s.With(p)
		case 6:
			s.Cluster = nil
		case 7, 8:
			s.Cluster = cluster(r, app)
		case 10:
			s.ClusterNetworkPolicies = nil
			for i := range r.IntN(3) {
				p := &networkapi.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}
				p.Spec.Tier, p.Spec.Subject.Namespaces = networkapi.AdminTier, &metav1.LabelSelector{MatchLabels: map[string]string{"team": app()}}
				p.Spec.Ingress = []networkapi.ClusterNetworkPolicyIngressRule{{Action: "Deny", From: []networkapi.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}}}}
				s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, p)
			}
		case 9:
			s.ClusterPolicies = nil
			for i := range r.IntN(3) {
				p := &v1alpha1.NetIOClusterPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}
				like := allow("", app(), app()).Spec
				p.Spec.Tier = []v1alpha1.Tier{v1alpha1.TierAdmin, v1alpha1.TierNormal, v1alpha1.TierBaseline}[r.IntN(3)]
				p.Spec.PodSelector, p.Spec.Ingress = &like.PodSelector, []v1alpha1.ClusterIngressRule{v1alpha1.ClusterIngressRule(like.Ingress[0])}
				s.ClusterPolicies = append(s.ClusterPolicies, p)
			}
		}
	}
	return s
}

// However it got there, a state has one snapshot; and the deltas lead from one
// to the next, by the forwarder's own rules.
func TestBuilderAndDiffAgainstOracle(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		b, s := NewBuilder(), State{Node: node()}
		inForce := &dataplanev1.Snapshot{}
		for step := range 30 {
			s = random(r, s)
			got, _ := b.Build(s)
			fresh, _ := NewBuilder().Build(s)
			if !proto.Equal(fresh, got) {
				t.Fatalf("seed %d step %d: a fresh builder builds (-fresh +got):\n%s", seed, step, cmp.Diff(fresh, got, protocmp.Transform()))
			}
			d := Diff(inForce, got)
			d.BaseRevision, d.Revision = inForce.GetRevision(), inForce.GetRevision()+1
			merged, err := dataplaneconfig.Merge(inForce, d)
			if err == nil {
				err = dataplaneconfig.Validate(merged)
			}
			if err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			if !Equal(merged, got) {
				t.Fatalf("seed %d step %d: the delta leads to\n%v\nexpected\n%v", seed, step, merged, got)
			}
			if Empty(d) != Equal(inForce, got) {
				t.Fatalf("seed %d step %d: empty %v", seed, step, Empty(d))
			}
			checkRemade(t, inForce, got)
			inForce = Sorted(merged)
		}
	}
}

// checkRemade: what WithoutRemade leaves is valid, and has no port that would
// have to change its interface.
func checkRemade(t *testing.T, old, new *dataplanev1.Snapshot) {
	t.Helper()
	without := WithoutRemade(old, new)
	if without == nil {
		without = old
	} else if err := dataplaneconfig.Validate(without); err != nil {
		t.Fatal(err)
	}
	next := map[string]*dataplanev1.Port{}
	for _, p := range new.Ports {
		next[p.Name] = p
	}
	for _, p := range without.Ports {
		if n := next[p.Name]; n != nil && (n.Netns != p.Netns || n.Mtu != p.Mtu || n.Ifname != p.Ifname) {
			t.Fatalf("port %s stays but changes from %v to %v", p.Name, p, n)
		}
	}
}

func TestWithoutRemade(t *testing.T) {
	s := State{Node: node()}.With(pod(2, "web"))
	old, _ := NewBuilder().Build(s)
	if WithoutRemade(old, old) != nil {
		t.Error("nothing is remade")
	}
	s.Node.HostMTU = 1400
	new, _ := NewBuilder().Build(s)
	got := WithoutRemade(old, new)
	if len(got.Ports) != 1 || got.Ports[0].Name != "c2/eth0" {
		t.Errorf("ports %v, expected the host's to be gone", got.Ports)
	}
	if len(got.Routes) != 2 {
		t.Errorf("routes %v, expected those to the host to be gone", got.Routes)
	}
	if err := dataplaneconfig.Validate(got); err != nil {
		t.Error(err)
	}
}

func TestEqual(t *testing.T) {
	s := State{Node: node()}.With(pod(2, "web")).With(pod(3, "web"))
	a, _ := NewBuilder().Build(s)
	b := proto.Clone(a).(*dataplanev1.Snapshot)
	b.Revision = 7
	b.Ports[0], b.Ports[1] = b.Ports[1], b.Ports[0]
	if !Equal(a, b) {
		t.Error("order and revision matter")
	}
	b.Ports[0].Mtu++
	if Equal(a, b) {
		t.Error("an MTU does not matter")
	}
}

// BenchmarkBuildAndDiff is what an ADD costs on a node with 1000 pods and 50
// policies.
func BenchmarkBuildAndDiff(b *testing.B) {
	s := State{Node: node()}
	for i := range 1000 {
		p := pod(i%250+2, fmt.Sprint("app", i%60))
		p.Port = fmt.Sprint("c", i, "/eth0")
		s = s.With(p)
	}
	for i := range 50 {
		s.Policies = append(s.Policies, allow(fmt.Sprint("p", i), fmt.Sprint("app", i), fmt.Sprint("app", i+1)))
	}
	builder := NewBuilder()
	old, _ := builder.Build(s)
	for b.Loop() {
		new, _ := builder.Build(s.With(pod(251, "app7")))
		if d := Diff(old, new); len(d.Ports) != 1 {
			b.Fatalf("%d ports", len(d.Ports))
		}
		old, _ = builder.Build(s)
	}
}
