// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func (b *bed) trace(req *dataplanev1.TraceRequest) (res *dataplanev1.TraceResponse, err error) {
	b.Helper()
	b.ask(func() { res, err = b.f.Trace(b.Context(), req) })
	return res, err
}

// traced asks about a packet that a port brings, "": the one that its source belongs
// to.
func (s spec) traced(port string) *dataplanev1.TraceRequest {
	return &dataplanev1.TraceRequest{Port: port, What: &dataplanev1.TraceRequest_Packet{Packet: s.bytes()}}
}

// lines are a response's stages, and what leaves, in short.
func lines(res *dataplanev1.TraceResponse) string {
	var list []string
	for _, s := range res.GetStages() {
		list = append(list, strings.TrimSpace(s.GetStage()+" "+s.GetVerdict()+" "+s.GetRule()))
	}
	for _, p := range res.GetSent() {
		t := p.GetTuple()
		list = append(list, fmt.Sprintf("%s: %s > %s", p.GetPort(), t.GetSrc(), t.GetDst()))
	}
	return strings.Join(list, "\n")
}

// TestTrace names the stages of packets of every kind. That they are true is
// foretold's to say, of each packet that a test of this package sends.
func TestTrace(t *testing.T) {
	snap := podNet(services, masquerade, sets, narrow(1400),
		policy("out", "a", all(isolateEgress, egressRule("b", allow, "set-b"), egressRule("world", allow, "world"))),
		policy("watch", "b", all(isolateIngress, audited)))
	const (
		first   = "ingress port pass\nheaders pass\nanti-spoofing pass\n"
		opening = first + "hop limit pass\nconnection new\n"
	)
	for name, c := range map[string]struct {
		s       spec
		port    string
		known   []string // ports that bring it, before
		verdict string
		reason  Reason
		want    string
	}{
		"to a pod": {s: udp("10.0.0.1", "10.0.0.2"), verdict: "forwarded", want: opening +
			"route pass\negress policy allow out/b\ningress policy audit isolation by watch\nMTU pass\ntransmit sent\nb: 10.0.0.1 > 10.0.0.2"},
		"to a service": {s: udp("10.0.0.1", "10.96.0.1").with(func(s *spec) { s.dport = 80 }), verdict: "forwarded", want: opening +
			"destination NAT pass svc-10.96.0.1-17\nroute pass\negress policy allow out/b\ningress policy audit isolation by watch\nMTU pass\nrewrite pass\ntransmit sent\nb: 10.0.0.1 > 10.0.0.2"},
		"masqueraded": {s: tcp("10.0.0.1", "198.51.100.7", packet.TCPSyn), verdict: "forwarded", want: opening +
			"route pass\negress policy allow out/world\ningress policy open\nsource NAT pass masq4\nMTU pass\nrewrite pass\ntransmit sent\nhost: 192.0.2.1 > 198.51.100.7"},
		"denied": {s: udp("10.0.0.1", "10.0.0.3"), verdict: "dropped", reason: ReasonPolicyEgress, want: opening +
			"route pass\negress policy deny isolation by out\negress policy drop"},
		"of a known connection": {s: udp("10.0.0.1", "10.0.0.2"), known: []string{"a"}, verdict: "forwarded", want: "ingress port pass\nheaders pass\nconnection known isolation by watch\nMTU pass\ntransmit sent\nb: 10.0.0.1 > 10.0.0.2"},
		"an answer to nothing": {s: echo("10.0.0.1", "10.0.0.2", 1).answer(), verdict: "dropped", reason: ReasonNoConnection, want: first +
			"hop limit pass\nconnection new\nconnection drop"},
		"spoofed": {s: udp("10.0.0.9", "10.0.0.2"), port: "a", verdict: "dropped", reason: ReasonSpoofed, want: "ingress port pass\nheaders pass\nanti-spoofing drop"},
		"no route": {s: udp("10.0.0.2", "10.0.0.99"), verdict: "dropped", reason: ReasonNoRoute, want: opening +
			"route none\nroute drop\nICMP error sent\ntransmit sent\nb: 10.0.0.254 > 10.0.0.2"},
		"no hops left": {s: udp("10.0.0.2", "10.0.0.3").with(func(s *spec) { s.ttl = 1 }), verdict: "dropped", reason: ReasonTTL, want: first +
			"hop limit drop\nICMP error sent\ntransmit sent\nb: 10.0.0.254 > 10.0.0.2"},
		"too big": {s: udp("10.0.0.3", "10.0.0.2").with(func(s *spec) { s.size, s.df = 1450, true }), verdict: "dropped", reason: ReasonTooBig, want: opening +
			"route pass\negress policy open\ningress policy audit isolation by watch\nMTU drop\nICMP error sent\ntransmit sent\nc: 10.0.0.254 > 10.0.0.3"},
		"cut": {s: udp("10.0.0.3", "10.0.0.2").with(func(s *spec) { s.size = 1450 }), verdict: "forwarded", want: opening +
			"route pass\negress policy open\ningress policy audit isolation by watch\nMTU cut\ntransmit sent\ntransmit sent\nb: 10.0.0.3 > 10.0.0.2\nb: 10.0.0.3 > 10.0.0.2"},
		"ping to the router": {s: echo("10.0.0.3", "10.0.0.254", 1), verdict: "answered", want: first +
			"hop limit pass\negress policy open\nrouter allow\ntransmit sent\nc: 10.0.0.254 > 10.0.0.3"},
		"a ping to the router against policy": {s: echo("10.0.0.1", "10.0.0.254", 1), verdict: "dropped", reason: ReasonPolicyEgress, want: first +
			"hop limit pass\negress policy deny isolation by out\negress policy drop"},
		"the first fragment": {s: udp("10.0.0.3", "10.0.0.2").with(func(s *spec) { s.mf, s.id, s.size = true, 7, 16 }), verdict: "forwarded", want: opening +
			"route pass\negress policy open\ningress policy audit isolation by watch\nfragment pass\nMTU pass\ntransmit sent\nb: 10.0.0.3 > 10.0.0.2"},
		"a fragment without": {s: udp("10.0.0.3", "10.0.0.2").with(func(s *spec) { s.off, s.id, s.size = 24, 8, 16 }), verdict: "dropped", reason: ReasonFragmentOrder, want: first +
			"hop limit pass\nfragment drop"},
		"an ICMP error": {s: errorFrom("10.0.0.2", "10.0.0.1", udp("10.0.0.1", "10.0.0.2").hop(), packet.PortUnreachable), port: "b", verdict: "dropped", reason: ReasonUnrelatedICMP, want: first +
			"hop limit pass\nconnection drop"},
		"multicast":    {s: udp("10.0.0.1", "224.0.0.1"), verdict: "dropped", reason: ReasonMulticast, want: "ingress port pass\nheaders pass\nanti-spoofing drop"},
		"from nowhere": {s: udp("10.0.0.77", "10.0.0.3"), verdict: "dropped", want: "ingress port drop"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, snap)
			for _, from := range c.known {
				b.send(from, c.s)
			}
			before := b.w.digest()
			res, err := b.trace(c.s.traced(c.port))
			if err != nil {
				t.Fatal(err)
			}
			if b.w.digest() != before {
				t.Error("a trace has changed something")
			}
			for _, s := range res.GetStages() {
				if s.GetDetail() == "" {
					t.Errorf("stage %s says nothing", s.GetStage())
				}
			}
			wantReason := ""
			if c.reason != ReasonNone {
				wantReason = c.reason.String()
			}
			if got := lines(res); got != c.want || res.GetVerdict() != c.verdict || res.GetReason() != wantReason {
				t.Errorf("%s %s:\n%s\nwant %s %s:\n%s", res.GetVerdict(), res.GetReason(), got, c.verdict, wantReason, c.want)
			}
		})
	}
}

