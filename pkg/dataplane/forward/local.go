// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/observe"
	"netio.dev/netio/pkg/dataplane/packet"
)

// isLocal tells of a ping to the router. Where a port has the router's address,
// as the host has in a cluster, that port answers.
func (w *Worker) isLocal(f *flow) bool {
	t := &f.orig
	family := uint8(packet.IPv6)
	if t.Dst.Is4() {
		family = packet.IPv4
	}
	if t.Dst != f.tables.Settings.Router(family) || !t.IsICMPRequest() || t.DstPort>>8 != echoType(t.Proto) {
		return false
	}
	id, ok := f.tables.Route(t.Dst)
	port := f.tables.Port(id)
	return !ok || port == nil || !port.Owns(t.Dst)
}

func echoType(proto uint8) uint16 {
	if proto == packet.ProtoICMPv6 {
		return 128 // RFC 4443 section 4.1
	}
	return 8 // RFC 792
}

// local answers a ping to the router, if the sender's policies let it through.
func (w *Worker) local(p *pkt, info *packet.Info, f *flow) Reason {
	f.out = f.orig
	if r := egressPolicy(w, f); r != ReasonNone {
		return r
	}
	verdict := observe.Allow
	if f.audit {
		verdict = observe.Audit
	}
	w.report(p, info, f, verdict, ReasonNone)
	partial := p.nb.Flags&abi.NbCsumPartial != 0 && info.IsPartial(p.nb.CsumStart, p.nb.CsumOffset)
	if !packet.EchoReply(p.data, info, partial) {
		return ReasonMartian
	}
	if w.dry != nil {
		w.dry.local = true
		w.dry.say("router", "allow", "the router answers it itself")
	}
	in := w.counters(p.nb.IPort)
	in.RxPackets++
	in.RxBytes += uint64(p.nb.Total)
	w.emit(p, p.nb.IPort)
	return ReasonNone
}
