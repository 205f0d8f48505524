// SPDX-License-Identifier: Apache-2.0

package forward

import "fmt"

// findRoute chooses the egress port by the longest prefix.
func findRoute(w *Worker, f *flow) Reason {
	id, ok := f.tables.Route(f.out.Dst)
	if !ok {
		if f.trace != nil {
			f.trace(step{stage: "route", verdict: "none", detail: f.whyNoRoute()})
		}
		return ReasonNoRoute
	}
	f.toID, f.to = id, f.tables.Port(id)
	if f.to == nil {
		return ReasonNoRoute
	}
	if id == f.inID && f.dnat == nil {
		return ReasonLoop
	}
	if f.trace != nil {
		prefix, _ := f.tables.Match(f.out.Dst)
		f.trace(step{stage: "route", verdict: "pass", detail: prefix.String() + " to port " + f.to.Name})
	}
	return ReasonNone
}

// whyNoRoute says why no route leads to the destination.
func (f *flow) whyNoRoute() string {
	if prefix, ok := f.tables.Match(f.out.Dst); ok {
		return fmt.Sprintf("no port has %s, and %s is unreachable but for what ports have", f.out.Dst, prefix)
	}
	return fmt.Sprintf("no route matches %s", f.out.Dst)
}
