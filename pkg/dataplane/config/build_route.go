// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/route"
)

// compiledRoute is a route of the snapshot, in its place in the list.
type compiledRoute struct {
	config *dataplanev1.Route
	route.Entry
}

// buildRoutes makes the trie of that of prev: change is what became of the
// ports' addresses, which no route repeats.
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
	remove, insert := change.remove, change.insert
	if sameSlice(list, prev.snapshot.GetRoutes()) {
		for i := range t.via {
			if t.via[i].Value != prev.via[i].Value {
				insert = append(insert, t.via[i].Entry)
			}
		}
	} else {
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
	}
	t.routes = prev.routes.Update(remove, insert)
}
