// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Diff returns what leads from one snapshot to another, both sorted. Its
// revisions are not set.
func Diff(old, new *dataplanev1.Snapshot) *dataplanev1.Delta {
	d := &dataplanev1.Delta{}
	if !proto.Equal(nonNil(old.GetSettings()), nonNil(new.GetSettings())) {
		d.Settings = nonNil(new.GetSettings())
	}
	d.Ports, d.DeletePorts = diff(old.GetPorts(), new.GetPorts(), (*dataplanev1.Port).GetName)
	d.Routes, d.DeleteRoutes = diff(old.GetRoutes(), new.GetRoutes(), (*dataplanev1.Route).GetPrefix)
	d.AddressSets, d.DeleteAddressSets = diff(old.GetAddressSets(), new.GetAddressSets(), (*dataplanev1.AddressSet).GetName)
	d.Policies, d.DeletePolicies = diff(old.GetPolicies(), new.GetPolicies(), (*dataplanev1.Policy).GetName)
	d.SourceNats, d.DeleteSourceNats = diff(old.GetSourceNats(), new.GetSourceNats(), (*dataplanev1.SourceNat).GetName)
	d.DestinationNats, d.DeleteDestinationNats = diff(old.GetDestinationNats(), new.GetDestinationNats(), (*dataplanev1.DestinationNat).GetName)
	return d
}

func nonNil(s *dataplanev1.Settings) *dataplanev1.Settings {
	if s == nil {
		return &dataplanev1.Settings{}
	}
	return s
}

// diff merges two lists that are sorted by name. Messages that are shared are
// equal without a look at them.
func diff[T interface {
	comparable
	proto.Message
}](old, new []T, name func(T) string) (upserts []T, deletes []string) {
	for len(old) > 0 || len(new) > 0 {
		order := 0
		switch {
		case len(new) == 0:
			order = -1
		case len(old) == 0:
			order = 1
		default:
			order = strings.Compare(name(old[0]), name(new[0]))
		}
		switch {
		case order < 0:
			deletes, old = append(deletes, name(old[0])), old[1:]
		case order > 0:
			upserts, new = append(upserts, new[0]), new[1:]
		default:
			if old[0] != new[0] && !proto.Equal(old[0], new[0]) {
				upserts = append(upserts, new[0])
			}
			old, new = old[1:], new[1:]
		}
	}
	return upserts, deletes
}

// WithoutRemade returns old without the ports that new has as another
// interface, and what leads to them: a port's interface, namespace and MTU
// cannot change, so that such ports must be taken away before they are made
// anew. It returns nil if there are none.
func WithoutRemade(old, new *dataplanev1.Snapshot) *dataplanev1.Snapshot {
	remade := map[string]bool{}
	kept := slices.Clone(old.GetPorts())
	for _, n := range new.GetPorts() {
		i, ok := slices.BinarySearchFunc(old.GetPorts(), n.GetName(), func(p *dataplanev1.Port, name string) int {
			return strings.Compare(p.GetName(), name)
		})
		if !ok {
			continue
		}
		if o := old.Ports[i]; o.GetIfname() != n.GetIfname() || o.GetNetns() != n.GetNetns() || o.GetMtu() != n.GetMtu() {
			remade[n.GetName()] = true
		}
	}
	if len(remade) == 0 {
		return nil
	}
	return &dataplanev1.Snapshot{
		Settings:    old.GetSettings(),
		Ports:       slices.DeleteFunc(kept, func(p *dataplanev1.Port) bool { return remade[p.GetName()] }),
		Routes:      slices.DeleteFunc(slices.Clone(old.GetRoutes()), func(r *dataplanev1.Route) bool { return remade[r.GetPort()] }),
		AddressSets: old.GetAddressSets(),
		Policies:    old.GetPolicies(),
		SourceNats: slices.DeleteFunc(slices.Clone(old.GetSourceNats()), func(n *dataplanev1.SourceNat) bool {
			return remade[n.GetOutPort()]
		}),
		DestinationNats: old.GetDestinationNats(),
	}
}
