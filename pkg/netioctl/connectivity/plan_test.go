// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// sample is a layout of n nodes, n1 and so on, of both families.
func sample(n int) *layout {
	l := &layout{headless: "all", port: podPort, hostPort: 9620, wait: time.Second, settle: time.Minute}
	for i := 1; i <= n; i++ {
		m := member{name: fmt.Sprintf("n%d", i), service: fmt.Sprintf("on-%d", i), nodePort: int32(30000 + i), udpPort: int32(31000 + i)}
		both := func(last int) []netip.Addr {
			return []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i), byte(last)}), netip.MustParseAddr(fmt.Sprintf("fd00::%d:%d", i, last))}
		}
		m.addresses, m.clusterIPs = both(1), both(96)
		m.pod = &party{name: fmt.Sprintf("pod-%d", i), node: m.name, role: rolePod, addresses: both(10)}
		m.peer = &party{name: fmt.Sprintf("peer-%d", i), node: m.name, role: rolePeer, addresses: both(11)}
		m.host = &party{name: fmt.Sprintf("host-%d", i), node: m.name, role: roleHost, addresses: both(1)}
		l.members = append(l.members, m)
	}
	return l
}

// TestPlan: every way there is, once, and no other.
func TestPlan(t *testing.T) {
	l := sample(2)
	l.world = "192.0.2.1:443"
	links, notes := plan(l)
	if len(notes) != 0 {
		t.Errorf("notes %v", notes)
	}
	seen := map[string]bool{}
	number := map[Kind]int{}
	for i := range links {
		k := &links[i]
		what := string(k.Kind) + ": " + k.String()
		if seen[what] {
			t.Errorf("twice: %s", what)
		}
		seen[what] = true
		number[k.Kind]++
		if k.skip != "" {
			t.Errorf("%s is skipped: %s", k, k.skip)
		}
		if k.Kind != PodsStart && (k.question.Wait == 0 || k.question.Target == "") {
			t.Errorf("%s: %+v", k, k.question)
		}
	}
	// Of two families and two nodes, so many each: pods and nodes themselves by 4 means
	// (3 to nodes, where bulk is left out), services by 2.
	for kind, want := range map[Kind]int{
		PodsStart: 6, SameNode: 2 * 2 * 2 * 4, OtherNode: 2 * 2 * 4, PodToNode: 2 * 4 * 3, NodeToPod: 2 * 4 * 4, NodeToNode: 2 * 2 * 4,
		PodToService: 2 * 4 * 2, NodeToService: 2 * 4 * 2, Hairpin: 2 * 2 * 2, ServiceName: 2 * 2, Headless: 2 * 2,
		PodToNodePort: 2 * (2 + 4) * 2, NodeToNodePort: 2 * 4 * 2, ToAPIServer: 2 * 2, ToWorld: 2, NodeToWorld: 2,
	} {
		if number[kind] != want {
			t.Errorf("%s: %d links, want %d", kind, number[kind], want)
		}
	}
	for _, want := range []string{
		"pod on n1 -> other pod on n1, IPv4, TCP", "other pod on n2 -> pod on n2, IPv6, ICMP echo", "pod on n1 -> pod on n2, IPv6, 1024 KiB by TCP",
		"pod on n1 -> node n1, IPv4, UDP", "pod on n2 -> node n1, IPv6, ICMP echo", "node n1 -> pod on n2, IPv6, UDP", "node n2 -> node n1, IPv4, 1024 KiB by TCP",
		"pod on n1 -> service of the pod on n1, IPv4, TCP", "other pod on n1 -> service of the pod on n1, IPv6, UDP", "node n1 -> service of the pod on n2, IPv4, TCP",
		"pod on n1 -> port of node n1, for the pod on n2, IPv4, TCP", "pod on n1 -> port of node n2, for the pod on n2, IPv6, UDP", "pod on n1 -> name on-2, IPv6, TCP",
		"pod on n2 -> name all, IPv4, DNS", "pod on n1 -> API server, HTTPS", "pod on n1 -> name kubernetes.default.svc:443, HTTPS", "node n1 -> world, 192.0.2.1:443, TCP",
	} {
		if !slices.ContainsFunc(links, func(k Link) bool { return k.String() == want }) {
			t.Errorf("no link %q", want)
		}
	}
}

