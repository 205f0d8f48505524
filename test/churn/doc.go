// SPDX-License-Identifier: Apache-2.0

// Package churn tests that NetIO leaves nothing behind. On a host of its own
// (see test/internal/sandbox) it counts all that NetIO holds, adds and removes
// pods in a loop as container runtimes do, in order and not, while processes are
// killed, and counts again:
//
//	count ──> workers: ADD, traffic, DEL or no DEL ──> GC ──> settle ──> count
//	          events:  SIGKILL of worker, supervisor,
//	                   agent; GC between
//
// The tests are all that is in it.
package churn
