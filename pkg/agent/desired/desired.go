// SPDX-License-Identifier: Apache-2.0

// Package desired works out the forwarder's configuration from what the agent
// knows. It is a function of values: nothing here touches the machine.
//
//	State { node, attachments, policies, cluster } ──Build──> Snapshot
//	                          Snapshot, Snapshot ──Diff──> Delta
package desired

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	networkingv1 "k8s.io/api/networking/v1"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/config"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/service"
)

// HostPort is the name of the host knet's port. No pod's port has it: those
// have a slash.
const HostPort = "host"

// Tags of ports.
const (
	TagNamespace = "namespace"
	TagPod       = "pod"
	TagContainer = "container"
	TagNetwork   = "network"
)

// State is all that the configuration is made of. It is a value: who changes it
// makes another one.
type State struct {
	Node Node
	// Attachments by the names of their ports.
	Attachments map[string]*attachment.Attachment
	// Policies, with unique namespace and name.
	Policies        []*v1alpha1.NetIOPolicy
	ClusterPolicies []*v1alpha1.NetIOClusterPolicy
	NetworkPolicies []*networkingv1.NetworkPolicy
	// ClusterNetworkPolicies, with unique name.
	ClusterNetworkPolicies []*networkapi.ClusterNetworkPolicy
	// Versions are those of the policies.
	Versions Versions
	// Cluster is nil without one.
	Cluster *Cluster
}

// Versions are those of the policies of a cluster, by their kinds.
type Versions struct {
	Policies, ClusterPolicies, ClusterNetworkPolicies Version
}

// Version is that of the policies of a kind. Both are resourceVersions, "" while
// there was none.
type Version struct {
	// Seen is the highest that was seen, Spec the highest at which a policy was new
	// or said something else than before: others are of changes to a status.
	Seen, Spec string
}

// Node is this machine.
type Node struct {
	// Name in the cluster, and Zone, the label topology.kubernetes.io/zone; ""
	// without.
	Name, Zone string
	// HostInterface is the name of the host knet, HostMTU its MTU.
	HostInterface string
	HostMTU       int
	// Routers has at most one address of each family.
	Routers []netip.Addr
	// PodCIDRs are this node's, PodNetworks those of the other nodes.
	PodCIDRs    []netip.Prefix
	PodNetworks []netip.Prefix
	// HostAddresses are the addresses of the host's own stack.
	HostAddresses []netip.Addr
	// NodeAddresses are the other nodes' own addresses.
	NodeAddresses []netip.Addr
	// KubeProxyReplacement and ExternalIPs: see package config. ServiceSources has at
	// most one address of each family.
	KubeProxyReplacement, ExternalIPs bool
	ServiceSources                    []netip.Addr
	Connections                       config.Connections
	// Tunnel is nil where the nodes are neighbours; Peers are the other nodes then.
	Tunnel *Tunnel
}

// With returns the state with an attachment added or replaced.
func (s State) With(a *attachment.Attachment) State {
	s.Attachments = maps.Clone(s.Attachments)
	if s.Attachments == nil {
		s.Attachments = map[string]*attachment.Attachment{}
	}
	s.Attachments[a.Port] = a
	return s
}

// Without returns the state without the attachment that has the port.
func (s State) Without(port string) State {
	if _, ok := s.Attachments[port]; ok {
		s.Attachments = maps.Clone(s.Attachments)
		delete(s.Attachments, port)
	}
	return s
}

// Builder builds snapshots. It keeps what it made of the last state, so that
// the next one costs as much as the change. It must not be used by two
// goroutines at once; the snapshots may be.
type Builder struct {
	compiler  *policy.Compiler
	services  *service.Compiler
	last      State
	endpoints map[string]policy.Endpoint // of attachments
	remote    map[string]*Pod            // by the names of pods
	policies  map[string]*v1alpha1.NetIOPolicy
	ports     map[string]builtPort

	clusterPolicies map[string]*v1alpha1.NetIOClusterPolicy
	networkPolicies map[string]*networkingv1.NetworkPolicy

	clusterNetworkPolicies map[string]*networkapi.ClusterNetworkPolicy
}

