// SPDX-License-Identifier: Apache-2.0

// Package observe carries what the forwarder's workers see to the people who
// watch: verdicts (Monitor) and packets (Capture). It is made so that watching
// never slows forwarding, and not watching costs one load.
//
//	worker 0 ── Worker.Emit ──> ring ──┐                ┌─> queue ── Monitor stream
//	worker 1 ── Worker.Emit ──> ring ──┴─ hub: filter, ─┴─> queue ── Monitor stream
//	                                      names
//
//	worker 0 ── Tap.Deliver ──> byte ring ──┐
//	worker 1 ── Tap.Deliver ──> byte ring ──┴─ Session.Next ── Capture stream
//
// Every ring has one writer, the worker, and one reader. A full ring, a full
// queue or a rate above the bound loses records, never waits, and counts what
// was lost; the count travels with the next record that gets through. Readers
// look at the rings by timer, and only while somebody watches, so a worker
// never makes a system call for an observer.
package observe

import "errors"

var (
	// ErrClosed is returned to a stream whose source has been shut down.
	ErrClosed = errors.New("observation has been shut down")
	// ErrPortGone is returned to a capture whose port has been removed.
	ErrPortGone = errors.New("the captured port has been removed")
	// ErrNoPort is returned for a capture of a port that is not there.
	ErrNoPort = errors.New("no such port")
	// ErrBusy is returned when there are as many streams as are allowed.
	ErrBusy = errors.New("too many streams at once; end one of them")
	// ErrFilter is wrapped by errors about a filter's fields.
	ErrFilter = errors.New("filter")
)
