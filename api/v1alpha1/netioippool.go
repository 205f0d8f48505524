// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PoolAnnotation, of a pod or else of its namespace, names the NetIOIPPool that the
// pod has its addresses from.
const PoolAnnotation = "netio.dev/ip-pool"

// DefaultPool is the pool of pods that name none, if there is one of that name.
// Without it those have addresses of their node's spec.podCIDRs.
const DefaultPool = "default"

// NetIOIPPool is a pool of addresses for pods. Nodes get blocks of it as their pods
// need them. A pod asks for a pool by the annotation netio.dev/ip-pool, its own or
// its namespace's; the pool called default is that of pods which ask for none.
// What a pod has it keeps, whatever becomes of the pool.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nipp,categories=netio
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="IPv4",type=string,JSONPath=`.spec.ipv4.cidrs`
// +kubebuilder:printcolumn:name="Blocks",type=integer,JSONPath=`.status.ipv4.capacity`
// +kubebuilder:printcolumn:name="Allotted",type=integer,JSONPath=`.status.ipv4.allotted`
// +kubebuilder:printcolumn:name="Used",type=integer,JSONPath=`.status.ipv4.used`
// +kubebuilder:printcolumn:name="IPv6",type=string,JSONPath=`.spec.ipv6.cidrs`
// +kubebuilder:printcolumn:name="Allotted6",type=integer,JSONPath=`.status.ipv6.allotted`
// +kubebuilder:printcolumn:name="Used6",type=integer,JSONPath=`.status.ipv6.used`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="must have a name of at most 63 characters: choose a shorter one"
type NetIOIPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the pool has.
	//
	// +required
	Spec NetIOIPPoolSpec `json:"spec"`

	// status is what became of it, as the operator found.
	//
	// +optional
	Status NetIOIPPoolStatus `json:"status,omitempty"`
}

// NetIOIPPoolList is a list of NetIOIPPool objects.
//
// +kubebuilder:object:root=true
type NetIOIPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetIOIPPool `json:"items"`
}

// NetIOIPPoolSpec is what a pool has. Its pods get one address of each family that
// the pool and their node have.
//
// +kubebuilder:validation:XValidation:rule="has(self.ipv4) || has(self.ipv6)",message="must have addresses: give ipv4, ipv6 or both"
type NetIOIPPoolSpec struct {
	// ipv4 are the addresses of IPv4; without it the pool has none.
	//
	// +optional
	IPv4 *IPv4Pool `json:"ipv4,omitempty"`

	// ipv6 are the addresses of IPv6; without it the pool has none.
	//
	// +optional
	IPv6 *IPv6Pool `json:"ipv6,omitempty"`
}

// IPv4Pool are addresses of IPv4.
//
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(c, !isCIDR(c) || cidr(c).ip().family() == 4)",fieldPath=".cidrs",message="must be IPv4 prefixes: IPv6 ones belong under ipv6"
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(c, !isCIDR(c) || cidr(c).prefixLength() <= self.blockSize)",fieldPath=".blockSize",message="must not be less than the prefix length of a CIDR, as a block is a part of one: give larger CIDRs or a greater blockSize"
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(c, !isCIDR(c) || cidr(c).prefixLength() >= 8)",fieldPath=".cidrs",message="must not be larger than a /8: write the part of it that is for pods"
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(c, !isCIDR(c) || !(cidr('0.0.0.0/8').containsCIDR(c) || cidr('127.0.0.0/8').containsCIDR(c) || cidr('169.254.0.0/16').containsCIDR(c) || cidr('224.0.0.0/3').containsCIDR(c)))",fieldPath=".cidrs",message="must be addresses that pods can have, not loopback, link-local, multicast or reserved ones: give others, like 10.0.0.0/16"
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(a, self.cidrs.exists_one(b, !isCIDR(a) || !isCIDR(b) || cidr(a).containsCIDR(b) || cidr(b).containsCIDR(a)))",fieldPath=".cidrs",message="must not overlap with each other: remove those that lie in another one"
type IPv4Pool struct {
	// cidrs are the prefixes that blocks are taken from, in this order. One can be
	// added at any time; of one that was removed nothing more is allotted, and what
	// nodes have of it stays theirs. At most 16.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	CIDRs []Prefix `json:"cidrs"`

	// blockSize is the prefix length of the blocks that nodes get: 26 is one of 64
	// addresses, 62 of which are for pods. It cannot be changed.
	//
	// +optional
	// +kubebuilder:default=26
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=30
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cannot be changed: make another pool, with another name, and remove this one when no pod is in it"
	BlockSize int32 `json:"blockSize,omitempty"`
}