// builtPort is a port's message and what it was made of.
type builtPort struct {
	from     *attachment.Attachment
	policies []string
	message  *dataplanev1.Port
}

// NewBuilder returns a Builder of the empty state.
func NewBuilder() *Builder {
	return &Builder{compiler: policy.NewCompiler(), services: service.NewCompiler(), remote: map[string]*Pod{}, ports: map[string]builtPort{}}
}

// Build returns the configuration that the state asks for, without revision,
// and the policies that could not be understood. Its lists are sorted by name.
// Messages that did not change are those of the last Build; none may be changed.
func (b *Builder) Build(s State) (*dataplanev1.Snapshot, []policy.Problem) {
	b.compileServices(s)
	b.compile(s)
	result := b.compiler.Result()
	ways, there := tunnels(s.Node)
	snapshot := &dataplanev1.Snapshot{
		Settings:    settings(s.Node),
		Ports:       append(ways, hostPort(s.Node)),
		Routes:      append(routes(s.Node), there...),
		AddressSets: result.AddressSets,
		Policies:    result.Policies,

		DestinationNats: b.services.Result(),
	}
	ports := make(map[string]builtPort, len(s.Attachments))
	for name, a := range s.Attachments {
		policies, _ := result.PoliciesOf(name)
		p, ok := b.ports[name]
		if !ok || p.from != a || !slices.Equal(p.policies, policies) {
			p = builtPort{a, policies, podPort(a, policies)}
		}
		ports[name] = p
		snapshot.Ports = append(snapshot.Ports, p.message)
	}
	b.ports = ports
	slices.SortFunc(snapshot.Routes, func(x, y *dataplanev1.Route) int { return strings.Compare(x.Prefix, y.Prefix) })
	slices.SortFunc(snapshot.Ports, func(x, y *dataplanev1.Port) int { return strings.Compare(x.Name, y.Name) })
	return snapshot, result.Problems
}

// compile tells the compiler what changed since the last state.
func (b *Builder) compile(s State) {
	b.compiler.SetNode(policyNode(s))
	b.compileNamespaces(s.Cluster)
	b.compileEndpoints(s)
	follow(&b.policies, s.Policies, b.compiler.SetPolicy, b.compiler.DeletePolicy)
	follow(&b.clusterPolicies, s.ClusterPolicies, b.compiler.SetClusterPolicy, func(_, name string) { b.compiler.DeleteClusterPolicy(name) })
	follow(&b.networkPolicies, s.NetworkPolicies, b.compiler.SetNetworkPolicy, b.compiler.DeleteNetworkPolicy)
	follow(&b.clusterNetworkPolicies, s.ClusterNetworkPolicies, b.compiler.SetClusterNetworkPolicy, func(_, name string) { b.compiler.DeleteClusterNetworkPolicy(name) })
	b.last = s
}

// follow tells of the changes from the objects that were to those of the list.
func follow[T namespaced](was *map[string]T, list []T, set func(T), gone func(namespace, name string)) {
	now := make(map[string]T, len(list))
	for _, o := range list {
		now[policy.Name(o.GetNamespace(), o.GetName())] = o
	}
	each(*was, now, set, gone)
	*was = now
}

// compileNamespaces tells it of the namespaces' labels.
func (b *Builder) compileNamespaces(c *Cluster) {
	was := b.last.Cluster
	if was == c {
		return
	}
	var old, now map[string]map[string]string
	if was != nil {
		old = was.Namespaces
	}
	if c != nil {
		now = c.Namespaces
	}
	for name := range old {
		if _, ok := now[name]; !ok {
			b.compiler.DeleteNamespace(name)
		}
	}
	for name, labels := range now {
		b.compiler.SetNamespace(name, labels)
	}
}

