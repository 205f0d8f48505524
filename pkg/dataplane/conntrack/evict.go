// SPDX-License-Identifier: Apache-2.0

package conntrack

// How room is made. Two bounds hold: connections per port, and in all. A port
// at its own bound pays with its own connections. When the table is full, the
// port that has most among a few sampled connections pays, and only
// if it has more than the one who asks, or gives something worthless: so a
// port that floods evicts itself, and never an established connection of a
// port that has fewer.

const (
	evictSamples = 16 // connections looked at to find who has most
	evictDepth   = 32 // of a port's oldest connections that are looked at
)

// makeRoom leaves at least one slab entry for owner.
func (t *Table) makeRoom(owner, now uint32) error {
	mine := t.PortLen(owner)
	if mine >= t.limit {
		switch {
		case t.evictFrom(owner, now, false):
			return nil
		case t.limit == len(t.slab): // there is no bound but the table's
			return ErrFull
		}
		return ErrPortFull
	}
	if t.live < len(t.slab) {
		return nil
	}
	richest, most := owner, mine
	for range evictSamples {
		t.sampler = t.sampler*1664525 + 1013904223
		o := t.slab[uint64(t.sampler)*uint64(len(t.slab))>>32].Owner
		if n := t.PortLen(o); n > most {
			richest, most = o, n
		}
	}
	if t.evictFrom(richest, now, richest != owner) || richest != owner && t.evictFrom(owner, now, false) {
		return nil
	}
	return ErrFull
}

// evictFrom forgets one of a port's oldest connections: an expired one, one that is
// closing or was never answered, else with force the one idle for longest.
func (t *Table) evictFrom(port, now uint32, force bool) bool {
	if t.PortLen(port) == 0 {
		return false
	}
	victim, idle := nilConn, uint32(0)
	i := t.ports[port].first
	for n := 0; n < evictDepth && i != nilConn; n++ {
		c := &t.slab[i]
		if c.Expired(now) || c.State != StateEstablished && c.State != StateSynReceived {
			t.Delete(Ref(i << 1))
			return true
		}
		if d := now - c.Seen; victim == nilConn || d > idle {
			victim, idle = i, d
		}
		i = c.next
	}
	if !force || victim == nilConn {
		return false
	}
	t.Delete(Ref(victim << 1))
	return true
}
