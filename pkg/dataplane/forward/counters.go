// SPDX-License-Identifier: Apache-2.0

package forward

import "netio.dev/netio/pkg/dataplane/config"

// PortCounters count one port's packets in one worker. A GSO packet counts as
// one. They belong to the worker's goroutine.
type PortCounters struct {
	RxPackets, RxBytes uint64 // from the port
	TxPackets, TxBytes uint64 // to the port
	Drops              [ReasonCount]uint64

	errors limiter // of ICMP errors to the port
}

// Stats of a worker. They belong to its goroutine.
type Stats struct {
	RxPackets, RxBytes uint64
	TxPackets, TxBytes uint64
	Vectors            uint64 // turns that found packets
	Polls              uint64 // turns that found none
	Sleeps             uint64
	Kicks              uint64
	SlowPath           uint64 // packets without a valid flow entry
	DeviceDrops        uint64 // told by the device on the InQ
	BadEntries         uint64 // InQ entries that made no sense
}

// counters of a port, made on first use: a port that no configuration names
// any more may still have packets on the way.
func (w *Worker) counters(id uint32) *PortCounters {
	if c := w.known(id); c != nil {
		return c
	}
	return w.newCounters(id)
}

// known returns counters that have been made, else nil. It is small enough to be
// inlined.
func (w *Worker) known(id uint32) *PortCounters {
	if i := int(id); i < len(w.ports) {
		return w.ports[i]
	}
	return nil
}

func (w *Worker) newCounters(id uint32) *PortCounters {
	if id >= w.tunnels+config.MaxTunnels {
		id = 0 // what is of no port
	}
	if n := int(id) + 1; n > len(w.ports) {
		w.ports = append(w.ports, make([]*PortCounters, n-len(w.ports))...)
	}
	if w.ports[id] == nil {
		w.ports[id] = new(PortCounters)
	}
	return w.ports[id]
}

// forgetAtATime bounds how long a removed port's connections hold up packets.
const forgetAtATime = 1024

// forget drops what there is of a port that has been removed: a port that gets
// its number begins with nothing. Its drops count on as those of no port, so that
// the sum over all ports never falls.
func (w *Worker) forget(id uint32) {
	if c := w.known(id); c != nil && id != 0 {
		w.ports[id] = nil
		gone := w.counters(0)
		for r, n := range c.Drops {
			gone.Drops[r] += n
		}
	}
	w.forgetConns(id, w.conns.PortLen(id))
}

// forgetConns forgets the oldest n connections of a port, a part of them now.
func (w *Worker) forgetConns(id uint32, n int) {
	n -= w.conns.DeletePort(id, min(n, forgetAtATime))
	if n > 0 {
		w.mail.put(func() { w.forgetConns(id, n) })
	}
}
