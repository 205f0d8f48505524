// SPDX-License-Identifier: Apache-2.0

package policystatus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/events"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/operatortest"
)

// patience bounds what an API server of a test may take.
const patience = time.Minute

type bed struct {
	*testing.T
	client.Client
	config *rest.Config
}

func newBed(t *testing.T) *bed {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	return &bed{t, kubetest.Client(t, config), config}
}

// operate runs an operator until stop.
func (b *bed) operate() (stop func()) {
	return operatortest.Start(b, b.config, operator.Controller{Name: Name, Register: Register}, nil)
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// addNode makes a node whose agent has told of no policies.
func (b *bed) addNode(name string) *corev1.Node {
	b.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.must(b.Create(b.Context(), n))
	b.must(b.Create(b.Context(), &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	b.tell(name, time.Now(), v1alpha1.NodeEnforcement{})
	return n
}

// tell has a node's agent tell of policies.
func (b *bed) tell(name string, heartbeat time.Time, e v1alpha1.NodeEnforcement) {
	b.Helper()
	n := &v1alpha1.NetIONode{}
	for {
		b.must(b.Get(b.Context(), client.ObjectKey{Name: name}, n))
		n.Status.LastHeartbeatTime, n.Status.Enforcement = metav1.NewTime(heartbeat), &e
		err := b.Status().Update(b.Context(), n)
		if !apierrors.IsConflict(err) {
			b.must(err)
			return
		}
	}
}

// awaitEvent waits for an Event about an object.
func awaitEvent(b *bed, name string, reason events.Reason) {
	b.Helper()
	var list eventsv1.EventList
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		b.must(b.List(b.Context(), &list))
		for _, e := range list.Items {
			if e.Regarding.Name == name && e.Reason == string(reason) && e.Note != "" {
				return
			}
		}
		if time.Now().After(deadline) {
			b.Fatalf("no Event %s of %s: %+v", reason, name, list.Items)
		}
	}
}

func newPolicy(name string) *v1alpha1.NetIOPolicy {
	return &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

func is(enforced, reason string) func(*v1alpha1.NetIOPolicy) bool {
	return func(p *v1alpha1.NetIOPolicy) bool {
		c := apimeta.FindStatusCondition(p.Status.Conditions, v1alpha1.PolicyEnforced)
		return p.Status.Enforced == enforced && c != nil && c.Reason == reason && c.ObservedGeneration == p.Generation && p.Status.ObservedGeneration == p.Generation
	}
}

func message(p *v1alpha1.NetIOPolicy) string {
	return apimeta.FindStatusCondition(p.Status.Conditions, v1alpha1.PolicyEnforced).Message
}

// TestController: the status of policies follows what nodes tell.
func TestController(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	kubetest.InstallNetworkPolicyAPI(t, b.config)
	now := time.Now()
	b.addNode("n1")
	n2 := b.addNode("n2")
	stop := b.operate()

	web := newPolicy("web")
	b.must(b.Create(ctx, web))
	created := web.ResourceVersion
	has := v1alpha1.NodeEnforcement{NetIOPolicies: created}
	b.tell("n1", now, has)
	kubetest.Await(b, b, "on its way to n2", web, is("1/2", v1alpha1.PolicyReasonPending))
	if got := message(web); got != "not yet in force on n2" {
		t.Error(got)
	}
	b.tell("n2", now, has)
	kubetest.Await(b, b, "in force", web, is("2/2", v1alpha1.PolicyReasonEnforced))

	// The write of the status made another version, which no node has.
	written := web.ResourceVersion
	all := &v1alpha1.NetIOClusterPolicy{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
	b.must(b.Create(ctx, all))
	has.NetIOClusterPolicies = all.ResourceVersion
	b.tell("n1", now, has)
	b.tell("n2", now, has)
	kubetest.Await(b, b, "the other one is in force", all, func(p *v1alpha1.NetIOClusterPolicy) bool { return p.Status.Enforced == "2/2" })
	if kubetest.Await(b, b, "the first one", web, is("2/2", v1alpha1.PolicyReasonEnforced)); web.ResourceVersion != written {
		t.Error("the status was written for nothing")
	}

	// Another operator goes on where this one was.
	stop()
	stop = b.operate()
	defer func() { stop() }()
	late := newPolicy("late")
	b.must(b.Create(ctx, late))
	has.NetIOPolicies = late.ResourceVersion
	b.tell("n1", now, has)
	kubetest.Await(b, b, "on its way to n2", late, is("1/2", v1alpha1.PolicyReasonPending))
	if kubetest.Await(b, b, "the first one", web, is("2/2", v1alpha1.PolicyReasonEnforced)); web.ResourceVersion != written {
		t.Error("the status was written for nothing by another operator")
	}

	// A node refuses; a node is silent; a node is gone.
	refuses := v1alpha1.NodeEnforcement{NetIOPolicies: created, Refused: "too many"}
	b.tell("n2", now, refuses)
	kubetest.Await(b, b, "refused", late, is("1/2", v1alpha1.PolicyReasonRefused))
	b.tell("n2", now.Add(-time.Hour), v1alpha1.NodeEnforcement{NetIOPolicies: created})
	kubetest.Await(b, b, "n2 is heard of all the same", late, is("1/2", v1alpha1.PolicyReasonPending))
	stop()
	has.NetIOPolicies = late.ResourceVersion // as an agent tells with its heartbeat
	b.tell("n1", now, has)
	stop = b.operate() // which never saw n2's heartbeat change
	kubetest.Await(b, b, "silent", late, is("1/2", v1alpha1.PolicyReasonNodeSilent))
	if got := message(late); !strings.Contains(got, "n2 has not taken it and has not reported since") {
		t.Error(got)
	}
	b.must(b.Delete(ctx, n2))
	kubetest.Await(b, b, "without n2", late, is("1/1", v1alpha1.PolicyReasonEnforced))

	// Something is wrong with it.
	has.Problems = []v1alpha1.PolicyProblem{{Kind: "NetIOPolicy", Namespace: "default", Name: "late", Generation: 1, Reason: v1alpha1.PolicyReasonTooLarge, Message: "it has too many rules"}}
	b.tell("n1", now, has)
	kubetest.Await(b, b, "too large", late, is("0/1", v1alpha1.PolicyReasonTooLarge))
	if c := apimeta.FindStatusCondition(late.Status.Conditions, v1alpha1.PolicyValid); c.Status != metav1.ConditionFalse || c.Message != "on n1: it has too many rules" {
		t.Errorf("%+v", c)
	}
	late.Spec.Audit = true
	b.must(b.Update(ctx, late))
	has.NetIOPolicies = late.ResourceVersion
	b.tell("n1", now, has)
	kubetest.Await(b, b, "mended", late, is("1/1", v1alpha1.PolicyReasonEnforced))

	awaitEvent(b, "late", events.PolicyTooLarge)
	awaitEvent(b, "late", events.PolicyEnforced)
	awaitEvent(b, "n2", events.NodeSilent)

	// One without status.
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "np"}}
	b.must(b.Create(ctx, np))
	has.Problems = []v1alpha1.PolicyProblem{{Kind: "NetworkPolicy", Namespace: "default", Name: "np", Generation: 1, Reason: v1alpha1.PolicyReasonTooLarge, Message: "it has too many rules"}}
	b.tell("n1", now, has)
	awaitEvent(b, "np", events.PolicyTooLarge)

	// Kubernetes' own has a condition, beside those of others.
	k := &networkapi.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "k"}, Spec: networkapi.ClusterNetworkPolicySpec{
		Tier: networkapi.AdminTier, Subject: networkapi.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
	}}
	b.must(b.Create(ctx, k))
	k.Status.Conditions = []metav1.Condition{{Type: "example.com/Seen", Status: metav1.ConditionTrue, Reason: "Seen", LastTransitionTime: metav1.Now()}}
	b.must(b.Status().Update(ctx, k))
	has.ClusterNetworkPolicies = k.ResourceVersion
	b.tell("n1", now, has)
	kubetest.Await(b, b, "Kubernetes' own", k, func(p *networkapi.ClusterNetworkPolicy) bool {
		return len(p.Status.Conditions) == 2 && apimeta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ClusterNetworkPolicyEnforced)
	})
}