// TestTraceDescription makes packets of descriptions.
func TestTraceDescription(t *testing.T) {
	b := newBed(t, podNet(services))
	for _, c := range []struct {
		d      *dataplanev1.PacketDescription
		length uint32
		want   string // of the headers
	}{
		{&dataplanev1.PacketDescription{Tuple: tupleOf("10.0.0.1", "10.0.0.2", 6, 0, 80)}, 0, "IPv4 TCP 10.0.0.1:49152 > 10.0.0.2:80 SYN, 40 bytes"},
		{&dataplanev1.PacketDescription{Tuple: tupleOf("fd00::1", "fd00::2", 17, 7, 53)}, 1200, "IPv6 UDP [fd00::1]:7 > [fd00::2]:53, 1200 bytes"},
		{&dataplanev1.PacketDescription{Tuple: tupleOf("10.0.0.1", "10.0.0.2", 6, 1, 80), TcpFlags: packet.TCPFin | packet.TCPAck}, 9000, "IPv4 TCP 10.0.0.1:1 > 10.0.0.2:80 FIN+ACK, 9000 bytes"},
		{&dataplanev1.PacketDescription{Tuple: tupleOf("fd00::1", "fd00::2", 58, 0, 0), IcmpType: 128}, 0, "IPv6 ICMPv6 fd00::1 > fd00::2 id 49152, type 128 code 0, 48 bytes"},
		{&dataplanev1.PacketDescription{Tuple: tupleOf("10.0.0.1", "10.0.0.2", 132, 5, 6)}, 0, "IPv4 SCTP 10.0.0.1:5 > 10.0.0.2:6, 32 bytes"},
		{&dataplanev1.PacketDescription{Tuple: tupleOf("10.0.0.1", "10.0.0.2", 50, 0, 0)}, 100, "IPv4 protocol 50 10.0.0.1 > 10.0.0.2, 100 bytes"},
	} {
		res, err := b.trace(&dataplanev1.TraceRequest{What: &dataplanev1.TraceRequest_Description{Description: c.d}, Length: c.length})
		if err != nil {
			t.Fatal(err)
		}
		if s := res.GetStages(); len(s) < 2 || s[1].GetStage() != "headers" || s[1].GetDetail() != c.want {
			t.Errorf("want %s, got\n%v", c.want, s)
		}
		// What comes of it, and the answer to a packet that is whole, have right checksums.
		if res.GetVerdict() == "forwarded" && res.GetLength() <= headMax {
			var info packet.Info
			p := res.GetSent()[0].GetPacket()
			if r := packet.Parse(p, len(p), &info); r != packet.OK {
				t.Errorf("%s: what leaves does not parse: %s", c.want, r)
			}
		}
	}
	// A port that a connection has is not chosen.
	b.forward("a", spec{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, sport: 49152, dport: 53}, "b")
	res, err := b.trace(&dataplanev1.TraceRequest{What: &dataplanev1.TraceRequest_Description{Description: &dataplanev1.PacketDescription{Tuple: tupleOf("10.0.0.1", "10.0.0.2", 17, 0, 53)}}})
	if err != nil || res.GetTuple().GetSrcPort() != 49153 {
		t.Errorf("source port %d, error %v; want 49153", res.GetTuple().GetSrcPort(), err)
	}
}

