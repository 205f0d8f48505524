// SPDX-License-Identifier: Apache-2.0

package forward

// findRoute chooses the egress port by the longest prefix.
func findRoute(w *Worker, f *flow) Reason {
	id, ok := f.tables.Route(f.out.Dst)
	if !ok {
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
