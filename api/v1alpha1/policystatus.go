// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PolicyStatus is how a policy is in force on the cluster's nodes. The operator
// writes it; of policies in files there is none.
type PolicyStatus struct {
	// observedGeneration is the generation of the policy that this is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// enforced is on how many nodes the policy is in force as it is written, of all
	// that have NetIO: 3/3.
	//
	// +optional
	Enforced string `json:"enforced,omitempty"`

	// enforcedNodes is the first number of enforced.
	//
	// +optional
	EnforcedNodes int32 `json:"enforcedNodes"`

	// nodes is the second one.
	//
	// +optional
	Nodes int32 `json:"nodes"`

	// conditions are Enforced (the policy is in force on all nodes) and Valid (it is
	// understood). The message of one that is False says where and what to do.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Conditions of a policy. A ClusterNetworkPolicy has only the first one, under the
// name ClusterNetworkPolicyEnforced.
const (
	// PolicyEnforced: the policy is in force on all nodes, as it is written.
	PolicyEnforced = "Enforced"
	// PolicyValid: it is understood.
	PolicyValid = "Valid"
	// ClusterNetworkPolicyEnforced is PolicyEnforced of an object that is not NetIO's.
	ClusterNetworkPolicyEnforced = "netio.dev/Enforced"
)

// Reasons of these conditions.
const (
	// PolicyReasonEnforced: it is in force on all nodes.
	PolicyReasonEnforced = "Enforced"
	// PolicyReasonPending: nodes have not taken it yet.
	PolicyReasonPending = "Pending"
	// PolicyReasonNodeSilent: a node has not taken it whose agent does not report.
	PolicyReasonNodeSilent = "NodeSilent"
	// PolicyReasonNoNodes: no node has NetIO.
	PolicyReasonNoNodes = "NoNodes"
	// PolicyReasonRefused: a node's forwarder does not take what policies are now.
	PolicyReasonRefused = "Refused"
	// PolicyReasonNotUnderstood: it closes what it selects, in whole or in part.
	PolicyReasonNotUnderstood = "NotUnderstood"
	// PolicyReasonTooLarge: it has more rules, peers or ports than a node takes.
	PolicyReasonTooLarge = "TooLarge"
	// PolicyReasonNotTold: nodes have more problems of policies than they can tell,
	// and perhaps one of this policy.
	PolicyReasonNotTold = "NotTold"
	// PolicyReasonValid: nothing is wrong with it.
	PolicyReasonValid = "Valid"
	// PolicyReasonNoEffect: a part of it is about nothing that there is now.
	PolicyReasonNoEffect = "NoEffect"
)
