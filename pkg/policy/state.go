// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
)

// NamespaceNameLabel is the label that every namespace has: its name.
// (Kubernetes sets it; see "Well-Known Labels" of its reference.)
const NamespaceNameLabel = "kubernetes.io/metadata.name"

// Endpoint is a pod's attachment.
type Endpoint struct {
	// ID is unique among the endpoints: the forwarder's name of the port.
	ID        string
	Namespace string
	Name      string
	Labels    map[string]string
	Addresses []netip.Addr
	// ServiceAccount is the name of the one that it runs as, "" if that is not known.
	ServiceAccount string
	// Ports that have a name; of two with one name and protocol the first counts.
	Ports []Port
	// Remote says that the endpoint is no port of this node's forwarder: rules
	// name it as a peer, but no policy is attached to it.
	Remote bool
}

// Port is a port of a pod's containers that has a name.
type Port struct {
	Name     string
	Protocol corev1.Protocol
	Number   uint16
}

// State is everything that policy depends on. It is read only.
type State struct {
	// Endpoints, with unique IDs; of two with one ID the later counts.
	Endpoints []Endpoint
	// Namespaces are the labels of the namespaces by name. Each has
	// NamespaceNameLabel whether it is listed or not.
	Namespaces map[string]map[string]string
	// Policies, with unique namespace and name; of two the later counts.
	Policies []*v1alpha1.NetIOPolicy
	// ClusterPolicies, with unique name; of two the later counts.
	ClusterPolicies []*v1alpha1.NetIOClusterPolicy
	// NetworkPolicies, with unique namespace and name; of two the later counts.
	NetworkPolicies []*networkingv1.NetworkPolicy
	// ClusterNetworkPolicies, with unique name; of two the later counts.
	ClusterNetworkPolicies []*networkapi.ClusterNetworkPolicy
	Node                   Node
}

// Node is what the entities of rules mean on this node.
type Node struct {
	// HostAddresses are the addresses of the host's own stack: entity host.
	HostAddresses []netip.Addr
	// PodNetworks are the prefixes that pods have their addresses from. They are
	// not the world, whether an address is in use or not. An endpoint whose
	// address lies elsewhere is not the world either.
	PodNetworks []netip.Prefix
	// Nodes are those of the cluster, this one too; none without one.
	Nodes []ClusterNode
	// APIServer are the addresses of the cluster's: entity kube-apiserver.
	APIServer []netip.Addr
}

// ClusterNode is a node of the cluster.
type ClusterNode struct {
	// Remote says that it is not this one: entity remote-node.
	Remote    bool
	Labels    map[string]string
	Addresses []netip.Addr
}

func (n ClusterNode) equal(o ClusterNode) bool {
	return n.Remote == o.Remote && maps.Equal(n.Labels, o.Labels) && slices.Equal(n.Addresses, o.Addresses)
}
