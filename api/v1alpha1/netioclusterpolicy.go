// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NetIOClusterPolicy says what may reach the pods of a cluster, or of some of its
// namespaces, and what they may reach.
//
// Its tier tells how it stands to the policies of namespaces: Admin decides before
// all of them, Normal together with them, Baseline after them and only where none
// of them covers the direction. Within a tier the rules of all policies that select
// a pod are tried in this order: lower priority first, at the same priority Deny
// before Allow before Pass. The first rule that matches decides; Pass leaves it to
// the next tier.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=niocpol,categories=netio
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Audit",type=boolean,JSONPath=`.spec.audit`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Enforced")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Enforced")].message`
type NetIOClusterPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec NetIOClusterPolicySpec `json:"spec"`

	// status is how the policy is in force on the cluster's nodes.
	//
	// +optional
	Status PolicyStatus `json:"status,omitempty,omitzero"`
}

// NetIOClusterPolicyList is a list of NetIOClusterPolicy objects.
//
// +kubebuilder:object:root=true
type NetIOClusterPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetIOClusterPolicy `json:"items"`
}

// NetIOClusterPolicySpec is what a NetIOClusterPolicy asks for.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || !has(self.policyTypes) || 'Ingress' in self.policyTypes",fieldPath=".policyTypes",message="must list Ingress, since there are ingress rules: add Ingress, or remove the ingress rules"
// +kubebuilder:validation:XValidation:rule="!has(self.egress) || !has(self.policyTypes) || 'Egress' in self.policyTypes",fieldPath=".policyTypes",message="must list Egress, since there are egress rules: add Egress, or remove the egress rules"
// +kubebuilder:validation:XValidation:rule="!has(self.policyTypes) || !has(self.tier) || self.tier == 'Normal'",fieldPath=".policyTypes",message="must be left out in the tiers Admin and Baseline, which close no direction: to close one, end with a rule that denies the rest"
type NetIOClusterPolicySpec struct {
	// tier is Admin, Normal or Baseline. Admin decides before the policies of
	// namespaces (NetIOPolicy, NetworkPolicy), Normal together with them. Baseline
	// decides after them, where no policy of the tier Normal covers the direction
	// or one passes the packet on.
	//
	// +optional
	// +kubebuilder:default=Normal
	Tier Tier `json:"tier,omitempty"`

	// priority orders the rules of the tier: lower first, from 0 to 1000. Where
	// rules of the same priority match, Deny wins over Allow, and Allow over Pass.
	//
	// +optional
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Priority *int32 `json:"priority,omitempty"`

	// podSelector picks the pods that the policy is for, in the namespaces that
	// namespaceSelector picks. Left out, or empty ({}): all of them.
	//
	// +optional
	PodSelector *LabelSelector `json:"podSelector,omitempty"`

	// namespaceSelector picks the namespaces whose pods the policy is for, by their
	// labels. Left out, or empty ({}): all namespaces.
	//
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`

	// serviceAccounts narrows the policy to pods that run as one of these service
	// accounts of their namespace. At most 64.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	ServiceAccounts []ServiceAccountName `json:"serviceAccounts,omitempty"`

	// policyTypes are the directions that a policy of the tier Normal covers. In a
	// direction that is covered, everything is dropped that no rule allows.
	// Default: Ingress, and also Egress if there are egress rules. Policies of the
	// tiers Admin and Baseline cover none: what their rules do not decide about
	// goes on.
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
	Ingress []ClusterIngressRule `json:"ingress,omitempty"`

	// egress are the rules for connections from the pods. At most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.name) || self.exists_one(o, has(o.name) && o.name == r.name))",message="must not use a rule name twice: give each egress rule a name of its own, or none"
	Egress []ClusterEgressRule `json:"egress,omitempty"`
}

// Tier is how a policy stands to those of namespaces.
//
// +kubebuilder:validation:Enum=Admin;Normal;Baseline
type Tier string

const (
	TierAdmin    Tier = "Admin"    // decides first
	TierNormal   Tier = "Normal"   // the tier of NetIOPolicy and NetworkPolicy
	TierBaseline Tier = "Baseline" // decides where the tier Normal has nothing to say
)

// ClusterIngressRule is an IngressRule that may also pass packets on to the next
// tier.
type ClusterIngressRule struct {
	// name is shown where the rule decides. Default: the rule's place, as in
	// ingress[0].
	//
	// +optional
	Name RuleName `json:"name,omitempty"`

	// action is what becomes of the packets that the rule matches: Allow, Deny, or
	// Pass, which leaves them to the next tier.
	//
	// +required
	// +kubebuilder:validation:Enum=Allow;Deny;Pass
	Action Action `json:"action"`

	// log reports each connection that this rule decides about or passes on.
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

// ClusterEgressRule is an EgressRule that may also pass packets on to the next
// tier.
type ClusterEgressRule struct {
	// name is shown where the rule decides. Default: the rule's place, as in
	// egress[0].
	//
	// +optional
	Name RuleName `json:"name,omitempty"`

	// action is what becomes of the packets that the rule matches: Allow, Deny, or
	// Pass, which leaves them to the next tier.
	//
	// +required
	// +kubebuilder:validation:Enum=Allow;Deny;Pass
	Action Action `json:"action"`

	// log reports each connection that this rule decides about or passes on.
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