// TestPlanLacks: what cannot be tested is among the links, or a note.
func TestPlanLacks(t *testing.T) {
	only4 := func(l *layout) {
		for i := range l.members {
			m := &l.members[i]
			for _, p := range m.parties() {
				p.addresses = p.addresses[:1]
			}
			m.addresses, m.clusterIPs = m.addresses[:1], m.clusterIPs[:1]
		}
	}
	for name, c := range map[string]struct {
		nodes int
		edit  func(*layout)
		note  string         // one that there is
		skips map[string]int // so many links of a kind have this reason
	}{
		"one family":        {nodes: 2, edit: only4, note: "IPv6 is not tested: no pod has an address of it"},
		"one node":          {nodes: 1, edit: func(*layout) {}, note: "nothing between nodes"},
		"no world":          {nodes: 2, edit: func(*layout) {}, note: "--world ADDRESS:PORT"},
		"many nodes":        {nodes: allPairs + 1, edit: func(*layout) {}, note: "in a ring"},
		"a pod has trouble": {nodes: 2, edit: func(l *layout) { l.members[1].pod.trouble = "x"; l.members[1].pod.addresses = nil }, skips: map[string]int{"the pod on n2 does not run": 120}},
		"a pod is refused":  {nodes: 2, edit: func(l *layout) { l.members[0].host.trouble, l.members[0].host.refused = "x", true }, skips: map[string]int{"the pod in the network of node n1 does not run": 60}},
		"a node has no IPv6": {nodes: 2, edit: func(l *layout) { l.members[0].addresses = l.members[0].addresses[:1] }, skips: map[string]int{
			"the node n1 has no IPv6 address": 22, "node n1 has no IPv6 address": 10,
		}},
		"services have no IPv6": {nodes: 2, edit: func(l *layout) {
			for i := range l.members {
				l.members[i].clusterIPs = l.members[i].clusterIPs[:1]
			}
		}, skips: map[string]int{"services have no IPv6 addresses in this cluster": 42}},
		"no service": {nodes: 1, edit: func(l *layout) { l.members[0].serviceTrouble = "quota" }, skips: map[string]int{"quota": 20}},
	} {
		t.Run(name, func(t *testing.T) {
			l := sample(c.nodes)
			c.edit(l)
			links, notes := plan(l)
			if c.note != "" && !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, c.note) }) {
				t.Errorf("notes %q", notes)
			}
			skips := map[string]int{}
			for i := range links {
				if links[i].skip != "" {
					skips[links[i].skip]++
				} else if strings.Contains(links[i].question.Target, "invalid") {
					t.Errorf("asks %+v", links[i].question)
				}
			}
			for why, n := range c.skips {
				if skips[why] != n {
					t.Errorf("%q: %d links, want %d", why, skips[why], n)
				}
				delete(skips, why)
			}
			if len(skips) > 0 {
				t.Errorf("also skipped: %v", skips)
			}
		})
	}
}

func TestPairs(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 2, 3: 6, allPairs: allPairs * (allPairs - 1), allPairs + 1: 2 * (allPairs + 1), 100: 200} {
		list := pairs(n)
		if len(list) != want {
			t.Errorf("%d nodes: %d pairs, want %d", n, len(list), want)
		}
		for _, p := range list {
			if !slices.Contains(list, [2]int{p[1], p[0]}) {
				t.Errorf("%d nodes: %v, and not the other way", n, p)
			}
		}
	}
}

// TestDenied: pods are denied the other pods, and nothing is asked for long.
func TestDenied(t *testing.T) {
	tt := &test{layout: *sample(3)}
	links := tt.denied(NetworkPolicy)
	if len(links) != 2*3*2 {
		t.Errorf("%d links", len(links))
	}
	for i := range links {
		if l := &links[i]; l.From.What != Pod || l.To.What != OtherPod || l.question.Settle != 0 || l.By != probe.TCP {
			t.Errorf("%s: %+v", l, l.question)
		}
	}
	tt.layout = *sample(1)
	if links := tt.denied(NetIOPolicyDeny); len(links) != 2 {
		t.Errorf("one node: %d links", len(links))
	}
}

func TestChoose(t *testing.T) {
	node := func(name string, agent corev1.PodPhase) candidate {
		c := candidate{node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}}
		if agent != "" {
			c.agent = &corev1.Pod{Status: corev1.PodStatus{Phase: agent}}
		}
		return c
	}
	run := corev1.PodRunning
	var many []candidate
	for i := range 10 {
		many = append(many, node(fmt.Sprintf("n%d", i), run))
	}
	for name, c := range map[string]struct {
		all       []candidate
		wanted    []string
		most      int
		want      string
		note, err string
	}{
		"all":               {all: many[:3], most: 3, want: "n0 n1 n2"},
		"no limit":          {all: many, want: "n0 n1 n2 n3 n4 n5 n6 n7 n8 n9"},
		"some of many":      {all: many, most: 3, want: "n0 n3 n6", note: "3 of 10 nodes are tested"},
		"wanted":            {all: many, wanted: []string{"n7", "n1"}, most: 1, want: "n1 n7"},
		"unknown":           {all: many[:2], wanted: []string{"n1", "x"}, err: "no node x; it has n0, n1"},
		"one without":       {all: []candidate{node("a", run), node("b", "")}, want: "a", note: "no agent is there: b"},
		"wanted without":    {all: []candidate{node("a", run), node("b", "")}, wanted: []string{"b"}, err: "no agent of NetIO is on b"},
		"none":              {all: []candidate{node("a", "")}, err: "no agent of NetIO is on a"},
		"one does not run":  {all: []candidate{node("a", run), node("b", corev1.PodPending)}, want: "a b"},
		"no nodes whatever": {err: "no agent of NetIO"},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, notes, err := choose(c.all, c.wanted, c.most)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatal(err)
			}
			var names []string
			for _, n := range chosen {
				names = append(names, n.node.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("chosen %q, want %q", got, c.want)
			}
			if c.note == "" && len(notes) > 0 || c.note != "" && !strings.Contains(strings.Join(notes, ";"), c.note) {
				t.Errorf("notes %q", notes)
			}
		})
	}
}
