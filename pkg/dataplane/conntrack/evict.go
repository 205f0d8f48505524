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
	v, err := t.victim(owner, now, nilConn, &t.sampler)
	if v != nilConn {
		t.Delete(Ref(v << 1))
	}
	return err
}

// victim is the connection that makes room for one of owner, nilConn if there is
// room, as if connection gone, if any, had been forgotten. It changes nothing but
// the sampler.
func (t *Table) victim(owner, now, gone uint32, sampler *uint32) (uint32, error) {
	mine := t.portLen(owner, gone)
	if mine >= t.limit {
		v := t.victimOf(owner, now, gone, false)
		switch {
		case v != nilConn:
			return v, nil
		case t.limit == len(t.slab): // there is no bound but the table's
			return nilConn, ErrFull
		}
		return nilConn, ErrPortFull
	}
	if t.live < len(t.slab) || gone != nilConn {
		return nilConn, nil
	}
	richest, most := owner, mine
	for range evictSamples {
		*sampler = *sampler*1664525 + 1013904223
		o := t.slab[uint64(*sampler)*uint64(len(t.slab))>>32].Owner
		if n := t.PortLen(o); n > most {
			richest, most = o, n
		}
	}
	v := t.victimOf(richest, now, gone, richest != owner)
	if v == nilConn && richest != owner {
		v = t.victimOf(owner, now, gone, false)
	}
	if v == nilConn {
		return nilConn, ErrFull
	}
	return v, nil
}

// portLen is PortLen without connection gone.
func (t *Table) portLen(port, gone uint32) int {
	n := t.PortLen(port)
	if gone != nilConn && t.slab[gone].Owner == port {
		n--
	}
	return n
}

// victimOf is one of a port's oldest connections but gone: an expired one, one that
// is closing or was never answered, else with force the one idle for longest.
func (t *Table) victimOf(port, now, gone uint32, force bool) uint32 {
	if t.PortLen(port) == 0 {
		return nilConn
	}
	victim, idle := nilConn, uint32(0)
	i := t.ports[port].first
	for n := 0; n < evictDepth && i != nilConn; i = t.slab[i].next {
		if i == gone {
			continue
		}
		n++
		c := &t.slab[i]
		if c.Expired(now) || c.state != StateEstablished && c.state != StateSynReceived {
			return i
		}
		if d := now - c.Seen(); victim == nilConn || d > idle {
			victim, idle = i, d
		}
	}
	if !force {
		return nilConn
	}
	return victim
}
