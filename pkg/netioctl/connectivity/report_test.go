// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// results of a plan, of which some are broken.
func results(l *layout, broken func(*Result) bool) []Result {
	links, _ := plan(l)
	list := make([]Result, len(links))
	for i := range links {
		list[i] = Result{Link: links[i], State: OK}
		if links[i].skip != "" {
			list[i].State, list[i].Why = Skipped, links[i].skip
		} else if broken(&list[i]) {
			list[i].State = Failed
		}
	}
	return list
}

// over tells whether a result is of packets between two nodes.
func over(r *Result, a, b string) bool {
	return r.From.Node == a && r.To.Node == b || r.From.Node == b && r.To.Node == a
}

func TestConclude(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func(*layout)
		broken func(*Result) bool
		want   []string // in this order, and no more
	}{
		"nothing": {broken: func(*Result) bool { return false }},
		"the nodes' network": {
			broken: func(r *Result) bool { return over(r, "n1", "n3") && r.Family == 6 },
			want:   []string{"IPv6 between n1 and n3: the nodes themselves do not reach each other"},
		},
		"pods' addresses, in one family": {
			broken: func(r *Result) bool {
				if r.Kind == OtherNode && over(r, "n1", "n2") && r.Family == 6 {
					r.Trace = "delivered to pod-2, port knet7"
					return true
				}
				return false
			},
			want: []string{"IPv6 between n1 and n2: the nodes reach each other, and NetIO would deliver: what is between"},
		},
		"NetIO drops": {
			broken: func(r *Result) bool {
				if r.Kind == OtherNode && r.From.Node == "n2" && r.To.Node == "n1" && r.By == probe.TCP && r.Family == 4 {
					r.Trace, r.Dropped = "on n1: dropped: policy-ingress", true
					return true
				}
				return false
			},
			want: []string{"IPv4 between n1 and n2: NetIO drops packets of pods"},
		},
		"MTU": {
			broken: func(r *Result) bool { return r.Kind == OtherNode && r.By == probe.Bulk && over(r, "n2", "n3") },
			want:   []string{"IPv4 between n2 and n3: small packets", "IPv6 between n2 and n3: small packets"},
		},
		"one way, by UDP alone": {
			broken: func(r *Result) bool {
				return r.Kind == OtherNode && r.By == probe.UDP && r.Family == 4 && r.From.Node == "n1" && r.To.Node == "n2"
			},
			want: []string{"IPv4 between n1 and n2: the nodes reach each other, and pods do not"},
		},
		"pods, and nodes were not tested": {
			edit: func(l *layout) {
				for i := range l.members {
					l.members[i].host.trouble = "refused"
				}
			},
			broken: func(r *Result) bool { return r.Kind == OtherNode && over(r, "n1", "n2") && r.Family == 4 },
			want:   []string{"IPv4 between n1 and n2: pods do not reach"},
		},
		"all pods of a node": {
			broken: func(r *Result) bool {
				return (r.Kind == OtherNode || r.Kind == SameNode) && (r.From.Node == "n2" || r.To.Node == "n2") && r.Family != 0
			},
			want: []string{"pods on n2 reach no pod", "IPv4 between n1 and n2", "IPv6 between n1 and n2", "IPv4 between n2 and n3", "IPv6 between n2 and n3"},
		},
		"some of the nodes' network": {
			broken: func(r *Result) bool {
				return r.Kind == NodeToNode && over(r, "n1", "n2") && r.By == probe.UDP && r.Family == 4
			},
			want: []string{"IPv4 between n1 and n2: some of what the nodes send"},
		},
		"services": {
			broken: func(r *Result) bool {
				return slices.Contains([]Kind{PodToService, Hairpin, ServiceName, NodeToService, PodToNodePort}, r.Kind)
			},
			want: []string{"no service is reached"},
		},
		"names": {
			broken: func(r *Result) bool { return r.Kind == ServiceName || r.Kind == Headless },
			want:   []string{"names are not resolved"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := sample(3)
			if c.edit != nil {
				c.edit(l)
			}
			got := conclude(results(l, c.broken))
			if len(got) != len(c.want) {
				t.Fatalf("%d conclusions, want %d:\n%s", len(got), len(c.want), strings.Join(got, "\n"))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("%q does not begin with %q", got[i], c.want[i])
				}
			}
		})
	}
}

