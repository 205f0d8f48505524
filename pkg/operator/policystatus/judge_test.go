// SPDX-License-Identifier: Apache-2.0

package policystatus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

// at is a node that has NetIOPolicies up to a version.
func at(name, version string, problems ...v1alpha1.PolicyProblem) place {
	n := &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Enforcement = &v1alpha1.NodeEnforcement{NetIOPolicies: version, Problems: problems}
	return placeOf(n, time.Time{})
}

func with(p place, edit func(*place)) place {
	edit(&p)
	return p
}

func TestJudge(t *testing.T) {
	web := object{kind: "NetIOPolicy", namespace: "shop", name: "web", generation: 2, version: "100"}
	bad := func(reason string, generation int64) v1alpha1.PolicyProblem {
		return v1alpha1.PolicyProblem{Kind: "NetIOPolicy", Namespace: "shop", Name: "web", Generation: generation, Reason: reason, Message: "spec: 100%s wrong; it closes"}
	}
	other := v1alpha1.PolicyProblem{Kind: "NetIOClusterPolicy", Name: "web", Generation: 2, Reason: "TooLarge", Message: "no"}
	silent := func(p *place) { p.silent = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC) }
	refuses := func(p *place) { p.told.Refused = "the forwarder refuses: too many policies" }
	sick := func(p *place) { p.notReady = "the forwarder does not answer" }
	untold := func(p *place) { p.told = nil }
	many := func(p *place) { p.told.ProblemsLeftOut = 3 }
	known := web
	known.version = ""
	var crowd []place
	for i := range 40 {
		crowd = append(crowd, with(at(fmt.Sprintf("n%02d", i), "99"), sick))
	}

	for _, test := range []struct {
		name     string
		object   object
		places   []place
		enforced string
		status   metav1.ConditionStatus
		reason   string
		message  string // a part of it
		valid    string // status and reason
	}{
		{"everywhere", web, []place{at("n1", "100"), at("n2", "2000")}, "2/2", "True", "Enforced", "in force on all nodes (2)", "True Valid"},
		{"versions are numbers", web, []place{at("n1", "99")}, "0/1", "False", "Pending", "not yet in force on n1", "Unknown Pending"},
		{"on one", web, []place{at("n1", "100"), at("n2", "7"), at("n3", "")}, "1/3", "False", "Pending", "not yet in force on n2, n3", "True Valid"},
		{"a node that is not ready", web, []place{at("n1", "100"), with(at("n2", "7"), sick)}, "1/2", "False", "Pending", "not yet in force on n2 (not ready: the forwarder does not answer)", "True Valid"},
		{"not ready, but it has it", web, []place{with(at("n1", "100"), sick)}, "1/1", "True", "Enforced", "", "True Valid"},
		{"tells nothing", web, []place{with(at("n1", "7"), untold)}, "0/1", "False", "Pending", "not yet in force on n1", "Unknown Pending"},
		{"silent", web, []place{at("n1", "100"), with(at("n2", "7"), silent)}, "1/2", "False", "NodeSilent", "n2 has not taken it and has not reported since 2026-11-24T03:00:00Z: start netio-agent there, or delete the Node", "True Valid"},
		{"silent, but it has it", web, []place{with(at("n1", "100"), silent)}, "1/1", "True", "Enforced", "", "True Valid"},
		{"refused", web, []place{at("n1", "100"), with(at("n2", "7"), refuses)}, "1/2", "False", "Refused", "not in force on n2, where a change is refused since then: the forwarder refuses: too many policies", "True Valid"},
		{"refused later", web, []place{with(at("n1", "100"), refuses)}, "1/1", "True", "Enforced", "", "True Valid"},
		{"not understood", web, []place{at("n1", "100", bad("NotUnderstood", 2)), at("n2", "100", bad("NotUnderstood", 2))}, "0/2", "False", "NotUnderstood", "on n1, n2: spec: 100%s wrong; it closes", "False NotUnderstood"},
		{"in an earlier generation", web, []place{at("n1", "100", bad("NotUnderstood", 1))}, "1/1", "True", "Enforced", "", "True Valid"},
		{"another policy is", web, []place{at("n1", "100", other)}, "1/1", "True", "Enforced", "", "True Valid"},
		{"too large on a node, on its way to another", web, []place{at("n1", "100", bad("TooLarge", 2)), at("n2", "7")}, "0/2", "False", "TooLarge", "not yet in force on n2", "False TooLarge"},
		{"no effect", web, []place{at("n1", "100", bad("NoEffect", 2))}, "1/1", "True", "Enforced", "in force on all nodes (1); spec: 100%s wrong", "True NoEffect"},
		{"more problems than told", web, []place{with(at("n1", "100", other), many)}, "0/1", "Unknown", "NotTold", "n1 has more policies with problems than it can tell", "Unknown NotTold"},
		{"more, but later ones", web, []place{with(at("n1", "100", bad("NoEffect", 2)), many)}, "1/1", "True", "Enforced", "", "True NoEffect"},
		{"no nodes", web, nil, "0/0", "False", "NoNodes", "netio-agent is to run", "Unknown Pending"},
		{"before the operator started", known, []place{at("n1", "5")}, "1/1", "True", "Enforced", "", "True Valid"},
		{"and a node that never told", known, []place{at("n1", "5"), at("n2", "")}, "1/2", "False", "Pending", "not yet in force on n2", "True Valid"},
		{"many nodes", web, crowd, "0/40", "False", "Pending", "n00, n01, n02, n03, n04 and 35 more nodes (not ready: ", "Unknown Pending"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := judge(&test.object, test.places)
			if got := fmt.Sprintf("%d/%d", v.enforced, v.nodes); got != test.enforced {
				t.Errorf("%s, expected %s", got, test.enforced)
			}
			if v.status != test.status || v.reason != test.reason || !strings.Contains(v.message, test.message) {
				t.Errorf("%s %s: %s", v.status, v.reason, v.message)
			}
			if got := string(v.valid) + " " + v.validReason; got != test.valid || v.validMessage == "" || v.message == "" {
				t.Errorf("%s, expected %s: %s", got, test.valid, v.validMessage)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	if got := join([]string{"a", "b", "c", "d", "e", "f", "g"}); got != "a; b; c; d; e; and 2 more reasons" {
		t.Error(got)
	}
	if got := join([]string{strings.Repeat("é", maxMessage)}); len(got) > maxMessage+3 {
		t.Error(len(got))
	}
}

// TestMemory: a write of the status makes no other policy; a change does.
func TestMemory(t *testing.T) {
	m := newMemory()
	now := time.Unix(1000, 0)
	p := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u", Generation: 1, ResourceVersion: "10"}}
	see := func(after time.Duration, version string, generation int64) *sighting {
		p.ResourceVersion, p.Generation = version, generation
		return m.see(p, p.Status.Conditions, v1alpha1.PolicyEnforced, now.Add(after), 1)
	}
	if s := see(0, "10", 1); s.version != "10" || s.settle != settle {
		t.Errorf("%+v", s)
	}
	if s := see(time.Second, "11", 1); s.version != "10" || !s.at.Equal(now) {
		t.Errorf("after a write: %+v", s)
	}
	if s := see(time.Minute, "12", 2); s.version != "12" || s.at.Equal(now) {
		t.Errorf("after a change: %+v", s)
	}
	m.forget(2)
	p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.PolicyEnforced, Status: metav1.ConditionTrue, ObservedGeneration: 2}}
	if s := see(time.Minute, "13", 2); s.version != "" {
		t.Errorf("an operator that starts: %+v", s)
	}
	m.forget(2)
	p.Status.Conditions[0].Status = metav1.ConditionFalse
	if s := see(time.Minute, "13", 2); s.version != "13" || s.settle != settleAgain {
		t.Errorf("an operator that starts, and not all had it: %+v", s)
	}
	m.forget(2)
	if s := see(time.Minute, "14", 3); s.version != "14" || s.settle != settle {
		t.Errorf("changed before it started: %+v", s)
	}
}

func TestTurned(t *testing.T) {
	for _, test := range [][3]string{
		{"", "Enforced", ""}, {"Enforced", "Pending", ""}, {"Pending", "Enforced", ""}, {"Enforced", "Refused", "PolicyRefused"}, {"Refused", "Refused", ""},
		{"Refused", "TooLarge", "PolicyTooLarge"}, {"", "NotUnderstood", "PolicyNotUnderstood"}, {"NotUnderstood", "Enforced", "PolicyEnforced"},
		{"NotUnderstood", "Pending", ""}, {"NodeSilent", "Enforced", ""},
	} {
		if got := turned(test[0], test[1]); string(got) != test[2] {
			t.Errorf("%s, %s: %q, expected %q", test[0], test[1], got, test[2])
		}
	}
}
