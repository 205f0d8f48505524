// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/policy"
)

// Cluster is what the agent knows of the cluster beyond its own node. It is a
// value behind a pointer: who changes it makes another one.
type Cluster struct {
	// Pods by policy.Name of namespace and name: those of all nodes that have a
	// network of their own and have not ended.
	Pods map[string]*Pod
	// Namespaces are the labels of the namespaces by name.
	Namespaces map[string]map[string]string
	// Services and EndpointSlices, by policy.Name of namespace and name.
	Services       map[string]*corev1.Service
	EndpointSlices map[string]*discoveryv1.EndpointSlice
	// Nodes by name, this one too. Which are remote is not said here.
	Nodes map[string]policy.ClusterNode
}

// Pod is a pod of the cluster. It is read only.
type Pod struct {
	Namespace, Name, UID string
	Labels               map[string]string
	// Addresses, none before the pod has its network.
	Addresses []netip.Addr
	// Ports that have a name.
	Ports []policy.Port
	// ServiceAccount is the name of the one that it runs as.
	ServiceAccount string
	// Pool of addresses that it names itself, "" for none.
	Pool string
}

// pod is the pod that an attachment belongs to, nil if the cluster does not know
// it: it is gone, or another one has its name.
func (c *Cluster) pod(a *attachment.Attachment) *Pod {
	if c == nil {
		return nil
	}
	p := c.Pods[policy.Name(a.Namespace, a.Name)]
	if p == nil || p.UID != a.UID {
		return nil
	}
	return p
}

// policyNode is what entities and nodes mean in policies.
func policyNode(s State) policy.Node {
	n := policy.Node{HostAddresses: s.Node.HostAddresses, PodNetworks: slices.Concat(s.Node.PodCIDRs, s.Node.PodNetworks)}
	if s.Cluster == nil {
		return n
	}
	for _, name := range slices.Sorted(maps.Keys(s.Cluster.Nodes)) {
		c := s.Cluster.Nodes[name]
		c.Remote = name != s.Node.Name
		n.Nodes = append(n.Nodes, c)
	}
	n.APIServer = s.Cluster.apiServer()
	return n
}

// apiServer are the addresses of the API server, as pods know it: those of the
// service default/kubernetes, and those behind it.
func (c *Cluster) apiServer() []netip.Addr {
	var all []netip.Addr
	add := func(text string) {
		if a, err := netip.ParseAddr(text); err == nil { // "None" is none
			all = append(all, a.Unmap())
		}
	}
	const namespace, name = "default", "kubernetes"
	if s := c.Services[policy.Name(namespace, name)]; s != nil {
		for _, ip := range s.Spec.ClusterIPs {
			add(ip)
		}
	}
	for _, s := range c.EndpointSlices {
		if s.Namespace != namespace || s.Labels[discoveryv1.LabelServiceName] != name {
			continue
		}
		for _, e := range s.Endpoints {
			for _, ip := range e.Addresses {
				add(ip)
			}
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// remoteID is the name of a pod as an endpoint. No attachment's port has a colon.
func remoteID(name string) string { return "pod:" + name }

// attached are the attachments as endpoints, with the labels that their pods have
// now, and which pods those are.
func attached(s State) (map[string]policy.Endpoint, map[*Pod]bool) {
	all := make(map[string]policy.Endpoint, len(s.Attachments))
	local := make(map[*Pod]bool, len(s.Attachments))
	for name, a := range s.Attachments {
		e := policy.Endpoint{ID: name, Namespace: a.Namespace, Name: a.Name, Labels: a.Labels, Addresses: a.Addresses, ServiceAccount: a.ServiceAccount}
		if p := s.Cluster.pod(a); p != nil {
			e.Labels, e.Ports, e.ServiceAccount = p.Labels, p.Ports, p.ServiceAccount
			local[p] = true
		}
		all[name] = e
	}
	return all, local
}

// compileEndpoints tells the compiler of policies of endpoints that came, went or
// changed: attachments, and the pods of other nodes, of which there are many, and
// which are told apart by their pointers alone.
func (b *Builder) compileEndpoints(s State) {
	now, local := attached(s)
	var pods map[string]*Pod
	if s.Cluster != nil {
		pods = s.Cluster.Pods
	}
	remote := func(p *Pod) bool { return p != nil && !local[p] && len(p.Addresses) > 0 }
	for id := range b.endpoints {
		if _, ok := now[id]; !ok {
			b.compiler.DeleteEndpoint(id)
		}
	}
	for name := range b.remote {
		if !remote(pods[name]) {
			b.compiler.DeleteEndpoint(remoteID(name))
			delete(b.remote, name)
		}
	}
	for id, e := range now {
		if old, ok := b.endpoints[id]; !ok || !sameEndpoint(old, e) {
			b.compiler.SetEndpoint(e)
		}
	}
	for name, p := range pods {
		if remote(p) && b.remote[name] != p {
			b.compiler.SetEndpoint(policy.Endpoint{
				ID: remoteID(name), Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Addresses: p.Addresses, Ports: p.Ports, ServiceAccount: p.ServiceAccount, Remote: true,
			})
			b.remote[name] = p
		}
	}
	b.endpoints = now
}

func sameEndpoint(a, b policy.Endpoint) bool {
	return a.Namespace == b.Namespace && a.ServiceAccount == b.ServiceAccount && a.Remote == b.Remote && maps.Equal(a.Labels, b.Labels) &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Ports, b.Ports)
}
