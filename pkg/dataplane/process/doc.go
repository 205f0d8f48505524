// SPDX-License-Identifier: Apache-2.0

// Package process runs the forwarder as two processes, so that one may crash:
//
//	supervisor ── starts, watches, restarts ──> worker (attaches, forwards,
//	    │                                         serves the control socket)
//	    └─ keeps the soft device's memory and interfaces while no worker lives;
//	       of the kernel device the kernel does
//
// The supervisor does next to nothing, so that nothing can go wrong in it. A new
// worker takes the device over with rings, buffers and interfaces as they are,
// maps the connection table, loads the last configuration, and only then asks
// for anything else.
package process
