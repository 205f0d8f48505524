// SPDX-License-Identifier: Apache-2.0

// Package ipam leases addresses of both IP families from given prefixes and
// remembers the leases across crashes and power cuts.
//
//	Lease(owner) ──> memory: bitmap of each pool, holders, cooling
//	                    │ decides                    ▲ rebuilt at Open
//	                    v                            │
//	                 one bbolt transaction ──fsync──> leases.db
//	                    │ only then
//	                    v
//	                 the caller is told
//
// An owner is an attachment: network, container and interface (see [Owner]).
// It holds one address of each family that has pools, or the addresses that it
// asked for. Asking again gives the same addresses. What an owner gives back
// cools down before anybody can have it, so that packets and connections of
// the old pod do not meet a new one.
//
// # What survives
//
// Each change is one bbolt transaction, committed with fdatasync of the data
// and then of the page that makes it valid, before the method returns; a new
// database appears under its name only when it is whole, and its directory is
// synced. So whatever a caller was told is on disk, and a kill or power cut
// between any two instructions leaves the state before or after the change,
// never one between. (A disk that lies about its cache can break this.) A
// lease whose caller died before it heard the answer is on disk: the retry
// gets it, or [Allocator.GC] takes it back.
//
// After a failed commit the outcome on disk is unknown, so memory is thrown
// away and read again from the database before the next operation.
//
// # Which address comes next
//
// The search goes on behind the address that the pool gave last (next fit; the
// place is kept in the database), so an address comes round again as late as
// possible. Of several pools of one family the first that has a free address
// serves. Never leased are the network's address (IPv4 network, IPv6
// subnet-router anycast), the IPv4 broadcast address, and what the caller
// reserved; /31, /32, /127 and /128 have no such addresses (RFC 3021, RFC 6164).
//
// The search costs time in proportion to the used addresses divided by 4096 at
// worst, whatever the size of the pool; memory likewise.
//
// # Blocks
//
// Pools with a name consist of blocks that come and go while the allocator is in
// use ([Allocator.SetBlocks]). Leases do not depend on them: what lies in no pool or
// block stays leased, cools down as all else, and is in its block again when that
// comes back.
//
// # Clocks
//
// While the process runs cool-down is measured by the monotonic clock and
// jumps of the wall clock do not touch it. Across restarts only the wall clock
// is there. If it went back, an address cools at most one whole cool-down from
// Open on, never for years; if it jumped forward, cool-down ends early, which
// cannot be told from a long stop.
package ipam
