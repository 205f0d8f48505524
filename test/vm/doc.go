// SPDX-License-Identifier: Apache-2.0

// Package vm boots real kernels, with netio.ko and programs of the host's choice,
// and runs the programs there.
//
//	host                                      machine (QEMU without KVM, or UML)
//	Boot ── kernel, initramfs ──────────────> /init (test/vm/guest)
//	Machine.Run, Insert, Remove ── control ─> programs, modules
//	kernel's log <───────── console ───────── printk
//	Check: warnings, KASAN, lockdep, leaks
//
// The initramfs holds all that the machine has: init, modules of the kernel,
// and the Files of the Config. Machines are joined by Wires.
//
// hack/kernels.sh and hack/debug-kernels.sh say what kernels there are.
package vm
