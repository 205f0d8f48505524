// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NetIONode tells how NetIO is on a node of the cluster. The node's agent makes it,
// under the name of the node, and keeps it; it goes with the Node. There is
// nothing in it for people to set, and it is not for them to delete: what its pods
// have of pools of addresses is written there.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ninode,categories=netio
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Problems",type=integer,JSONPath=`.status.problemCount`
// +kubebuilder:printcolumn:name="Device",type=string,JSONPath=`.status.device`
// +kubebuilder:printcolumn:name="Module",type=string,JSONPath=`.status.kernelModule.state`
// +kubebuilder:printcolumn:name="Pods",type=integer,JSONPath=`.status.endpoints`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Seen",type=date,JSONPath=`.status.lastHeartbeatTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Pod CIDRs",type=string,priority=1,JSONPath=`.status.podCIDRs`
// +kubebuilder:printcolumn:name="Module message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="KernelModule")].message`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Degraded")].message`
type NetIONode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the operator gives the node.
	//
	// +optional
	Spec NetIONodeSpec `json:"spec,omitempty"`

	// status is what the agent found.
	//
	// +optional
	Status NetIONodeStatus `json:"status,omitempty"`
}

// NetIONodeList is a list of NetIONode objects.
//
// +kubebuilder:object:root=true
type NetIONodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetIONode `json:"items"`
}

// NetIONodeSpec is what the operator gives a node.
type NetIONodeSpec struct {
	// pools are the blocks of addresses that the node has, by their pools. The
	// operator alone writes them.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	Pools []NodePool `json:"pools,omitempty"`
}

// NodePool is what a node has of a pool.
type NodePool struct {
	// name of the NetIOIPPool.
	//
	// +required
	Name string `json:"name"`

	// blocks are prefixes that are this node's alone, of both families.
	//
	// +optional
	// +listType=atomic
	Blocks []string `json:"blocks,omitempty"`
}

// NotReadyTaint is a taint that keeps pods off a node until its agent gives them their
// network; the operator takes it away then.
const NotReadyTaint = "netio.dev/agent-not-ready"

// Conditions of a NetIONode.
const (
	// NodeReady: pods can be added, and have their network.
	NodeReady = "Ready"
	// NodeDegraded: something is wrong, and the message says what.
	NodeDegraded = "Degraded"
	// NodeKernelModuleLoaded: the kernel module is loaded and fits this version. It is not
	// there where the module is not delivered.
	NodeKernelModuleLoaded = "KernelModule"
)

// NetIONodeStatus is how NetIO is on a node.
type NetIONodeStatus struct {
	// conditions are Ready (pods can be added and have their network), Degraded
	// (something is wrong: the message says what, and what to do) and KernelModule (it
	// is loaded; else the message says why not, and what would help).
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// lastHeartbeatTime is when the agent last said that this is so: each minute,
	// and whenever something changed. One that is older says nothing of now.
	//
	// +optional
	LastHeartbeatTime metav1.Time `json:"lastHeartbeatTime,omitempty"`

	// version is the agent's.
	//
	// +optional
	Version string `json:"version,omitempty"`

	// device is what moves the packets: kernel (netio.ko) or soft.
	//
	// +optional
	Device string `json:"device,omitempty"`

	// kernelModule is what came of the module's delivery to the node.
	//
	// +optional
	KernelModule *NodeKernelModule `json:"kernelModule,omitempty"`

	// podCIDRs are the prefixes that pods of the node get their addresses from.
	//
	// +optional
	// +listType=atomic
	PodCIDRs []string `json:"podCIDRs,omitempty"`

	// endpoints is how many interfaces pods have.
	//
	// +optional
	Endpoints int32 `json:"endpoints"`

	// policies is how many policies the agent knows, of all kinds.
	//
	// +optional
	Policies int32 `json:"policies"`

	// problemCount is how many things are wrong.
	//
	// +optional
	ProblemCount int32 `json:"problemCount"`

	// enforcement tells which policies are in force on the node. The operator makes
	// the policies' status of it.
	//
	// +optional
	Enforcement *NodeEnforcement `json:"enforcement,omitempty"`

	// pools is what the node's pods have of pools, and what they lack.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	Pools []NodePoolStatus `json:"pools,omitempty"`
}

