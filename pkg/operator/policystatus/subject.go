// SPDX-License-Identifier: Apache-2.0

package policystatus

import (
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/events"
	"netio.dev/netio/pkg/operator/heartbeat"
	"netio.dev/netio/pkg/policy"
)

// reconciler writes what is judged. It is called by one goroutine.
type reconciler struct {
	client client.Client
	memory *memory
	nodes  *heartbeat.Monitor
	events *events.Recorder
	live   client.Reader
	// told are the problems of NetworkPolicies that there were Events of.
	told map[key]v1alpha1.PolicyProblem
	last time.Time
	pass uint64
	// clusterNetworkPolicies: the cluster has the kind, and it is watched.
	clusterNetworkPolicies atomic.Bool
}

// subject is a policy of any kind while it is judged.
type subject struct {
	kind     string
	object   client.Object
	enforced string // the type of the condition
	// conditions are the policy's now; write puts others in their place, and the
	// numbers, and tells whether that changes anything.
	conditions func() []metav1.Condition
	write      func(verdict, []metav1.Condition) bool

	sighting *sighting
	verdict  verdict
	was      string // the reason of the condition before
}

// apply writes the verdict into the object, and tells whether that changes anything.
func (s *subject) apply() bool {
	conditions := append([]metav1.Condition(nil), s.conditions()...)
	v, generation := s.verdict, s.object.GetGeneration()
	if c := apimeta.FindStatusCondition(conditions, s.enforced); c != nil {
		s.was = c.Reason
	}
	apimeta.SetStatusCondition(&conditions, metav1.Condition{Type: s.enforced, Status: v.status, Reason: v.reason, Message: v.message, ObservedGeneration: generation})
	if s.enforced == v1alpha1.PolicyEnforced {
		apimeta.SetStatusCondition(&conditions, metav1.Condition{Type: v1alpha1.PolicyValid, Status: v.valid, Reason: v.validReason, Message: v.validMessage, ObservedGeneration: generation})
	}
	return s.write(v, conditions)
}

func ofPolicy(o *v1alpha1.NetIOPolicy) *subject {
	return ofNetIO(policy.KindNetIOPolicy, o, &o.Status)
}

func ofClusterPolicy(o *v1alpha1.NetIOClusterPolicy) *subject {
	return ofNetIO(policy.KindNetIOClusterPolicy, o, &o.Status)
}

func ofNetIO(kind string, o client.Object, status *v1alpha1.PolicyStatus) *subject {
	return &subject{
		kind: kind, object: o, enforced: v1alpha1.PolicyEnforced,
		conditions: func() []metav1.Condition { return status.Conditions },
		write: func(v verdict, conditions []metav1.Condition) bool {
			was := *status
			*status = v1alpha1.PolicyStatus{
				ObservedGeneration: o.GetGeneration(), Enforced: fmt.Sprintf("%d/%d", v.enforced, v.nodes),
				EnforcedNodes: int32(v.enforced), Nodes: int32(v.nodes), Conditions: conditions,
			}
			return !equality.Semantic.DeepEqual(was, *status)
		},
	}
}

func ofClusterNetworkPolicy(o *networkapi.ClusterNetworkPolicy) *subject {
	return &subject{
		kind: policy.KindClusterNetworkPolicy, object: o, enforced: v1alpha1.ClusterNetworkPolicyEnforced,
		conditions: func() []metav1.Condition { return o.Status.Conditions },
		write: func(_ verdict, conditions []metav1.Condition) bool {
			was := o.Status.Conditions
			o.Status.Conditions = conditions
			return !equality.Semantic.DeepEqual(was, conditions)
		},
	}
}