// TestThousand: an operator that starts among 1,000 policies writes each of them once.
func TestThousand(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	const many = 1000
	last := ""
	for i := range many {
		p := newPolicy(fmt.Sprint("p", i))
		b.must(b.Create(ctx, p))
		last = p.ResourceVersion
	}
	for i := range 3 {
		b.addNode(fmt.Sprint("n", i))
		b.tell(fmt.Sprint("n", i), time.Now(), v1alpha1.NodeEnforcement{NetIOPolicies: last})
	}
	began := time.Now()
	defer b.operate()()

	// Meanwhile a change is told within a moment.
	kubetest.Await(b, b, "the first ones", newPolicy("p0"), func(p *v1alpha1.NetIOPolicy) bool {
		var list v1alpha1.NetIOPolicyList
		b.must(b.List(ctx, &list))
		told := 0
		for i := range list.Items {
			if list.Items[i].Status.Enforced != "" {
				told++
			}
		}
		return told > 0
	})
	fresh := newPolicy("fresh")
	b.must(b.Create(ctx, fresh))
	changed := time.Now()
	for i := range 3 {
		b.tell(fmt.Sprint("n", i), time.Now(), v1alpha1.NodeEnforcement{NetIOPolicies: fresh.ResourceVersion})
	}
	kubetest.Await(b, b, "the one that came", fresh, is("3/3", v1alpha1.PolicyReasonEnforced))
	t.Logf("a policy that came meanwhile has its status after %v", time.Since(changed).Round(time.Millisecond))

	var list v1alpha1.NetIOPolicyList
	told := 0
	for deadline := time.Now().Add(patience); told < many+1; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d have a status", told)
		}
		b.must(b.List(ctx, &list))
		told = 0
		for i := range list.Items {
			if is("3/3", v1alpha1.PolicyReasonEnforced)(&list.Items[i]) {
				told++
			}
		}
	}
	took := time.Since(began)
	t.Logf("%d policies have their status after %v: %.0f a second", told, took.Round(time.Millisecond), float64(told)/took.Seconds())
	if rate := float64(told) / took.Seconds(); rate > perPass*float64(time.Second/period) {
		t.Errorf("%.0f writes a second", rate)
	}
	// A change of one writes one.
	versions := map[string]string{}
	for i := range list.Items {
		versions[list.Items[i].Name] = list.Items[i].ResourceVersion
	}
	b.must(b.Get(ctx, client.ObjectKeyFromObject(fresh), fresh))
	fresh.Spec.Audit = true
	b.must(b.Update(ctx, fresh))
	for i := range 3 {
		b.tell(fmt.Sprint("n", i), time.Now(), v1alpha1.NodeEnforcement{NetIOPolicies: fresh.ResourceVersion})
	}
	kubetest.Await(b, b, "changed", fresh, is("3/3", v1alpha1.PolicyReasonEnforced))
	b.must(b.List(ctx, &list))
	for i := range list.Items {
		if p := &list.Items[i]; p.Name != "fresh" && versions[p.Name] != p.ResourceVersion {
			t.Errorf("%s was written for nothing", p.Name)
		}
	}
}