// IPv6Pool are addresses of IPv6.
//
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(c, !isCIDR(c) || cidr(c).ip().family() == 6)",fieldPath=".cidrs",message="must be IPv6 prefixes: IPv4 ones belong under ipv4"
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(c, !isCIDR(c) || cidr(c).prefixLength() <= self.blockSize)",fieldPath=".blockSize",message="must not be less than the prefix length of a CIDR, as a block is a part of one: give larger CIDRs or a greater blockSize"
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(c, !isCIDR(c) || cidr(c).prefixLength() >= 16)",fieldPath=".cidrs",message="must not be larger than a /16: write the part of it that is for pods"
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(c, !isCIDR(c) || !(cidr('::/96').containsCIDR(c) || cidr('fe80::/10').containsCIDR(c) || cidr('ff00::/8').containsCIDR(c)))",fieldPath=".cidrs",message="must be addresses that pods can have, not loopback, link-local or multicast ones: give others, like fd00:10::/64"
// +kubebuilder:validation:XValidation:rule="self.cidrs.all(a, self.cidrs.exists_one(b, !isCIDR(a) || !isCIDR(b) || cidr(a).containsCIDR(b) || cidr(b).containsCIDR(a)))",fieldPath=".cidrs",message="must not overlap with each other: remove those that lie in another one"
type IPv6Pool struct {
	// cidrs are the prefixes that blocks are taken from, in this order. One can be
	// added at any time; of one that was removed nothing more is allotted, and what
	// nodes have of it stays theirs. At most 16.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	CIDRs []Prefix `json:"cidrs"`

	// blockSize is the prefix length of the blocks that nodes get: 122 is one of 64
	// addresses, 63 of which are for pods. It cannot be changed.
	//
	// +optional
	// +kubebuilder:default=122
	// +kubebuilder:validation:Minimum=64
	// +kubebuilder:validation:Maximum=126
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cannot be changed: make another pool, with another name, and remove this one when no pod is in it"
	BlockSize int32 `json:"blockSize,omitempty"`
}

// PoolReady, a condition of a NetIOIPPool: nodes get the blocks that they need.
const PoolReady = "Ready"

// Reasons of the condition PoolReady.
const (
	// PoolReasonReady: nodes get the blocks that they need.
	PoolReasonReady = "BlocksAvailable"
	// PoolReasonOverlap: the pool overlaps with an older one.
	PoolReasonOverlap = "OverlapsPool"
	// PoolReasonNodes: the pool overlaps with addresses of nodes or with their
	// spec.podCIDRs.
	PoolReasonNodes = "OverlapsNode"
	// PoolReasonExhausted: a node needs a block and all are allotted.
	PoolReasonExhausted = "Exhausted"
	// PoolReasonOutside: nodes have blocks that lie outside the pool's CIDRs.
	PoolReasonOutside = "InUse"
)

// NetIOIPPoolStatus is what became of a pool.
type NetIOIPPoolStatus struct {
	// conditions has Ready: nodes get the blocks that they need. If not, the message
	// says why, and what to do.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// ipv4 is how full the pool is, of IPv4.
	//
	// +optional
	IPv4 *PoolUse `json:"ipv4,omitempty"`

	// ipv6 is how full the pool is, of IPv6.
	//
	// +optional
	IPv6 *PoolUse `json:"ipv6,omitempty"`
}

// PoolUse is how full a pool is.
type PoolUse struct {
	// capacity is how many blocks the pool has in all.
	//
	// +optional
	Capacity int64 `json:"capacity"`

	// allotted is how many of them nodes have.
	//
	// +optional
	Allotted int64 `json:"allotted"`

	// used is how many addresses pods have, as the nodes' agents told.
	//
	// +optional
	Used int64 `json:"used"`
}
