// SPDX-License-Identifier: Apache-2.0

// Package policy makes the forwarder's tables out of policies: NetIO's own kinds, and
// those of Kubernetes, which are translated in the terms of NetIO's.
//
//	policies ────┐                 ┌─> policies: rules that name address sets
//	endpoints ───┼──> Compile ─────┼─> address sets: one per distinct selector
//	namespaces ──┤    (Compiler)   └─> endpoint -> names of its policies
//	node ────────┘                                  │
//	                                old Result ──> Diff ──> Delta
//
// Their rules stand in one list for each endpoint and direction, by tiers:
//
//	Admin      NetIOClusterPolicy, ClusterNetworkPolicy
//	Normal     NetIOPolicy, NetIOClusterPolicy, NetworkPolicy; what they close
//	Baseline   NetIOClusterPolicy, ClusterNetworkPolicy
//
// Rules hold selectors only by the name of an address set, and equal selectors
// share one set under a name that is derived from what they say. So the coming
// and going of a pod changes a few address sets and no rule, and the same state
// always gives the same tables.
//
// Compile is a pure function of a State. Compiler gives the same Result and is
// told what changed: that costs microseconds to milliseconds where Compile costs
// the whole. Package oracle beside it says slowly and plainly what the tables
// must mean; the tests hold one against the other.
package policy
