// SPDX-License-Identifier: Apache-2.0

// Package kernel is the NetIO device of the kernel module netio, behind
// /dev/netio. The module has the rings and services them; this package opens
// and maps them, sleeps and wakes, and makes interfaces.
//
//	worker of lane 0 ── fd 0 ─┐  KICK, poll      ┌───────────┐
//	worker of lane 1 ── fd 1 ─┼─ SELECT_LANE ──> │  instance │── knets in
//	ports ── fd 0: ioctls ────┘                  │           │   network namespaces
//	      └─ rtnetlink: RTM_NEWLINK kind knet ─> └───────────┘
//	area: [0, plane_off) read-only, the rest read-write
//
// An instance belongs to the network namespace that /dev/netio was opened in. It
// and its ports outlive the process: the next owner attaches to them.
// kmod/include/uapi/linux/netio.h is the definition of all of it.
package kernel
