// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"net/netip"
	"slices"

	"netio.dev/netio/pkg/service"
)

// ServiceNode is the node as package service sees it.
func (n Node) ServiceNode() service.Node {
	return service.Node{
		Name: n.Name, Zone: n.Zone, Proxy: n.KubeProxyReplacement, ExternalIPs: n.ExternalIPs,
		Addresses: slices.DeleteFunc(slices.Clone(n.HostAddresses), func(a netip.Addr) bool { return slices.Contains(n.Routers, a) }),
		Sources:   n.ServiceSources, Others: n.NodeAddresses,
	}
}

// compileServices tells the compiler of services what changed since the last state.
func (b *Builder) compileServices(s State) {
	b.services.SetNode(s.Node.ServiceNode())
	was, now := b.last.Cluster, s.Cluster
	if was == now {
		return
	}
	none := &Cluster{}
	if was == nil {
		was = none
	}
	if now == nil {
		now = none
	}
	each(was.Services, now.Services, b.services.SetService, b.services.DeleteService)
	each(was.EndpointSlices, now.EndpointSlices, b.services.SetSlice, b.services.DeleteSlice)
}
