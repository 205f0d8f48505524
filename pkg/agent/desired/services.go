// SPDX-License-Identifier: Apache-2.0

package desired

import "netio.dev/netio/pkg/service"

// compileServices tells the compiler of services what changed since the last state.
func (b *Builder) compileServices(s State) {
	b.services.SetNode(service.Node{Name: s.Node.Name, Zone: s.Node.Zone})
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
