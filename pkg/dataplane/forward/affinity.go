// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"slices"
	"sync"
	"time"

	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/hash"
	"netio.dev/netio/pkg/dataplane/packet"
)

// maxAffinities bounds how many clients are remembered. Those beyond it have a
// backend by their address alone, another one now and then.
const maxAffinities = 1 << 16

// affinities remember which backends clients of services with affinity have, for
// all workers. A client that is not known gets one by its address and the time,
// in turns as long as the affinity lasts: also after a restart it is mostly the one
// that it had.
type affinities struct {
	mu     sync.Mutex
	known  map[affinityKey]affinity
	sweeps uint32 // when those that have ended were last looked for
}

type affinityKey struct {
	client, service packet.Addr
	port            uint16
	proto           uint8
}

type affinity struct {
	addr   packet.Addr
	port   uint16
	seen   uint32 // ms, when the client opened its last connection
	expiry uint32 // ms after seen
}

func (a affinity) ended(now uint32) bool { return now-a.seen > a.expiry }

// backend is a client's backend at a time in ms of the connection table's clock.
// Unless it is to be kept, nothing is remembered.
func (a *affinities) backend(n *config.DestinationNAT, choice *config.Choice, t packet.Tuple, now uint32, keep bool) *config.Backend {
	key := affinityKey{client: t.Src, service: t.Dst, port: t.DstPort, proto: t.Proto}
	lasts := uint32(n.Affinity / time.Millisecond)
	a.mu.Lock()
	defer a.mu.Unlock()
	was, known := a.known[key]
	i := -1
	if known && !was.ended(now) {
		i = slices.IndexFunc(choice.Backends, func(b config.Backend) bool { return b.Addr == was.addr && b.Port == was.port })
	}
	b := &choice.Backends[max(i, 0)]
	if i < 0 {
		b = choice.Pick(hash.Mix(hash.Mix(t.Src.Hi, t.Src.Lo), uint64(now/lasts)))
	}
	if keep && (known || a.room(now)) {
		a.known[key] = affinity{b.Addr, b.Port, now, lasts}
	}
	return b
}

// room makes room for one more. It looks for what has ended once a second at most.
func (a *affinities) room(now uint32) bool {
	if a.known == nil {
		a.known = map[affinityKey]affinity{}
	}
	if len(a.known) < maxAffinities {
		return true
	}
	if now-a.sweeps < 1000 {
		return false
	}
	a.sweeps = now
	for key, of := range a.known {
		if of.ended(now) {
			delete(a.known, key)
		}
	}
	return len(a.known) < maxAffinities
}
