// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Delta leads from one Result to another. Its fields but Endpoints and
// DeleteEndpoints are those of the forwarder's Delta message; a port has more to
// it than its policies, so that its message is the caller's to write.
type Delta struct {
	Policies          []*dataplanev1.Policy
	AddressSets       []*dataplanev1.AddressSet
	DeletePolicies    []string
	DeleteAddressSets []string
	// Endpoints that are new or whose policies changed.
	Endpoints       []EndpointPolicies
	DeleteEndpoints []string
}

// Empty reports whether there is nothing to do.
func (d *Delta) Empty() bool {
	return len(d.Policies)+len(d.AddressSets)+len(d.DeletePolicies)+len(d.DeleteAddressSets)+
		len(d.Endpoints)+len(d.DeleteEndpoints) == 0
}

// Diff returns what leads from old to new. Results of one Compiler share what
// did not change, which makes the comparison cheap.
func Diff(old, new Result) Delta {
	var d Delta
	d.Policies, d.DeletePolicies = diff(old.Policies, new.Policies, (*dataplanev1.Policy).GetName,
		func(a, b *dataplanev1.Policy) bool { return a == b || proto.Equal(a, b) })
	d.AddressSets, d.DeleteAddressSets = diff(old.AddressSets, new.AddressSets, (*dataplanev1.AddressSet).GetName,
		func(a, b *dataplanev1.AddressSet) bool { return a == b || proto.Equal(a, b) })
	d.Endpoints, d.DeleteEndpoints = diff(old.Endpoints, new.Endpoints, func(e EndpointPolicies) string { return e.ID },
		func(a, b EndpointPolicies) bool { return slices.Equal(a.Policies, b.Policies) })
	return d
}

// diff merges two lists that are sorted by name.
func diff[T any](old, new []T, name func(T) string, equal func(a, b T) bool) (upserts []T, deletes []string) {
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
			if !equal(old[0], new[0]) {
				upserts = append(upserts, new[0])
			}
			old, new = old[1:], new[1:]
		}
	}
	return upserts, deletes
}