func settings(n Node) *dataplanev1.Settings {
	s := &dataplanev1.Settings{
		MaxConnections:        n.Connections.Max,
		MaxConnectionsPerPort: n.Connections.MaxPerPort,
		Vxlan:                 vxlan(n),
	}
	for _, r := range n.Routers {
		if r.Is4() {
			s.Ipv4 = r.String()
		} else {
			s.Ipv6 = r.String()
		}
	}
	if n.KubeProxyReplacement {
		for _, a := range n.ServiceSources {
			if a.Is4() {
				s.ServiceIpv4 = a.String()
			} else {
				s.ServiceIpv6 = a.String()
			}
		}
		for _, a := range n.HostAddresses {
			s.HostAddresses = append(s.HostAddresses, a.String())
		}
	}
	if t := n.Connections.Timeouts; t != (config.Timeouts{}) {
		seconds := func(d time.Duration) uint32 { return uint32(d / time.Second) }
		s.Timeouts = &dataplanev1.Timeouts{
			TcpEstablished: seconds(t.TCPEstablished), TcpOpening: seconds(t.TCPOpening), TcpClosing: seconds(t.TCPClosing),
			Udp: seconds(t.UDP), UdpStream: seconds(t.UDPStream), Icmp: seconds(t.ICMP), Other: seconds(t.Other), Fragment: seconds(t.Fragment),
		}
	}
	return s
}

// hostPort has the router addresses: what pods send to their gateway goes to
// the host's stack, which answers.
func hostPort(n Node) *dataplanev1.Port {
	p := &dataplanev1.Port{Name: HostPort, Kind: dataplanev1.Port_HOST, Ifname: n.HostInterface, Mtu: uint32(n.HostMTU)}
	for _, r := range n.Routers {
		p.Addresses = append(p.Addresses, r.String())
	}
	return p
}

// routes lead everything to the host but what pods' prefixes have no pod for:
// the host would send that straight back.
func routes(n Node) []*dataplanev1.Route {
	var rs []*dataplanev1.Route
	for _, r := range n.Routers {
		rs = append(rs, &dataplanev1.Route{Prefix: netip.PrefixFrom(r, 0).Masked().String(), Port: HostPort})
	}
	for _, p := range n.PodCIDRs {
		rs = append(rs, &dataplanev1.Route{Prefix: p.String()})
	}
	return rs
}

func podPort(a *attachment.Attachment, policies []string) *dataplanev1.Port {
	p := &dataplanev1.Port{
		Name: a.Port, Kind: dataplanev1.Port_POD, Ifname: a.IfName, Netns: a.NetNS, Mtu: uint32(a.MTU), Policies: policies,
		Tags: map[string]string{TagNamespace: a.Namespace, TagPod: a.Name, TagContainer: a.ContainerID, TagNetwork: a.Network},
	}
	for _, addr := range a.Addresses {
		p.Addresses = append(p.Addresses, addr.String())
	}
	return p
}

// Equal tells whether two snapshots say the same, whatever their revisions and
// the order of their lists.
func Equal(a, b *dataplanev1.Snapshot) bool {
	d := Diff(Sorted(a), Sorted(b))
	return Empty(d)
}

// Sorted returns the snapshot with its lists sorted by name.
func Sorted(s *dataplanev1.Snapshot) *dataplanev1.Snapshot {
	return &dataplanev1.Snapshot{
		Revision: s.GetRevision(), Settings: s.GetSettings(),
		Ports:           sorted(s.GetPorts(), (*dataplanev1.Port).GetName),
		Routes:          sorted(s.GetRoutes(), (*dataplanev1.Route).GetPrefix),
		AddressSets:     sorted(s.GetAddressSets(), (*dataplanev1.AddressSet).GetName),
		Policies:        sorted(s.GetPolicies(), (*dataplanev1.Policy).GetName),
		SourceNats:      sorted(s.GetSourceNats(), (*dataplanev1.SourceNat).GetName),
		DestinationNats: sorted(s.GetDestinationNats(), (*dataplanev1.DestinationNat).GetName),
	}
}

func sorted[T any](list []T, name func(T) string) []T {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return list
}

// Empty tells whether a delta changes nothing.
func Empty(d *dataplanev1.Delta) bool {
	e := &dataplanev1.Delta{BaseRevision: d.BaseRevision, Revision: d.Revision}
	return proto.Equal(d, e)
}
