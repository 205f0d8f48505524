// SPDX-License-Identifier: Apache-2.0

// Package forward is the virtual router: workers that take packets from the
// InQ of a NetIO device, decide, and put them on the OutQ.
//
//	InQ ─> vector: open, prepare, find ──known flow──> pass ─────────────┬─> OutQ
//	                    │                               (NAT, hop, count) │
//	                    └── all else ──> slow: parse, source, fragment,   │
//	                          ICMP error, connection: known or judged ────┤
//	                          by the stages                               │
//	                             destination NAT ─> route ─> egress policy│
//	                             ─> ingress policy ─> source NAT ─────────┘
//
// The first packet of a flow goes through the stages and leaves a connection
// with a flow entry per direction; the others take one lookup and the recorded
// rewrite. New tables (package config) carry a new generation: a flow entry of an
// older one is judged anew when its next packet comes, so a change reaches
// established connections too.
//
// One worker per lane, no locks and no allocation per packet. Whoever else
// wants to see a worker's state asks it between two vectors (Worker.Do).
package forward
