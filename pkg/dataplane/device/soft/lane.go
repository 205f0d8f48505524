// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/ring"
)

// Sizes of a service round. Large packets are moved a few at a time: the bytes
// that a round reads are written out by the next one while they are still in
// the second-level cache.
const (
	txBatch      = 128       // OutQ entries validated, then sent, at a time
	txRounds     = 8         // batches per Kick at most
	maxChain     = 64        // nbufs of one packet
	rxBatch      = 256       // packets per Kick at most
	rxPortBatch  = 64        // packets per port and Kick at most
	rxRoundBytes = 128 << 10 // bytes per Kick at most
	yieldEvery   = 2         // idle Kicks
)

// lane is the device's side of one lane. mu is held by Kick and by control
// operations; what it guards is otherwise the worker's alone.
type lane struct {
	mu     sync.Mutex
	waitMu sync.Mutex // held during Wait, so that Close can wait for its end
	d      *Device
	id     int
	base   unsafe.Pointer // the nbufs
	dl     *abi.DLane
	pl     *abi.PLane
	ls     *laneState

	// OutQ
	out      ring.Reader
	more     bool   // entries were left for the next Kick
	replay   bool   // the entries are those of an owner that is dead
	overlong uint32 // action of a chain that was refused for its length, in its middle
	ents     [txBatch]uint32
	segs     [txBatch]segment
	descs    [txBatch]txDesc
	nd       int
	merged   merged
	cut      cut
	iov      [maxChain + 3]iovec
	parts    [maxChain + 1]iovec // of a packet that is cut

	// InQ
	in     inq
	rx     []uint32           // entries to be published on the own InQ
	away   [][]uint32         // by lane: entries for the others, nil with one lane
	rxLeft int                // packets that this round may still read
	now    uint64             // of this round
	chain  [chainNbufs]uint32 // nbufs to read a whole packet into
	grants []uint32           // entries of GRANT and FETCHED
	events events

	// ports
	hot       []*port
	next      int // where the round robin begins
	harvested uint64
	epfd      int
	wakefd    int
	epev      [64]unix.EpollEvent
	timeout   unix.Timespec // of epoll

	nbufs pool
	slots pool

	found bool // this Kick has moved something
	idle  uint // Kicks in a row that have not

	calls     uint64        // system calls so far
	callsSeen atomic.Uint64 // the same, for others
}

// nbuf is the memory of nbuf i, which has been checked.
func (l *lane) nbuf(i uint32) unsafe.Pointer {
	return unsafe.Add(l.base, uintptr(i)*abi.NbufSize)
}

// service is one Kick: the OutQ first, which gives nbufs and slots back, then
// the TUNs, then events. It tells whether it is time to let others run.
func (l *lane) service() (idle bool) {
	l.found = false
	l.serviceOutQ()
	l.poll()
	if l.events.pending.Load() {
		l.publishEvents()
	}
	l.callsSeen.Store(l.calls)
	if l.found {
		l.idle = 0
		return false
	}
	l.idle++
	return l.idle%yieldEvery == 0
}