func tupleOf(src, dst string, proto, sport, dport uint32) *dataplanev1.Tuple {
	return &dataplanev1.Tuple{Src: src, Dst: dst, Protocol: proto, SrcPort: sport, DstPort: dport}
}

func TestTraceRefuses(t *testing.T) {
	b := newBed(t, podNet())
	described := func(f func(*dataplanev1.PacketDescription)) *dataplanev1.TraceRequest {
		d := &dataplanev1.PacketDescription{Tuple: tupleOf("10.0.0.1", "10.0.0.2", 6, 0, 80)}
		f(d)
		return &dataplanev1.TraceRequest{What: &dataplanev1.TraceRequest_Description{Description: d}}
	}
	for name, c := range map[string]struct {
		req  *dataplanev1.TraceRequest
		code codes.Code
		want string
	}{
		"nothing":         {&dataplanev1.TraceRequest{}, codes.InvalidArgument, "what"},
		"an empty packet": {&dataplanev1.TraceRequest{What: &dataplanev1.TraceRequest_Packet{}}, codes.InvalidArgument, "what"},
		"no such port":    {udp("10.0.0.1", "10.0.0.2").traced("x"), codes.NotFound, `port: no such port: "x"`},
		"longer than it says": {&dataplanev1.TraceRequest{What: &dataplanev1.TraceRequest_Packet{Packet: make([]byte, 40)}, Length: 20},
			codes.InvalidArgument, "length is 20"},
		"no packet is as long": {&dataplanev1.TraceRequest{What: &dataplanev1.TraceRequest_Packet{Packet: make([]byte, 40)}, Length: 65536},
			codes.InvalidArgument, "length is 65536"},
		"shorter than its headers": {&dataplanev1.TraceRequest{What: described(func(*dataplanev1.PacketDescription) {}).What, Length: 39},
			codes.InvalidArgument, "length is 39"},
		"a name":    {described(func(d *dataplanev1.PacketDescription) { d.Tuple.Dst = "example.org" }), codes.InvalidArgument, "tuple.dst"},
		"TCP flags": {described(func(d *dataplanev1.PacketDescription) { d.TcpFlags = 256 }), codes.InvalidArgument, "tcp_flags"},
		"hops":      {described(func(d *dataplanev1.PacketDescription) { d.HopLimit = 256 }), codes.InvalidArgument, "hop_limit"},
	} {
		t.Run(name, func(t *testing.T) {
			b.T = t
			_, err := b.trace(c.req)
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s about %s", err, c.code, c.want)
			}
		})
	}
}

