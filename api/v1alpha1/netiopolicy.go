// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NetIOPolicy says what may reach the pods of its namespace and what they may
// reach.
//
// It judges the first packet of a connection; what belongs to a connection that
// was let through, replies and ICMP errors included, passes. Rules of all
// policies that select a pod are tried together, in this order: lower priority
// first, at the same priority Deny before Allow. The first rule that matches
// decides. A packet that no rule matches is dropped if any of the policies
// covers its direction, and passes otherwise.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=niopol,categories=netio
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Audit",type=boolean,JSONPath=`.spec.audit`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Enforced")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Enforced")].message`
type NetIOPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec NetIOPolicySpec `json:"spec"`

	// status is how the policy is in force on the cluster's nodes.
	//
	// +optional
	Status PolicyStatus `json:"status,omitempty,omitzero"`
}

// NetIOPolicyList is a list of NetIOPolicy objects.
//
// +kubebuilder:object:root=true
type NetIOPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetIOPolicy `json:"items"`
}

// DefaultPriority is the priority of a policy that does not give one.
const DefaultPriority = 500

// NetIOPolicySpec is what a NetIOPolicy asks for.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || !has(self.policyTypes) || 'Ingress' in self.policyTypes",fieldPath=".policyTypes",message="must list Ingress, since there are ingress rules: add Ingress, or remove the ingress rules"
// +kubebuilder:validation:XValidation:rule="!has(self.egress) || !has(self.policyTypes) || 'Egress' in self.policyTypes",fieldPath=".policyTypes",message="must list Egress, since there are egress rules: add Egress, or remove the egress rules"
type NetIOPolicySpec struct {
	// priority orders the rules of all policies that select a pod: lower first,
	// from 0 to 1000. Where rules of the same priority match, Deny wins.
	//
	// +optional
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Priority *int32 `json:"priority,omitempty"`

	// podSelector picks the pods of the policy's namespace that the policy is
	// for. An empty selector ({}) picks all of them.
	//
	// +required
	PodSelector LabelSelector `json:"podSelector"`

	// serviceAccounts narrows the policy to pods that run as one of these service
	// accounts of their namespace. At most 64.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	ServiceAccounts []ServiceAccountName `json:"serviceAccounts,omitempty"`

	// policyTypes are the directions that the policy covers. In a direction that
	// is covered, everything is dropped that no rule allows: a policy that
	// covers a direction and has no rules in it closes the direction. Default:
	// Ingress, and also Egress if there are egress rules.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	PolicyTypes []PolicyType `json:"policyTypes,omitempty"`

	// audit switches enforcement off. The policy then decides about no packet;
	// packets that pass, and would be dropped if the policy were enforced beside
	// the others, are reported with the verdict "audit".
	//
	// +optional
	Audit bool `json:"audit,omitempty"`

	// ingress are the rules for connections to the pods. At most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.name) || self.exists_one(o, has(o.name) && o.name == r.name))",message="must not use a rule name twice: give each ingress rule a name of its own, or none"
	Ingress []IngressRule `json:"ingress,omitempty"`

	// egress are the rules for connections from the pods. At most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.name) || self.exists_one(o, has(o.name) && o.name == r.name))",message="must not use a rule name twice: give each egress rule a name of its own, or none"
	Egress []EgressRule `json:"egress,omitempty"`
}

// PolicyType is a direction, seen from the pod.
//
// +kubebuilder:validation:Enum=Ingress;Egress
type PolicyType string

const (
	PolicyTypeIngress PolicyType = "Ingress" // connections to the pod
	PolicyTypeEgress  PolicyType = "Egress"  // connections from the pod
)

// Action is what becomes of a packet that a rule matches. Which actions a rule may
// have depends on the kind of its policy.
type Action string

const (
	ActionAllow Action = "Allow" // let it pass
	ActionDeny  Action = "Deny"  // drop it
	ActionPass  Action = "Pass"  // leave it to the next tier; not in a NetIOPolicy
)

// RuleName names a rule where verdicts are shown.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be lower-case letters, digits and '-', beginning and ending with a letter or digit, like allow-web"
type RuleName string

// IngressRule decides about connections to the pods. It matches where both its
// peers (from) and its protocols (ports, icmp) match.
type IngressRule struct {
	// name is shown where the rule decides. Default: the rule's place, as in
	// ingress[0].
	//
	// +optional
	Name RuleName `json:"name,omitempty"`

	// action is what becomes of the packets that the rule matches: Allow or Deny.
	//
	// +required
	// +kubebuilder:validation:Enum=Allow;Deny
	Action Action `json:"action"`

	// log reports each connection that this rule decides about.
	//
	// +optional
	Log bool `json:"log,omitempty"`

	// from are the peers that the rule is about: it matches if one of them does.
	// Left out: every source. At most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	From []Peer `json:"from,omitempty"`

	RuleProtocols `json:",inline"`
}

// EgressRule decides about connections from the pods. It matches where both its
// peers (to) and its protocols (ports, icmp) match.
type EgressRule struct {
	// name is shown where the rule decides. Default: the rule's place, as in
	// egress[0].
	//
	// +optional
	Name RuleName `json:"name,omitempty"`

	// action is what becomes of the packets that the rule matches: Allow or Deny.
	//
	// +required
	// +kubebuilder:validation:Enum=Allow;Deny
	Action Action `json:"action"`

	// log reports each connection that this rule decides about.
	//
	// +optional
	Log bool `json:"log,omitempty"`

	// to are the peers that the rule is about: it matches if one of them does.
	// Left out: every destination. At most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	To []Peer `json:"to,omitempty"`

	RuleProtocols `json:",inline"`
}
