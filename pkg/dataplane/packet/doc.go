// SPDX-License-Identifier: Apache-2.0

// Package packet reads and rewrites IP packets in place, by their headers
// alone: the payload may be parked in the device and is never needed, except
// where a function says "whole packet".
//
//	nbuf bytes b                                          parked
//	|<------------------ len(b) ------------------->|
//	+-----------+--------------+-----------+--------+- - - - - - - +
//	| IP header | ext. headers | L4 header | payload               |
//	+-----------+--------------+-----------+--------+- - - - - - - +
//	0                          L4Off       HdrLen                   TotalLen
//
// Parse fills an Info; everything that rewrites takes the bytes and the Info
// that Parse made of them and relies on the bounds that Parse has checked.
// Checksums are updated incrementally (RFC 1624), both complete ones and those
// that the device is still to complete (CSUM_PARTIAL).
//
// Nothing here allocates, keeps a reference to its arguments, or panics on
// any input bytes. All functions are safe for concurrent use on different
// packets.
package packet
