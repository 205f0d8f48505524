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
	fragmentProbe = 8
)

type fragment struct {
	src, dst packet.Addr
	id       uint32
	in       uint32
	proto    uint8
	live     bool
	ref      conntrack.Ref
	orig     packet.Tuple // of the connection's direction, to know it again
	expires  uint32
}

func (f *fragments) slot(info *packet.Info, n uint32) *fragment {
	h := info.Src.Lo ^ info.Dst.Lo*0x9e3779b97f4a7c15 ^ info.Src.Hi ^ info.Dst.Hi ^ uint64(info.FragID)<<16
	h *= 0xff51afd7ed558ccd
	return &f.entries[(uint32(h>>40)+n)%fragmentSlots]
}

func (e *fragment) matches(info *packet.Info, in uint32) bool {
	return e.live && e.id == info.FragID && e.src == info.Src && e.dst == info.Dst && e.proto == info.Proto && e.in == in
}

// add remembers the first fragment's connection; false if there is no room.
func (f *fragments) add(info *packet.Info, in uint32, ref conntrack.Ref, now uint32, timeout time.Duration) bool {
	var free *fragment
	for n := range uint32(fragmentProbe) {
		e := f.slot(info, n)
		if e.matches(info, in) {
			free = e
			break
		}
		if free == nil && (!e.live || int32(now-e.expires) >= 0) {
			free = e
		}
	}
	if free == nil {
		return false
	}
	*free = fragment{
		src: info.Src, dst: info.Dst, id: info.FragID, in: in, proto: info.Proto, live: true,
		ref: ref, orig: info.Tuple, expires: now + uint32(timeout/time.Millisecond),
	}
	return true
}

// find returns what the first fragment of a later one's packet left, or nil.
func (f *fragments) find(info *packet.Info, in, now uint32) *fragment {
	for n := range uint32(fragmentProbe) {
		if e := f.slot(info, n); e.matches(info, in) && int32(now-e.expires) < 0 {
			return e
		}
	}
	return nil
}

// laterFragment forwards a fragment that is not the first one.
func (w *Worker) laterFragment(p *pkt, info *packet.Info) Reason {
	e := w.frags.find(info, p.nb.IPort, w.ms)
	if e == nil {
		return ReasonFragmentOrder
	}
	key := conntrack.MakeKey(e.orig)
	ref := w.conns.Lookup(&key)
	if ref != e.ref || ref == conntrack.NoRef || w.conns.Dir(ref).Gen != w.gen || w.conns.Dir(ref).In != p.nb.IPort {
		return ReasonFragmentOrder // the connection is gone or must be judged anew
	}
	d := w.conns.Dir(ref)
	if info.TotalLen > uint32(d.MTU) {
		return w.oversize(p, info, ref)
	}
	w.deliver(p, info, w.conns.Conn(ref), ref.Dir())
	return ReasonNone
}
