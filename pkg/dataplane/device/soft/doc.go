// SPDX-License-Identifier: Apache-2.0

// Package soft is the NetIO device in user space: the default where the kernel
// module cannot be loaded. It has the same shared memory, in a memfd, and
// services it over TUN interfaces, inline in the calls of the lane's worker
// (feature SELF_SERVICE).
//
//	pod A                    this process                      pod B
//	eth0 ── TUN fd ──readv──> nbuf + parked slot
//	                           │ RX entry        TX entry
//	                           └──> InQ ─ worker ─ OutQ ──writev──> TUN fd ── eth0
//
// A packet's first 1850 bytes are read into an nbuf, with the TUN's
// virtio-net header right in front of them, the rest of a larger one into a
// parked slot of private memory. Sending gathers both; nothing is copied in
// between.
package soft
