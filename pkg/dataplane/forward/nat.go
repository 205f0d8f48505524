// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math/bits"

	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/packet"
)

// destinationNAT sends a connection to a service address on to a backend.
func destinationNAT(w *Worker, f *flow) Reason {
	n := f.tables.DestinationNAT(f.orig.Dst, f.orig.Proto, f.orig.DstPort)
	if n == nil {
		return ReasonNone
	}
	f.dnat = n
	if len(n.Backends) == 0 {
		return ReasonNoBackend
	}
	b := n.Backends[0]
	if f.keep {
		// A connection stays with its backend while the service has it.
		for _, k := range n.Backends {
			if k.Addr == f.kept.Dst && k.Port == f.kept.DstPort {
				b = k
				break
			}
		}
	}
	if !f.keep || b.Addr != f.kept.Dst || b.Port != f.kept.DstPort {
		b = choose(n, f.orig)
	}
	f.out.Dst, f.out.DstPort = b.Addr, b.Port
	f.say(step{stage: "destination NAT", verdict: "pass", rule: n.Name, detail: "to backend " + b.Addr.String()})
	return ReasonNone
}

// choose picks a backend by weighted rendezvous hashing: a backend that comes
// or goes moves its own share of connections only. With affinity the client's
// address alone decides.
func choose(n *config.DestinationNAT, t packet.Tuple) config.Backend {
	client := mix(t.Src.Hi, t.Src.Lo)
	if !n.Affinity {
		client = mix(client, uint64(t.SrcPort)<<16|uint64(t.DstPort))
	}
	best, at := uint64(0), 0
	for i, b := range n.Backends {
		// The largest of weight draws is what a backend of weight 1 would have
		// with as many copies of itself.
		for k := range max(b.Weight, 1) {
			if h := mix(client, b.Addr.Hi^bits.RotateLeft64(b.Addr.Lo, 17)^uint64(b.Port)<<40^uint64(k)<<8); h >= best {
				best, at = h, i
			}
		}
	}
	return n.Backends[at]
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd6e8feb86659fd93)
	return hi ^ lo
}

// natTries is how many source ports of an address are tried for a connection.
const natTries = 128

// sourceNAT gives a connection that leaves by a port a source address, and a
// source port that no other connection to the same destination has.
func sourceNAT(w *Worker, f *flow) Reason {
	n := f.tables.SourceNAT(f.orig.Src, f.out.Dst, f.toID)
	if n == nil {
		// A pod that reaches itself through a service must not see its own
		// address as the source, or it would answer itself directly.
		if f.toID == f.inID && f.dnat != nil && f.in.Pod {
			return w.translateSource(f, hairpin(f))
		}
		return ReasonNone
	}
	return w.translateSource(f, n)
}

// hairpin is the rule that hides a pod from itself behind the service address.
func hairpin(f *flow) *config.SourceNAT {
	return &config.SourceNAT{Name: "hairpin", Addresses: []packet.Addr{f.orig.Dst}, FirstPort: 1024, LastPort: 65535}
}

func (w *Worker) translateSource(f *flow, n *config.SourceNAT) Reason {
	if f.keep && f.kept.Src != f.orig.Src {
		for _, a := range n.Addresses {
			if a == f.kept.Src {
				f.out.Src, f.out.SrcPort = f.kept.Src, f.kept.SrcPort
				return ReasonNone
			}
		}
	}
	h := mix(f.orig.Src.Hi, f.orig.Src.Lo)
	for i := range n.Addresses {
		f.out.Src = n.Addresses[(h+uint64(i))%uint64(len(n.Addresses))]
		if w.freePort(f, n) {
			f.say(step{stage: "source NAT", verdict: "pass", rule: n.Name, detail: "from " + f.out.Src.String()})
			return ReasonNone
		}
	}
	return ReasonNATExhausted
}

// freePort looks for a source port (or ICMP identifier) that makes the answer's
// tuple unique: the connection's own one, then from a place that differs by flow.
func (w *Worker) freePort(f *flow, n *config.SourceNAT) bool {
	icmp := f.out.Proto == packet.ProtoICMP || f.out.Proto == packet.ProtoICMPv6
	span := uint32(n.LastPort) - uint32(n.FirstPort) + 1
	start := uint32(mix(uint64(f.orig.SrcPort)<<16|uint64(f.orig.DstPort), f.orig.Src.Lo^f.orig.Dst.Lo)) % span
	for try := range uint32(natTries) {
		port := f.orig.SrcPort
		switch {
		case try > 0 && !icmp && !packet.HasPorts(f.out.Proto):
			return false // nothing to choose from
		case try > 0 || !icmp && packet.HasPorts(f.out.Proto) && (port < n.FirstPort || port > n.LastPort):
			port = n.FirstPort + uint16((start+try)%span)
		}
		f.out.SrcPort = port
		key := conntrack.MakeKey(f.out.Reply())
		if w.conns.Lookup(&key) == conntrack.NoRef {
			return true
		}
	}
	return false
}
