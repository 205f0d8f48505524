// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/problem"
)

// TestPublish: a node's NetIONode is made, follows what the agent finds, and belongs
// to the Node.
func TestPublish(t *testing.T) {
	apiserver := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, apiserver)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := &bed{T: t, Client: kubetest.Client(t, apiserver), source: New(apiserver, "n1"), ctx: ctx}
	n1 := b.addNode("n1", "192.0.2.1", "10.1.1.0/24")
	if _, err := b.source.Configure(ctx, "agent.yaml", nil, &b.problems); err != nil {
		t.Fatal(err)
	}
	var report atomic.Pointer[node.Report]
	changed := make(chan struct{}, 1)
	healthy := node.Report{Version: "v1", Device: "soft", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")}, Endpoints: 3, Policies: 2}
	report.Store(&healthy)
	done, ended := make(chan struct{}), make(chan struct{})
	first, cancelFirst := context.WithCancel(ctx)
	go func() {
		defer close(done)
		b.source.Publish(first, func() node.Report { return *report.Load() }, nil, changed)
	}()
	defer func() { cancelFirst(); <-done }()

	await := func(what string, ok func(n *v1alpha1.NetIONode) bool) *v1alpha1.NetIONode {
		t.Helper()
		return kubetest.Await(t, b, what, &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, ok)
	}
	is := func(n *v1alpha1.NetIONode, condition string, want metav1.ConditionStatus) bool {
		c := apimeta.FindStatusCondition(n.Status.Conditions, condition)
		return c != nil && c.Status == want
	}
	begun := await("healthy", func(n *v1alpha1.NetIONode) bool {
		return is(n, v1alpha1.NodeReady, metav1.ConditionTrue) && is(n, v1alpha1.NodeDegraded, metav1.ConditionFalse)
	})
	if s := begun.Status; s.Version != "v1" || s.Device != "soft" || s.Endpoints != 3 || s.Policies != 2 || s.PodCIDRs[0] != "10.1.1.0/24" || s.LastHeartbeatTime.IsZero() {
		t.Errorf("%+v", s)
	}
	if o := begun.OwnerReferences; len(o) != 1 || o[0].UID != n1.UID {
		t.Errorf("owner %+v, the node is %s", o, n1.UID)
	}

	sick := healthy
	sick.NotReady = errors.New("the forwarder is away")
	sick.Problems = []problem.Problem{{Source: "forwarder", Message: "it is away; start it"}}
	report.Store(&sick)
	ill := await("not ready", func(n *v1alpha1.NetIONode) bool { return is(n, v1alpha1.NodeReady, metav1.ConditionFalse) })
	if c := apimeta.FindStatusCondition(ill.Status.Conditions, v1alpha1.NodeDegraded); c.Status != metav1.ConditionTrue || c.Message != "forwarder: it is away; start it" || ill.Status.ProblemCount != 1 {
		t.Errorf("%+v", ill.Status)
	}

	// What the operator writes into policies' status is not worth a word; what policies
	// say is, at once.
	enforced := healthy
	enforced.Joined = true
	enforced.InForce.Policies = desired.Version{Seen: "10", Spec: "10"}
	report.Store(&enforced)
	changed <- struct{}{}
	version := func(want string) func(n *v1alpha1.NetIONode) bool {
		return func(n *v1alpha1.NetIONode) bool {
			return n.Status.Enforcement != nil && n.Status.Enforcement.NetIOPolicies == want
		}
	}
	told := await("version 10", version("10"))
	bumped := enforced
	bumped.InForce.Policies.Seen = "11"
	report.Store(&bumped)
	for range 2 {
		changed <- struct{}{} // the second one is taken when the first look is over
	}
	if n := await("version 10 still", version("10")); n.ResourceVersion != told.ResourceVersion {
		t.Error("written for nothing")
	}
	more := enforced
	more.InForce.Policies = desired.Version{Seen: "12", Spec: "12"}
	more.Refused = errors.New("too many")
	more.PolicyProblems = []node.PolicyProblem{{Kind: "NetIOPolicy", Namespace: "shop", Name: "web", Generation: 3, Reason: "TooLarge", Message: "it is"}}
	report.Store(&more)
	n12 := await("version 12", version("12"))
	if e := n12.Status.Enforcement; e.Refused != "too many" || len(e.Problems) != 1 || e.Problems[0].Generation != 3 {
		t.Errorf("%+v", e)
	}

	// An agent that starts leaves what is in force until it knows better.
	cancelFirst()
	<-done
	next, stopNext := context.WithCancel(ctx)
	report.Store(&sick)
	go func() {
		defer close(ended)
		b.source.Publish(next, func() node.Report { return *report.Load() }, nil, changed)
	}()
	defer func() { stopNext(); <-ended }()
	n12 = await("another agent's", func(n *v1alpha1.NetIONode) bool { return is(n, v1alpha1.NodeReady, metav1.ConditionFalse) })
	if e := n12.Status.Enforcement; e == nil || e.NetIOPolicies != "12" {
		t.Errorf("%+v", e)
	}

	// Someone deletes it; and the Node comes back as another one.
	b.must(b.Delete(ctx, ill))
	report.Store(&healthy)
	await("made again", func(n *v1alpha1.NetIONode) bool { return is(n, v1alpha1.NodeReady, metav1.ConditionTrue) })
	b.must(b.Delete(ctx, n1))
	again := b.addNode("n1", "192.0.2.1", "10.1.1.0/24")
	report.Store(&sick)
	await("of the new Node", func(n *v1alpha1.NetIONode) bool {
		return len(n.OwnerReferences) == 1 && n.OwnerReferences[0].UID == again.UID
	})
}

func TestEnforcementOf(t *testing.T) {
	r := node.Report{Joined: true}
	for i := range 100 {
		r.PolicyProblems = append(r.PolicyProblems, node.PolicyProblem{Kind: "NetIOPolicy", Namespace: "shop", Name: fmt.Sprint(i), Reason: "NotUnderstood", Message: strings.Repeat("é", 5000)})
	}
	e := enforcementOf(r)
	if len(e.Problems) != v1alpha1.MaxPolicyProblems || e.ProblemsLeftOut != 100-v1alpha1.MaxPolicyProblems || len(e.Problems[0].Message) > maxPolicyMessage+3 {
		t.Errorf("%d problems, %d left out, %d bytes", len(e.Problems), e.ProblemsLeftOut, len(e.Problems[0].Message))
	}
}

func TestDescribe(t *testing.T) {
	var many []problem.Problem
	for i := range 500 {
		many = append(many, problem.Problem{Source: fmt.Sprint("part ", i), Message: strings.Repeat("x", 50)})
	}
	long := []problem.Problem{{Source: "one", Message: strings.Repeat("é", 5000)}, {Source: "two", Message: "short"}}
	for name, test := range map[string]struct {
		problems []problem.Problem
		want     string
	}{
		"two":      {[]problem.Problem{{Source: "a", Message: "b"}, {Source: "c", Message: "d"}}, "a: b\nc: d"},
		"too many": {many, "more; netioctl status on the node lists them"},
		"too long": {long, "...\ntwo: short"},
	} {
		t.Run(name, func(t *testing.T) {
			got := describe(test.problems)
			if !strings.Contains(got, test.want) || len(got) > maxMessage {
				t.Errorf("%d bytes: %s", len(got), got)
			}
		})
	}
}
