// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// Errors that callers decide on; test with errors.Is. Their messages name the
// address, pool or owner concerned.
var (
	// ErrExhausted: no pool of a family has a free address. If addresses are
	// cooling down, [RetryAfter] tells when the first is free.
	ErrExhausted = errors.New("no free address")
	// ErrInUse: a requested address is leased by another owner, who is named.
	ErrInUse = errors.New("address in use")
	// ErrCooling: a requested address was given back too recently; [RetryAfter]
	// tells when it is free.
	ErrCooling = errors.New("address cooling down")
	// ErrNotInPool: a requested address lies in no pool.
	ErrNotInPool = errors.New("address not in a pool")
	// ErrReserved: a requested address is in a pool but never leased: network
	// or broadcast address, or reserved by the caller.
	ErrReserved = errors.New("address reserved")
	// ErrOtherLease: the owner holds a lease without the addresses requested now.
	ErrOtherLease = errors.New("owner holds another lease")
	// ErrInvalid: a pool, reservation, owner or requested address is malformed.
	ErrInvalid = errors.New("invalid")
	// ErrCorrupt: the database cannot be read.
	ErrCorrupt = errors.New("database corrupt")
	// ErrLocked: another process has the database open.
	ErrLocked = errors.New("database in use by another process")
	// ErrVersion: a newer program wrote the database.
	ErrVersion = errors.New("database version not supported")
	// ErrClosed: the allocator has been closed.
	ErrClosed = errors.New("allocator closed")
)

// coolingError is an ErrExhausted or ErrCooling that goes away by itself.
type coolingError struct {
	sentinel error
	what     string
	wait     time.Duration
}

func (e *coolingError) Error() string {
	return fmt.Sprintf("%v: %s, next free in %d s", e.sentinel, e.what, wholeSeconds(e.wait))
}

func (e *coolingError) Unwrap() error { return e.sentinel }

// wholeSeconds rounds up, so that who waits that long does not come too early.
func wholeSeconds(d time.Duration) int64 {
	return int64(math.Ceil(d.Seconds()))
}

// RetryAfter tells how long after err the same request can work, for an
// ErrExhausted or ErrCooling that will pass as addresses cool down.
func RetryAfter(err error) (wait time.Duration, ok bool) {
	var c *coolingError
	if !errors.As(err, &c) {
		return 0, false
	}
	return c.wait, true
}

func family(a netip.Addr) string { return familyName(a.Is4()) }

func familyName(is4 bool) string {
	if is4 {
		return "IPv4"
	}
	return "IPv6"
}
