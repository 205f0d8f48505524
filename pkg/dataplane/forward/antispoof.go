// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"

	"netio.dev/netio/pkg/dataplane/packet"
)

// antiSpoofing lets a pod send from its own addresses only, another node from what
// the route to it is for, and the host from everything but a pod's (RFC 2827 at the
// first hop).
func antiSpoofing(w *Worker, f *flow) Reason {
	if r := checkAddresses(f.orig.Src, f.orig.Dst); r != ReasonNone {
		return r
	}
	if !f.sourceOK(f.orig.Src) {
		return ReasonSpoofed
	}
	if f.trace != nil {
		f.trace(step{stage: "anti-spoofing", verdict: "pass", detail: f.whySource(f.orig.Src)})
	}
	return ReasonNone
}

// sourceOK tells whether f's ingress port may send from an address.
func (f *flow) sourceOK(src packet.Addr) bool {
	if f.in.Pod {
		return f.in.Owns(src)
	}
	if f.in.Tunnel != nil {
		id, _ := f.tables.Route(src)
		return id == f.inID
	}
	_, owned := f.tables.OwnerOf(src)
	return !owned
}

// whySource says why sourceOK is true.
func (f *flow) whySource(src packet.Addr) string {
	switch {
	case f.in.Pod:
		return fmt.Sprintf("%s is an address of port %s", src, f.in.Name)
	case f.in.Tunnel != nil:
		prefix, _ := f.tables.Match(src)
		return fmt.Sprintf("%s is in %s, which is routed to port %s", src, prefix, f.in.Name)
	}
	return fmt.Sprintf("%s is no pod's, and port %s may send from all others", src, f.in.Name)
}

// checkAddresses refuses what no router forwards (RFC 1812 section 5.3.7, RFC
// 4291 section 2.5). 169.254.0.0/16 is forwarded as Linux does: metadata and
// name services live there.
func checkAddresses(src, dst packet.Addr) Reason {
	switch {
	case dst.IsMulticast() || dst.IsReserved4():
		return ReasonMulticast
	case !src.IsUnicast(), !dst.IsUnicast(), linkLocal6(src), linkLocal6(dst):
		return ReasonMartian
	}
	return ReasonNone
}

func linkLocal6(a packet.Addr) bool { return !a.Is4() && a.IsLinkLocal() }
