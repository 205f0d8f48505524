// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Peer is the other side of a connection: pods by their labels and service accounts
// (podSelector, namespaceSelector, serviceAccounts, together or alone), nodes by theirs (nodeSelector), addresses (cidr) or an
// entity.
//
// +kubebuilder:validation:XValidation:rule="(has(self.podSelector) || has(self.namespaceSelector) || has(self.serviceAccounts) ? 1 : 0) + (has(self.nodeSelector) ? 1 : 0) + (has(self.cidr) ? 1 : 0) + (has(self.entity) ? 1 : 0) == 1",message="must be exactly one of: pods (podSelector, namespaceSelector, serviceAccounts), nodeSelector, cidr, entity; write a list entry for each peer"
// +kubebuilder:validation:XValidation:rule="!has(self.except) || has(self.cidr)",fieldPath=".except",message="needs cidr: give the prefix that these are taken out of"
// +kubebuilder:validation:XValidation:rule="!has(self.except) || !has(self.cidr) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || (cidr(self.cidr).containsCIDR(e) && cidr(self.cidr).prefixLength() < cidr(e).prefixLength()))",fieldPath=".except",message="must lie within cidr and be smaller than it: remove what is not part of cidr"
type Peer struct {
	// podSelector picks pods: of the namespaces that namespaceSelector picks, or
	// where there is none of the policy's own namespace, in a NetIOClusterPolicy of
	// all namespaces. An empty selector ({}) picks all of them.
	//
	// +optional
	PodSelector *LabelSelector `json:"podSelector,omitempty"`

	// namespaceSelector picks namespaces by their labels; without podSelector,
	// all of their pods. Every namespace has the label
	// kubernetes.io/metadata.name, its name. An empty selector ({}) picks all
	// namespaces.
	//
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`

	// serviceAccounts narrows the pods to those that run as one of these service
	// accounts of their namespace. At most 64.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	ServiceAccounts []ServiceAccountName `json:"serviceAccounts,omitempty"`

	// nodeSelector picks nodes of the cluster by their labels: all addresses of their
	// Node objects, and the entity host of the node that the pod runs on. An empty
	// selector ({}) picks all nodes.
	//
	// +optional
	NodeSelector *LabelSelector `json:"nodeSelector,omitempty"`

	// cidr is an address prefix, as in 10.0.0.0/8 or 2001:db8::/32. It matches by
	// address alone, whether a pod has the address or not.
	//
	// +optional
	CIDR Prefix `json:"cidr,omitempty"`

	// except are prefixes within cidr that do not match. At most 20.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	Except []Prefix `json:"except,omitempty"`

	// entity is a peer that has no labels: host is the machine that the pod runs
	// on, remote-node are the other nodes of the cluster, cluster is every pod and
	// node, world is every address that is neither a pod's nor a node's, all is
	// every address. kube-apiserver are the addresses behind the service kubernetes
	// of the namespace default, and its own.
	//
	// +optional
	Entity Entity `json:"entity,omitempty"`
}

// ServiceAccountName is the name of a service account: lower-case letters, digits,
// '-' and '.', at most 253, beginning and ending with a letter or digit.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
type ServiceAccountName string

// Entity is a peer that is neither labels nor a prefix.
//
// +kubebuilder:validation:Enum=host;remote-node;cluster;kube-apiserver;world;all
type Entity string

const (
	EntityHost          Entity = "host"           // the machine that the pod runs on
	EntityRemoteNode    Entity = "remote-node"    // the other nodes
	EntityCluster       Entity = "cluster"        // pods and nodes
	EntityKubeAPIServer Entity = "kube-apiserver" // its endpoints and its service
	EntityWorld         Entity = "world"          // neither a pod nor a node
	EntityAll           Entity = "all"            // every address
)

// Prefix is an address prefix in CIDR notation.
//
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be an address prefix in CIDR notation, like 10.0.0.0/8 or 2001:db8::/32; a single address ends in /32 or /128"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="must have no address bits set after the prefix length: clear them, or make the prefix as long as the address (/32 or /128)"
type Prefix string