// TestTraceLanes: a trace finds connections and fragments of every lane.
func TestTraceLanes(t *testing.T) {
	b := newLaneBed(t, podNet(masquerade), 3)
	trace := func(req *dataplanev1.TraceRequest) *dataplanev1.TraceResponse {
		t.Helper()
		type answer struct {
			res *dataplanev1.TraceResponse
			err error
		}
		done := make(chan answer)
		go func() {
			res, err := b.f.Trace(t.Context(), req)
			done <- answer{res, err}
		}()
		for {
			select {
			case a := <-done:
				if a.err != nil {
					t.Fatal(a.err)
				}
				return a.res
			default:
				b.settle()
			}
		}
	}
	for lane := range 3 {
		s := udp("10.0.0.1", "198.51.100.7").with(func(s *spec) { s.sport += uint16(lane) })
		out := s.hop().with(func(s *spec) { s.src = "192.0.2.1" })
		b.pass(lane, "a", s, "host", out)
		for _, req := range []*dataplanev1.TraceRequest{s.traced("a"), out.back().traced("host")} {
			if res := trace(req); res.GetVerdict() != "forwarded" || !strings.Contains(lines(res), "connection known") {
				t.Errorf("lane %d: %s:\n%s", lane, res.GetVerdict(), lines(res))
			}
		}
		first := udp("10.0.0.2", "10.0.0.3").with(func(s *spec) { s.mf, s.id, s.size = true, 7+uint32(lane), 16 })
		b.pass(lane, "b", first, "c", first.hop())
		rest := first.with(func(s *spec) { s.mf, s.off = false, 24 })
		if res := trace(rest.traced("b")); res.GetVerdict() != "forwarded" || !strings.Contains(lines(res), "fragment pass") {
			t.Errorf("lane %d, a later fragment: %s:\n%s", lane, res.GetVerdict(), lines(res))
		}
	}
}
