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

type namespaced interface {
	comparable
	GetNamespace() string
	GetName() string
}

// each calls set for objects that are new or others than they were, and gone for
// those that are not there any more.
func each[T namespaced](was, now map[string]T, set func(T), gone func(namespace, name string)) {
	for key, o := range was {
		if _, ok := now[key]; !ok {
			gone(o.GetNamespace(), o.GetName())
		}
	}
	for name, o := range now {
		if was[name] != o {
			set(o)
		}
	}
}
