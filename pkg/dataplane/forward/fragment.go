// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"time"

	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// A fragmented packet has its ports in the first fragment only. The table
// remembers the connection that the first one belongs to; the later ones follow it.
// A fragment that comes before its first one is dropped: TCP and UDP stacks
// send them in order, and holding packets for a stranger is how tables fill up.
type fragments struct {
	entries [fragmentSlots]fragment
}

const (
	fragmentSlots = 1024
	fragmentProbe = 8 // places that a packet may have
)

type fragment struct {
	src, dst packet.Addr
	id       uint32
	in       uint32
	proto    uint8 // IPv4
	live     bool
	done     bool  // the last fragment has passed; stragglers may still come
	lane     uint8 // that the packet belongs to
	ref      conntrack.Ref
	orig     packet.Tuple // of the connection's direction, to know it again
	expires  uint32
}

func (f *fragments) slot(info *packet.Info, n uint32) *fragment {
	h := info.Src.Lo ^ info.Dst.Lo*0x9e3779b97f4a7c15 ^ info.Src.Hi ^ info.Dst.Hi ^ uint64(info.FragID)<<16
	h *= 0xff51afd7ed558ccd
	return &f.entries[(uint32(h>>40)+n)%fragmentSlots]
}

// matches tells whether a fragment is of the same packet: by protocol only in
// IPv4 (RFC 791 section 3.2), as extension headers may stand between the first
// IPv6 fragment's header and its protocol (RFC 8200 section 4.5).
func (e *fragment) matches(info *packet.Info, in uint32) bool {
	return e.live && e.id == info.FragID && e.src == info.Src && e.dst == info.Dst && e.in == in &&
		(e.proto == info.Proto || info.Family == packet.IPv6)
}

func (e *fragment) expired(now uint32) bool { return int32(now-e.expires) >= 0 }

// older tells which of two entries was made first.
func (e *fragment) older(o *fragment) bool { return o == nil || int32(e.expires-o.expires) < 0 }

// add remembers the first fragment's connection, or the other lane that knows it;
// false if there is no room.
func (f *fragments) add(info *packet.Info, in uint32, ref conntrack.Ref, now uint32, timeout time.Duration, lane int) bool {
	e := f.room(info, in, now)
	if e == nil {
		return false
	}
	*e = fragment{
		src: info.Src, dst: info.Dst, id: info.FragID, in: in, proto: info.Proto, live: true, lane: uint8(lane),
		ref: ref, orig: info.Tuple, expires: now + uint32(timeout/time.Millisecond),
	}
	return true
}

// room is the place for a packet: the one that it has, a free one, or that of a
// packet whose last fragment has passed. If all are in use, who has most
// of them gives up his oldest, so that nobody can keep others out; nil if
// everyone has one.
func (f *fragments) room(info *packet.Info, in, now uint32) *fragment {
	var free, done *fragment
	for n := range uint32(fragmentProbe) {
		switch e := f.slot(info, n); {
		case e.matches(info, in):
			return e
		case !e.live || e.expired(now):
			free = e
		case e.done && e.older(done):
			done = e
		}
	}
	switch {
	case free != nil:
		return free
	case done != nil:
		return done
	}
	mine, mineOldest := f.share(info, in)
	var richest *fragment
	most := max(mine, 1)
	for n := range uint32(fragmentProbe) {
		if k, oldest := f.share(info, f.slot(info, n).in); k > most {
			most, richest = k, oldest
		}
	}
	if richest != nil {
		return richest
	}
	return mineOldest
}

// share is how many of a packet's places a port has, and its oldest.
func (f *fragments) share(info *packet.Info, in uint32) (count int, oldest *fragment) {
	for n := range uint32(fragmentProbe) {
		if e := f.slot(info, n); e.in == in {
			count++
			if e.older(oldest) {
				oldest = e
			}
		}
	}
	return count, oldest
}

// find returns what the first fragment of a later one's packet left, or nil.
func (f *fragments) find(info *packet.Info, in, now uint32) *fragment {
	for n := range uint32(fragmentProbe) {
		if e := f.slot(info, n); e.matches(info, in) && !e.expired(now) {
			return e
		}
	}
	return nil
}

// firstFragment notes where the others of the packet belong.
func (w *Worker) firstFragment(p *pkt, info *packet.Info, ref conntrack.Ref) Reason {
	if info.Proto == packet.ProtoSCTP && w.conns.Dir(ref).Flags&conntrack.FlagNAT != 0 {
		if to := w.conns.Dir(ref.Other()).Tuple().Reply(); to.SrcPort != info.SrcPort || to.DstPort != info.DstPort {
			return ReasonFragmentNAT
		}
	}
	if !w.frags.add(info, p.nb.IPort, ref, w.ms, w.tables.Settings.FragmentTimeout, w.lane) {
		return ReasonFragmentFull
	}
	if w.dry != nil {
		w.dry.say("fragment", "pass", "the first one of a packet; the others go its way")
	}
	return ReasonNone
}

// laterFragment forwards a fragment that is not the first one.
func (w *Worker) laterFragment(p *pkt, info *packet.Info) Reason {
	e := w.frags.find(info, p.nb.IPort, w.ms)
	if e == nil {
		return ReasonFragmentOrder
	}
	if w.dry != nil {
		w.dry.say("fragment", "pass", "it goes the way of its packet's first fragment")
	}
	if int(e.lane) != w.lane {
		if w.handed { // never back and forth, whatever was here before
			return ReasonFragmentOrder
		}
		e.done = e.done || !info.MoreFrags
		return w.handOver(p, info, int(e.lane))
	}
	key := conntrack.MakeKey(e.orig)
	ref := w.conns.Lookup(&key)
	if ref != e.ref || ref == conntrack.NoRef {
		return ReasonFragmentOrder // its connection is gone
	}
	if w.dry != nil {
		w.dry.connection(w.conns.Conn(ref), ref, 0)
	}
	switch keep, r := w.valid(p, ref); {
	case r != ReasonNone:
		return r
	case !keep:
		return ReasonFragmentOrder
	}
	e.done = e.done || !info.MoreFrags
	if info.TotalLen > uint32(w.conns.Dir(ref).MTU) {
		return w.oversize(p, info, ref)
	} else if w.dry != nil {
		w.dry.fits(info.TotalLen, w.conns.Dir(ref))
	}
	w.deliver(p, info, w.conns.Conn(ref), ref.Dir())
	return ReasonNone
}