// NodePoolStatus is what a node's pods have of a pool, and what they lack.
type NodePoolStatus struct {
	// name of the NetIOIPPool.
	//
	// +required
	Name string `json:"name"`

	// blocks are those that the agent leases addresses from: of spec.pools those
	// that it has seen, so that the operator knows what the numbers are about.
	//
	// +optional
	// +listType=atomic
	Blocks []string `json:"blocks,omitempty"`

	// empty are blocks without pods that the agent does not lease from any more: the
	// operator takes them back.
	//
	// +optional
	// +listType=atomic
	Empty []string `json:"empty,omitempty"`

	// ipv4 are numbers of IPv4 addresses.
	//
	// +optional
	IPv4 NodePoolUse `json:"ipv4,omitempty"`

	// ipv6 are numbers of IPv6 addresses.
	//
	// +optional
	IPv6 NodePoolUse `json:"ipv6,omitempty"`
}

// NodePoolUse are numbers of addresses.
type NodePoolUse struct {
	// used is how many pods have.
	//
	// +optional
	Used int64 `json:"used,omitempty"`

	// free is how many can be had now; those that were given back a moment ago are
	// neither used nor free.
	//
	// +optional
	Free int64 `json:"free,omitempty"`

	// wanted is how many more the node should have: for pods that wait, and for
	// those that may come.
	//
	// +optional
	Wanted int64 `json:"wanted,omitempty"`
}

// NodeEnforcement tells which policies are in force on a node. Of each kind it is the
// highest resourceVersion that the agent had seen when it made what the forwarder has
// now: a policy of that version, or an earlier one, is in force as it is there, if it
// is not among the problems. A kind is "" while the node knows no object of it.
type NodeEnforcement struct {
	// netIOPolicies is a resourceVersion of NetIOPolicies.
	//
	// +optional
	NetIOPolicies string `json:"netIOPolicies,omitempty"`

	// netIOClusterPolicies is a resourceVersion of NetIOClusterPolicies.
	//
	// +optional
	NetIOClusterPolicies string `json:"netIOClusterPolicies,omitempty"`

	// clusterNetworkPolicies is a resourceVersion of ClusterNetworkPolicies.
	//
	// +optional
	ClusterNetworkPolicies string `json:"clusterNetworkPolicies,omitempty"`

	// refused is why the forwarder does not take what policies have become since;
	// what was in force stays in force.
	//
	// +optional
	Refused string `json:"refused,omitempty"`

	// problems are policies that are in force other than they are written, sorted by
	// kind, namespace and name; at most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Problems []PolicyProblem `json:"problems,omitempty"`

	// problemsLeftOut is how many there are beyond those, later in their order.
	//
	// +optional
	ProblemsLeftOut int32 `json:"problemsLeftOut,omitempty"`
}

// MaxPolicyProblems is how many problems of policies a NetIONode has.
const MaxPolicyProblems = 64

// PolicyProblem is what is wrong with a policy on a node.
type PolicyProblem struct {
	// kind is NetIOPolicy, NetIOClusterPolicy, NetworkPolicy or ClusterNetworkPolicy.
	//
	// +required
	Kind string `json:"kind"`

	// namespace of the policy, "" for one of the cluster.
	//
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// name of the policy.
	//
	// +required
	Name string `json:"name"`

	// generation of the policy that this is about.
	//
	// +optional
	Generation int64 `json:"generation,omitempty"`

	// reason is NotUnderstood, TooLarge or NoEffect.
	//
	// +required
	Reason string `json:"reason"`

	// message says what is wrong, and what is in force.
	//
	// +optional
	Message string `json:"message,omitempty"`
}
