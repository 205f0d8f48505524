// SPDX-License-Identifier: Apache-2.0

// Package config is the model between what the forwarder is told (a Snapshot
// and its Deltas, package dataplanev1) and what its workers use (Tables).
//
//	Delta ──Merge──> Snapshot ──Validate──> ok ──Build──> Tables ──> workers
//	                     │                          ^
//	                     └── Save, Load: the file   └── Tables before: what has
//	                         for the next start         not changed is used again
//
// Snapshots and their messages are values: nothing here changes one, and none
// may be changed after it has been given to Merge or Build, because the next
// snapshot and the tables share its parts. What is unchanged is recognised by that.
// Everything but Save and Load is a pure function.
package config
