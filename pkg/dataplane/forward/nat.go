// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math"
	"math/bits"
	"slices"

	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// destinationNAT sends a connection to a service address on to a backend.
func destinationNAT(w *Worker, f *flow) Reason {
	n := f.tables.DestinationNAT(f.orig.Dst, f.orig.Proto, f.orig.DstPort)
	if n == nil {
		f.moved = f.keep && (f.kept.Dst != f.orig.Dst || f.kept.DstPort != f.orig.DstPort)
		return ReasonNone
	}
	f.dnat = n
	if len(n.Backends) == 0 {
		return ReasonNoBackend
	}
	// A connection stays with its backend while the service has it.
	if f.keep && slices.ContainsFunc(n.Backends, func(b config.Backend) bool { return b.Addr == f.kept.Dst && b.Port == f.kept.DstPort }) {
		f.out.Dst, f.out.DstPort = f.kept.Dst, f.kept.DstPort
	} else {
		b := choose(n, f.orig)
		f.out.Dst, f.out.DstPort = b.Addr, b.Port
		f.moved = f.keep
	}
	if f.trace != nil {
		f.trace(step{stage: "destination NAT", verdict: "pass", rule: n.Name, detail: "to backend " + f.out.Dst.String()})
	}
	return ReasonNone
}

// choose picks a backend by weighted rendezvous hashing: a backend that comes
// or goes moves its own share of connections only. With affinity the client's
// address alone decides.
func choose(n *config.DestinationNAT, t packet.Tuple) *config.Backend {
	client := mix(t.Src.Hi, t.Src.Lo)
	if !n.Affinity {
		client = mix(client, uint64(t.SrcPort)<<16|uint64(t.DstPort))
	}
	weighted := slices.ContainsFunc(n.Backends, func(b config.Backend) bool { return b.Weight != n.Backends[0].Weight })
	best := &n.Backends[0]
	most, score := uint64(0), math.Inf(-1)
	for i := range n.Backends {
		b := &n.Backends[i]
		h := scramble(client ^ mix(b.Addr.Hi^uint64(b.Port), b.Addr.Lo))
		if !weighted {
			if h >= most {
				most, best = h, b
			}
			continue
		}
		// The largest of k draws from (0, 1) is distributed as the k-th root of one:
		// compare log(u)/k.
		u := (float64(h>>11) + 0.5) / (1 << 53)
		if s := math.Log(u) / float64(b.Weight); s > score {
			score, best = s, b
		}
	}
	return best
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd6e8feb86659fd93)
	return hi ^ lo
}

// scramble makes neighbours independent (the finalizer of SplitMix64): the
// backends of a service have addresses in a row.
func scramble(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
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
	if isHairpin(f) {
		// A pod that reaches itself through a service must not see its own
		// address as the source, or it would answer itself directly.
		service := [1]packet.Addr{f.orig.Dst}
		return w.translateSource(f, "hairpin", service[:], ownFirstPort, ownLastPort)
	}
	if f.keep && f.kept.Src == f.orig.Src {
		f.out.SrcPort = f.kept.SrcPort // see keepApart
	}
	return ReasonNone
}

func isHairpin(f *flow) bool { return f.toID == f.inID && f.dnat != nil && f.in.Pod }

// keepApart gives a connection another source port: without, its answers
// would look like those of a connection that is there already. That happens when a
// client uses the same port for a service's address and for its backend's.
// Where a rule chooses the port, another lane has just taken it, and the rule
// chooses again.
func (w *Worker) keepApart(f *flow) Reason {
	if isHairpin(f) || f.tables.SourceNAT(f.orig.Src, f.out.Dst, f.toID) != nil {
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
	h := mix(f.orig.Src.Hi, f.orig.Src.Lo)
	for i := range addresses {
		f.out.Src = addresses[(h+uint64(i))%uint64(len(addresses))]
		if w.freePort(f, first, last) {
			if f.trace != nil {
				f.trace(step{stage: "source NAT", verdict: "pass", rule: name, detail: "from " + f.out.Src.String()})
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
	start := uint32(mix(uint64(f.orig.SrcPort)<<16|uint64(f.orig.DstPort), f.orig.Src.Lo^f.orig.Dst.Lo)) % span
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