func TestJudge(t *testing.T) {
	from := &party{addresses: []netip.Addr{netip.MustParseAddr("10.0.1.10")}}
	for name, c := range map[string]struct {
		a          *probe.Answer
		err, ended error
		itself     bool
		state      State
		why        string
	}{
		"answered":         {a: &probe.Answer{}, state: OK},
		"as itself":        {a: &probe.Answer{From: "10.0.1.10"}, itself: true, state: OK},
		"masqueraded":      {a: &probe.Answer{From: "10.0.1.1"}, itself: true, state: Failed, why: "seen as 10.0.1.1"},
		"not answered":     {a: &probe.Answer{Error: "refused"}, state: Failed, why: "refused"},
		"not asked":        {a: &probe.Answer{Error: "x", Unable: "no socket"}, state: Skipped, why: "no socket"},
		"no exec":          {err: errors.New("no kubelet"), state: Failed, why: "could not be told to ask: no kubelet"},
		"ended":            {err: errors.New("x"), ended: errors.New("y"), state: Skipped, why: "the test ended before"},
		"answered in time": {a: &probe.Answer{}, ended: errors.New("y"), state: OK},
	} {
		t.Run(name, func(t *testing.T) {
			r := Result{Link: Link{itself: c.itself}, State: OK}
			r.judge(from, c.a, c.err, c.ended)
			if r.State != c.state || !strings.Contains(r.Why, c.why) || c.why == "" && r.Why != "" {
				t.Errorf("%s: %q", r.State, r.Why)
			}
		})
	}
}

func TestRows(t *testing.T) {
	l := sample(2)
	l.members[1].host.trouble = "refused"
	tt := &test{layout: *l, namespace: "ns", results: results(l, func(r *Result) bool { return r.Kind == Hairpin && r.Family == 6 })}
	r := tt.report()
	if r.Failed != 4 || r.OK+r.Failed+r.Skipped != len(tt.results) || !slices.Equal(r.Nodes, []string{"n1", "n2"}) {
		t.Errorf("%d ok, %d failed, %d skipped, of %d; nodes %v", r.OK, r.Failed, r.Skipped, len(tt.results), r.Nodes)
	}
	total := Row{}
	for _, row := range r.Rows() {
		total.OK, total.Failed, total.Skipped = total.OK+row.OK, total.Failed+row.Failed, total.Skipped+row.Skipped
		switch row.Kind {
		case Hairpin:
			if row.OK != 4 || row.Failed != 4 || row.By != "IPv4, IPv6, TCP, UDP" {
				t.Errorf("%+v", row)
			}
		case OtherNode:
			if row.Failed != 0 || row.By != "IPv4, IPv6, TCP, UDP, 1024 KiB, ICMP echo" {
				t.Errorf("%+v", row)
			}
		}
	}
	if total.OK != r.OK || total.Failed != r.Failed || total.Skipped != r.Skipped {
		t.Errorf("rows have %+v, the report %d, %d, %d", total, r.OK, r.Failed, r.Skipped)
	}
	if reasons := r.Reasons(); !slices.Contains(reasons, "node to node (16): the pod in the network of node n2 does not run") {
		t.Errorf("%q", reasons)
	}
}

// TestSeen: a policy that denies is told from a link that is just broken.
func TestSeen(t *testing.T) {
	away := errors.New("cannot be asked")
	for name, c := range map[string]struct {
		bySender      bool
		before, after dropped
		state         State
		why           string
		notes         int
	}{
		"by the receiver":   {after: dropped{count: map[string]uint64{"policy-ingress": 4}}, before: dropped{count: map[string]uint64{"policy-ingress": 1}}, state: OK, why: "dropped on n2: policy-ingress"},
		"something else":    {after: dropped{count: map[string]uint64{"policy-ingress": 1, "no-route": 9}}, before: dropped{count: map[string]uint64{"policy-ingress": 1}}, state: Failed, why: "something else is in the way"},
		"cannot be looked":  {after: dropped{err: away}, state: OK, why: "could not be seen", notes: 1},
		"by the sender":     {bySender: true, after: dropped{count: map[string]uint64{"policy-ingress": 1}}, state: OK, why: "dropped on n1: policy-ingress"},
		"could not, before": {before: dropped{err: away}, after: dropped{count: map[string]uint64{"policy-ingress": 4}}, state: OK, why: "could not be seen", notes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			tt := &test{}
			list := []Result{{Link: Link{From: End{What: Pod, Node: "n1"}, To: End{What: OtherPod, Node: "n2"}}, State: OK}, {State: Skipped, Why: "x"}}
			d := &denial{kind: NetworkPolicy, reason: "policy-ingress", bySender: c.bySender}
			node := "n2"
			if c.bySender {
				node = "n1"
			}
			before, after := map[string]dropped{node: c.before}, map[string]dropped{node: c.after}
			if got := d.counted(list, before, after); got != (c.state == OK) {
				t.Errorf("counted: %v", got)
			}
			tt.seen(d, list, before, after)
			if list[0].State != c.state || !strings.Contains(list[0].Why, c.why) || len(tt.notes) != c.notes || list[1].Why != "x" {
				t.Errorf("%+v, notes %q", list, tt.notes)
			}
		})
	}
}
