// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// ErrRevision is returned by Merge for a delta whose base is not the snapshot.
var ErrRevision = errors.New("the delta is of another revision: send a snapshot")

// Merge returns the snapshot that a delta makes of the base: deletions first,
// then additions, which replace what has the same name in its place or else are
// appended. The base is unchanged, and shares with the result what the delta does
// not name. A delta that contradicts itself is a *ValidationError; whether the
// result is valid is for ValidateUpdate to say.
func Merge(base *dataplanev1.Snapshot, d *dataplanev1.Delta) (*dataplanev1.Snapshot, error) {
	if base.GetRevision() != d.GetBaseRevision() {
		return nil, fmt.Errorf("%w (in force is %d, the delta's base is %d)", ErrRevision, base.GetRevision(), d.GetBaseRevision())
	}
	v := &validator{errors: &ValidationError{}}
	v.known("delta", d)
	if d.GetRevision() <= d.GetBaseRevision() {
		v.errors.add("delta.revision", "%d does not come after base_revision %d; count it up", d.GetRevision(), d.GetBaseRevision())
	}
	s := &dataplanev1.Snapshot{
		Revision:        d.GetRevision(),
		Settings:        base.GetSettings(),
		Ports:           merge(v, "ports", base.GetPorts(), d.GetPorts(), d.GetDeletePorts(), (*dataplanev1.Port).GetName),
		Routes:          merge(v, "routes", base.GetRoutes(), d.GetRoutes(), prefixKeys(d.GetDeleteRoutes()), routeKey),
		AddressSets:     merge(v, "address_sets", base.GetAddressSets(), d.GetAddressSets(), d.GetDeleteAddressSets(), (*dataplanev1.AddressSet).GetName),
		Policies:        merge(v, "policies", base.GetPolicies(), d.GetPolicies(), d.GetDeletePolicies(), (*dataplanev1.Policy).GetName),
		SourceNats:      merge(v, "source_nats", base.GetSourceNats(), d.GetSourceNats(), d.GetDeleteSourceNats(), (*dataplanev1.SourceNat).GetName),
		DestinationNats: merge(v, "destination_nats", base.GetDestinationNats(), d.GetDestinationNats(), d.GetDeleteDestinationNats(), (*dataplanev1.DestinationNat).GetName),
	}
	if d.Settings != nil {
		s.Settings = d.Settings
	}
	if err := v.errors.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// merge makes a list of the base. It is the base itself if nothing changes,
// which is how Build knows.
func merge[T any](v *validator, list string, base, upsert []T, drop []string, name func(T) string) []T {
	if len(upsert) == 0 && len(drop) == 0 {
		return base
	}
	gone := make(map[string]bool, len(drop))
	for _, n := range drop {
		gone[n] = true
	}
	fresh := make(map[string]int, len(upsert))
	for i, m := range upsert {
		n := name(m)
		if first, ok := fresh[n]; ok {
			v.errors.add(place("delta.%s[%d]", list, i), "%s is also delta.%s[%d]; name it once", quote(n), list, first)
		}
		fresh[n] = i
	}
	out := make([]T, 0, len(base)+len(upsert))
	used := make([]bool, len(upsert))
	for _, m := range base {
		n := name(m)
		if gone[n] {
			continue
		}
		if i, ok := fresh[n]; ok {
			m = upsert[i]
			used[i] = true
		}
		out = append(out, m)
	}
	for i, m := range upsert {
		if !used[i] {
			out = append(out, m)
		}
	}
	return out
}

// routeKey is a route's prefix in the one form that equal prefixes have.
func routeKey(r *dataplanev1.Route) string { return prefixKey(r.GetPrefix()) }

func prefixKey(s string) string {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked().String()
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	return s
}

func prefixKeys(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = prefixKey(s)
	}
	return out
}
