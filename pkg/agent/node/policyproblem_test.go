// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/policy"
)

func TestPolicyProblems(t *testing.T) {
	web := metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 4}
	s := desired.State{
		Policies:        []*v1alpha1.NetIOPolicy{{ObjectMeta: web}},
		NetworkPolicies: []*networkingv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 7}}},
	}
	large := errors.New("too large")
	got := policyProblems(s, []policy.Problem{
		{Policy: "NetworkPolicy:shop/web", Reason: policy.NoEffect, Err: errors.New("nobody has it"), Effect: "the rest is in force"},
		{Policy: "NetworkPolicy:shop/web#TCP/http=80", Reason: policy.TooLarge, Err: large, Effect: "it stays"},
		{Policy: "shop/web", Reason: policy.NotUnderstood, Err: errors.New("what"), Effect: "it closes"},
		{Policy: "NetIOClusterPolicy:all", Reason: policy.TooLarge, Err: large, Effect: "it stays"},
	})
	want := []PolicyProblem{
		{Kind: "NetIOClusterPolicy", Name: "all", Reason: "TooLarge", Message: "too large; it stays"},
		{Kind: "NetIOPolicy", Namespace: "shop", Name: "web", Generation: 4, Reason: "NotUnderstood", Message: "what; it closes"},
		{Kind: "NetworkPolicy", Namespace: "shop", Name: "web", Generation: 7, Reason: "TooLarge", Message: "too large; it stays"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
