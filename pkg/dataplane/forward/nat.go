// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"slices"

	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/hash"
	"netio.dev/netio/pkg/dataplane/packet"
)

// destinationNAT sends a connection to a service address on to a backend.
func destinationNAT(w *Worker, f *flow) Reason {
	n := f.tables.DestinationNAT(f.orig.Dst, f.orig.Proto, f.orig.DstPort)
	if n == nil {
		if f.tables.IsService(f.orig.Dst) {
			return ReasonNoBackend // of another port
		}
		f.moved = f.keep && (f.kept.Dst != f.orig.Dst || f.kept.DstPort != f.orig.DstPort)
		return ReasonNone
	}
	f.dnat = n
	host := !f.in.Pod && f.tables.Settings.IsHost(f.orig.Src)
	if !host && !n.Takes(f.orig.Src) {
		return ReasonServiceSource
	}
	choice := &n.Choice
	if n.External != nil && !f.in.Pod && !host {
		choice = n.External
	}
	switch {
	case len(choice.Backends) > 0:
	case choice.Silent:
		return ReasonNoLocalBackend
	default:
		return ReasonNoBackend
	}
	// A connection stays with its backend while the service has it.
	if f.keep && slices.ContainsFunc(choice.Backends, func(b config.Backend) bool { return b.Addr == f.kept.Dst && b.Port == f.kept.DstPort }) {
		f.out.Dst, f.out.DstPort = f.kept.Dst, f.kept.DstPort
	} else {
		b := w.backend(n, choice, f)
		f.out.Dst, f.out.DstPort = b.Addr, b.Port
		f.moved = f.keep
	}
	if f.trace != nil {
		f.trace(step{stage: "destination NAT", verdict: "pass", rule: n.Name, detail: f.whyBackend(len(choice.Backends))})
	}
	return ReasonNone
}

// whyBackend tells of the choice among n backends.
func (f *flow) whyBackend(n int) string {
	s := "to backend " + end(f.out.Dst, f.out.Proto, f.out.DstPort)
	if n == 1 {
		return s + ", the only one"
	}
	s += fmt.Sprintf(", one of %d", n)
	switch {
	case f.keep && !f.moved:
		return s + ", which the connection has had"
	case f.dnat.Affinity != 0:
		return s + ", by the client's affinity"
	}
	return s
}

// backend picks a backend for a connection.
func (w *Worker) backend(n *config.DestinationNAT, choice *config.Choice, f *flow) *config.Backend {
	if n.Affinity == 0 {
		return choice.Pick(hash.Mix(hash.Mix(f.orig.Src.Hi, f.orig.Src.Lo), uint64(f.orig.SrcPort)<<16|uint64(f.orig.DstPort)))
	}
	return w.affinity.backend(n, choice, f.orig, w.ms, f.trace == nil)
}

// natTries is how many source ports of an address are tried for a connection.
const natTries = 128

// Source ports for a connection that is translated without a rule.
const (
	ownFirstPort = 1024
	ownLastPort  = 65535
)

// sourceNAT gives a connection that leaves by a port a source address, and a
// source port that no other connection to the same destination has.
func sourceNAT(w *Worker, f *flow) Reason {
	if n := f.tables.SourceNAT(f.orig.Src, f.out.Dst, f.toID); n != nil {
		return w.translateSource(f, n.Name, n.Addresses, n.FirstPort, n.LastPort)
	}
	if a, name := returnAddress(f); name != "" {
		source := [1]packet.Addr{a}
		return w.translateSource(f, name, source[:], ownFirstPort, ownLastPort)
	}
	if f.keep && f.kept.Src == f.orig.Src {
		f.out.SrcPort = f.kept.SrcPort // see keepApart
	}
	return ReasonNone
}

// returnAddress is the source that a connection to a service's backend must have to
// come back here, and a name for that; "" for any other one. A pod that reaches
// itself must not see its own address, or it would answer itself directly; and
// what host and tunnels bring for a backend elsewhere would be answered past here.
func returnAddress(f *flow) (packet.Addr, string) {
	six := !f.orig.Dst.Is4()
	switch {
	case f.dnat == nil:
		return packet.Addr{}, ""
	case f.in.Pod && f.toID == f.inID:
		return f.orig.Dst, "hairpin"
	case f.in.Pod, f.to.Pod, f.toID != f.inID && f.in.Tunnel == nil && f.to.Tunnel == nil:
		return packet.Addr{}, ""
	case f.to.Tunnel != nil && f.tables.Settings.IsHost(f.orig.Src), f.to.Tunnel == nil && f.in.Tunnel != nil && f.tables.Settings.IsHost(f.out.Dst):
		return packet.Addr{}, "" // it comes back as it is
	case f.to.Tunnel != nil && f.tables.VXLAN.Source(six) != packet.Addr{}:
		return f.tables.VXLAN.Source(six), "service"
	}
	if a := f.tables.Settings.ServiceSource(six); a != (packet.Addr{}) {
		return a, "service"
	}
	return packet.Addr{}, ""
}

// keepApart gives a connection another source port: without, its answers
// would look like those of a connection that is there already. That happens when a
// client uses the same port for a service's address and for its backend's.
// Where a rule chooses the port, another lane has just taken it, and the rule
// chooses again.
func (w *Worker) keepApart(f *flow) Reason {
	if _, name := returnAddress(f); name != "" || f.tables.SourceNAT(f.orig.Src, f.out.Dst, f.toID) != nil {
		return sourceNAT(w, f)
	}
	own := [1]packet.Addr{f.out.Src}
	return w.translateSource(f, "keep apart", own[:], ownFirstPort, ownLastPort)
}

func (w *Worker) translateSource(f *flow, name string, addresses []packet.Addr, first, last uint16) Reason {
	if f.keep && slices.Contains(addresses, f.kept.Src) {
		f.out.Src, f.out.SrcPort = f.kept.Src, f.kept.SrcPort
		return ReasonNone
	}
	h := hash.Mix(f.orig.Src.Hi, f.orig.Src.Lo)
	for i := range addresses {
		f.out.Src = addresses[(h+uint64(i))%uint64(len(addresses))]
		if w.freePort(f, first, last) {
			if f.trace != nil {
				f.trace(step{stage: "source NAT", verdict: "pass", rule: name, detail: "from " + end(f.out.Src, f.out.Proto, f.out.SrcPort)})
			}
			return ReasonNone
		}
	}
	return ReasonNATExhausted
}

// freePort looks for a source port (or ICMP identifier) that makes the answer's
// tuple unique: the connection's own one, then from a place that differs by flow.
func (w *Worker) freePort(f *flow, first, last uint16) bool {
	icmp := f.out.Proto == packet.ProtoICMP || f.out.Proto == packet.ProtoICMPv6
	span := uint32(last) - uint32(first) + 1
	start := uint32(hash.Mix(uint64(f.orig.SrcPort)<<16|uint64(f.orig.DstPort), f.orig.Src.Lo^f.orig.Dst.Lo)) % span
	for try := range uint32(natTries) {
		port := f.orig.SrcPort
		switch {
		case try > 0 && !icmp && !packet.HasPorts(f.out.Proto):
			return false // nothing to choose from
		case try > 0 || !icmp && packet.HasPorts(f.out.Proto) && (port < first || port > last):
			port = first + uint16((start+try)%span)
		}
		f.out.SrcPort = port
		key := conntrack.MakeKey(f.out.Reply())
		if w.unused(&key) {
			return true
		}
	}
	return false
}
