// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"fmt"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Explain tells what would become of the first packet of a flow: it goes
// through the same stages, and leaves nothing behind.
func (f *Forwarder) Explain(ctx context.Context, req *dataplanev1.ExplainRequest) (*dataplanev1.ExplainResponse, error) {
	tuple, err := parseTuple(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	res := &dataplanev1.ExplainResponse{Verdict: "allow"}
	err = f.workers[0].Do(ctx, func() {
		w := f.workers[0]
		fl := flow{tables: w.tables, orig: tuple, trace: func(s step) {
			res.Steps = append(res.Steps, &dataplanev1.ExplainStep{Stage: s.stage, Verdict: s.verdict, Rule: s.rule, Detail: s.detail})
		}}
		if !w.explain(&fl) {
			res.Verdict = "deny"
		}
	})
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return res, nil
}

// explain judges what would be a flow's first packet, if it comes from the port
// where packets from its source come from.
func (w *Worker) explain(f *flow) bool {
	in, ok := senderOf(f.tables, f.orig.Src)
	if !ok {
		f.trace(step{stage: "ingress port", verdict: "drop", detail: "no port has the source " + f.orig.Src.String() + ", and no route leads to it"})
		return false
	}
	f.inID, f.in = in, f.tables.Port(in)
	f.trace(step{stage: "ingress port", verdict: "pass", detail: f.in.Name})
	drop := func(stage string, r Reason) bool {
		f.trace(step{stage: stage, verdict: "drop", detail: r.Description()})
		return false
	}
	local := w.isLocal(f)
	if opens(f.orig, packet.TCPSyn) && !local {
		return w.judge(f) == ReasonNone
	}
	// What route does without the stages.
	if r := antiSpoofing(w, f); r != ReasonNone {
		return drop("anti-spoofing", r)
	}
	if !local {
		return drop("connection", ReasonNoConnection)
	}
	f.out = f.orig
	if r := egressPolicy(w, f); r != ReasonNone {
		return drop("egress policy", r)
	}
	f.trace(step{stage: "router", verdict: "allow", detail: "the router answers it itself"})
	return true
}

// parseTuple checks a request. Errors name the field.
func parseTuple(req *dataplanev1.ExplainRequest) (t packet.Tuple, err error) {
	p := req.GetTuple()
	src, err := parseAddress("tuple.src", p.GetSrc())
	if err != nil {
		return t, err
	}
	dst, err := parseAddress("tuple.dst", p.GetDst())
	if err != nil {
		return t, err
	}
	if src.Is4() != dst.Is4() {
		return t, fmt.Errorf("tuple: source and destination are of different IP versions: %s and %s", src, dst)
	}
	for _, n := range []struct {
		field    string
		got, max uint32
	}{
		{"tuple.protocol", p.GetProtocol(), 255}, {"tuple.src_port", p.GetSrcPort(), 65535}, {"tuple.dst_port", p.GetDstPort(), 65535},
		{"icmp_type", req.GetIcmpType(), 255}, {"icmp_code", req.GetIcmpCode(), 255},
	} {
		if n.got > n.max {
			return t, fmt.Errorf("%s is %d; expected 0 to %d", n.field, n.got, n.max)
		}
	}
	t = packet.Tuple{Src: src, Dst: dst, Proto: uint8(p.GetProtocol()), SrcPort: uint16(p.GetSrcPort()), DstPort: uint16(p.GetDstPort())}
	switch t.Proto {
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if (t.Proto == packet.ProtoICMP) != src.Is4() {
			return t, fmt.Errorf("tuple.protocol is %d; ICMP is %d with IPv4 and %d with IPv6 addresses", t.Proto, packet.ProtoICMP, packet.ProtoICMPv6)
		}
		t.DstPort = uint16(req.GetIcmpType()<<8 | req.GetIcmpCode())
	}
	return t, nil
}

func parseAddress(field, s string) (packet.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return packet.Addr{}, fmt.Errorf("%s is %q; expected an IP address such as 10.0.0.7 or fd00::7", field, s)
	}
	return packet.AddrFrom(a), nil
}
