// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/route"
)

// compiledRoute is a route of the snapshot, in its place in the list.
type compiledRoute struct {
	config *dataplanev1.Route
	route.Entry
}

// buildRoutes makes the trie of that of prev. change is what became of the
// ports' own addresses, which win over a route of the same prefix.
func (t *Tables) buildRoutes(prev *Tables, change hostRoutes) {
	list := t.snapshot.GetRoutes()
	t.via = make([]compiledRoute, len(list))
	for i, r := range list {
		if i < len(prev.via) && prev.via[i].config == r {
			t.via[i] = prev.via[i]
		} else if p, why := parsePrefix(r.GetPrefix()); why == "" {
			t.via[i] = compiledRoute{r, route.Entry{Prefix: p}}
		}
		t.via[i].Value = 0 // unreachable
		if r.GetPort() != "" {
			if p := t.byName[r.GetPort()]; p != nil {
				t.via[i].Value = p.ID
			}
		}
	}
	remove, insert := t.changedRoutes(prev)
	remove, insert = append(remove, change.remove...), append(insert, change.insert...)
	t.routes = prev.routes.Update(remove, append(insert, t.contested(prev, remove, insert)...))
}

// changedRoutes are the routes that are no more, and those that are new or lead
// elsewhere.
func (t *Tables) changedRoutes(prev *Tables) (remove []netip.Prefix, insert []route.Entry) {
	if sameSlice(t.snapshot.GetRoutes(), prev.snapshot.GetRoutes()) {
		for i := range t.via {
			if t.via[i].Value != prev.via[i].Value {
				insert = append(insert, t.via[i].Entry)
			}
		}
		return nil, insert
	}
	was := make(map[netip.Prefix]uint32, len(prev.via))
	for i := range prev.via {
		was[prev.via[i].Prefix] = prev.via[i].Value
	}
	for i := range t.via {
		e := t.via[i].Entry
		if v, ok := was[e.Prefix]; !ok || v != e.Value {
			insert = append(insert, e)
		}
		delete(was, e.Prefix)
	}
	for p := range was {
		remove = append(remove, p)
	}
	return remove, insert
}

// contested settles what is or was both an address and the prefix of a route:
// it gives the entries of those changed prefixes that a route or a port still
// has, the port's last.
func (t *Tables) contested(prev *Tables, remove []netip.Prefix, insert []route.Entry) []route.Entry {
	single := func(r compiledRoute) bool { return r.Prefix.IsSingleIP() }
	if !slices.ContainsFunc(t.via, single) && !slices.ContainsFunc(prev.via, single) {
		return nil
	}
	changed := make(map[netip.Prefix]bool, len(remove)+len(insert))
	for _, p := range remove {
		changed[p] = true
	}
	for _, e := range insert {
		changed[e.Prefix] = true
	}
	var out []route.Entry
	for i := range t.via {
		if single(t.via[i]) && changed[t.via[i].Prefix] {
			out = append(out, t.via[i].Entry)
		}
	}
	for _, p := range t.ports {
		if p == nil {
			continue
		}
		for _, a := range p.addrs {
			if prefix := hostPrefix(a); changed[prefix] {
				out = append(out, route.Entry{Prefix: prefix, Value: p.routeValue()})
			}
		}
	}
	return out
}
