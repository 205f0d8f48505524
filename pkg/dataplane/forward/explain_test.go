// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// ask runs f, which asks the worker, while the worker's loop turns.
func (b *bed) ask(f func()) {
	b.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	for {
		select {
		case <-done:
			return
		default:
			turn(b, b.w)
			runtime.Gosched()
		}
	}
}

func (b *bed) explain(req *dataplanev1.ExplainRequest) (res *dataplanev1.ExplainResponse, err error) {
	b.Helper()
	b.ask(func() { res, err = b.f.Explain(b.Context(), req) })
	return res, err
}

// request asks about a packet.
func (s spec) request() *dataplanev1.ExplainRequest {
	r := &dataplanev1.ExplainRequest{
		Tuple:    &dataplanev1.Tuple{Src: s.src, Dst: s.dst, Protocol: uint32(s.protocol()), SrcPort: uint32(s.sport), DstPort: uint32(s.dport)},
		IcmpType: uint32(s.typ), IcmpCode: uint32(s.code),
	}
	return r
}

// TestExplainIsTrue: what Explain says of a flow's first packet is what becomes
// of it, and asking changes nothing.
func TestExplainIsTrue(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			b := newBed(t, modelNet(r.Uint32()))
			o := &oracle{bed: b}
			var verdicts [2]int
			for range 60 {
				s := o.packet(func(n int) int { return r.IntN(n) })
				s.ttl, s.size, s.df, s.tcp = 64, 20, false, packet.TCPSyn
				if r.IntN(10) == 0 {
					s = s.answer()
					s.tcp = packet.TCPSyn
				}
				in, ok := senderOf(b.w.tables, addr(s.src))
				b.w.conns.Each(0, b.w.conns.Cap(), func(r conntrack.Ref, _ *conntrack.Conn) { b.w.conns.Delete(r) })
				res, err := b.explain(s.request())
				if err != nil {
					t.Fatal(err)
				}
				b.conns(0)
				last := res.Steps[len(res.Steps)-1]
				if !ok {
					if res.Verdict != "deny" || last.Stage != "ingress port" {
						t.Errorf("%v comes from nowhere: %v", s.tuple(), res)
					}
					continue
				}
				before := b.total()
				sent := b.receive(received{memdev.Rx{Port: in, Data: s.bytes()}})
				dropped := b.reasons(before)
				if (res.Verdict == "allow") != (len(dropped) == 0) {
					t.Fatalf("%v: explained as %s, dropped for %v\n%v", s.tuple(), res.Verdict, dropped, res.Steps)
				}
				if res.Verdict == "allow" {
					verdicts[0]++
					for _, step := range res.Steps {
						if step.Stage == "route" && !strings.HasSuffix(step.Detail, " "+b.w.tables.Port(sent[0].Port).Name) {
							t.Errorf("%v went to port %d, explained was %q", s.tuple(), sent[0].Port, step.Detail)
						}
					}
					continue
				}
				verdicts[1]++
				if last.Verdict != "drop" {
					t.Errorf("%v: the last step is %v", s.tuple(), last)
				}
				want := ""
				for r := range ReasonCount {
					if r.String() == dropped[0] {
						want = r.Description()
					}
				}
				if last.Detail != want {
					t.Errorf("%v: dropped for %s, explained was %q", s.tuple(), dropped[0], last.Detail)
				}
			}
			t.Logf("%d allowed, %d denied", verdicts[0], verdicts[1])
		})
	}
}

func TestExplainSteps(t *testing.T) {
	b := newBed(t, podNet(services, masquerade, sets,
		policy("out", "a", all(isolateEgress, egressRule("b", allow, "set-b"), egressRule("world", allow, "world"))),
		policy("watch", "b", all(isolateIngress, audited))))
	for name, c := range map[string]struct {
		s     spec
		want  string
		steps []string // stage, verdict and rule
	}{
		"to a service": {udp("10.0.0.1", "10.96.0.1").with(func(s *spec) { s.dport = 80 }), "allow", []string{
			"ingress port pass", "anti-spoofing pass", "destination NAT pass svc-10.96.0.1-17", "route pass", "egress policy allow out/b", "ingress policy audit isolation by watch",
		}},
		"to the world": {tcp("10.0.0.1", "198.51.100.7", 0), "allow", []string{
			"ingress port pass", "anti-spoofing pass", "route pass", "egress policy allow out/world", "ingress policy open", "source NAT pass masq4",
		}},
		"denied": {udp("10.0.0.1", "10.0.0.3"), "deny", []string{
			"ingress port pass", "anti-spoofing pass", "route pass", "egress policy deny isolation by out", "egress policy drop",
		}},
		"no route": {udp("10.0.0.2", "10.0.0.99"), "deny", []string{"ingress port pass", "anti-spoofing pass", "route none", "route drop"}},
		"from the world": {udp("198.51.100.7", "10.0.0.3"), "allow", []string{
			"ingress port pass", "anti-spoofing pass", "route pass", "egress policy open", "ingress policy open",
		}},
		"from nowhere":       {udp("10.0.0.77", "10.0.0.3"), "deny", []string{"ingress port drop"}},
		"multicast":          {udp("10.0.0.1", "224.0.0.1"), "deny", []string{"ingress port pass", "anti-spoofing drop"}},
		"an echo reply":      {echo("10.0.0.1", "10.0.0.2", 1).answer(), "deny", []string{"ingress port pass", "anti-spoofing pass", "connection drop"}},
		"ping to the router": {echo("10.0.0.3", "10.0.0.254", 1), "allow", []string{"ingress port pass", "anti-spoofing pass", "egress policy open", "router allow"}},
		"ping to the router against policy": {echo("10.0.0.1", "10.0.0.254", 1), "deny", []string{
			"ingress port pass", "anti-spoofing pass", "egress policy deny isolation by out", "egress policy drop",
		}},
		"to itself through a service": {udp("10.0.0.2", "10.96.0.1").with(func(s *spec) { s.dport = 80 }), "allow", []string{
			"ingress port pass", "anti-spoofing pass", "destination NAT pass svc-10.96.0.1-17", "route pass", "egress policy open", "ingress policy open", "source NAT pass hairpin",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b.T = t
			res, err := b.explain(c.s.request())
			if err != nil {
				t.Fatal(err)
			}
			var steps []string
			for _, s := range res.Steps {
				steps = append(steps, strings.TrimSpace(s.Stage+" "+s.Verdict+" "+s.Rule))
				if s.Detail == "" {
					t.Errorf("stage %s says nothing", s.Stage)
				}
			}
			if got, want := strings.Join(steps, "\n"), strings.Join(c.steps, "\n"); got != want || res.Verdict != c.want {
				t.Errorf("%s:\n%s\nwant %s:\n%s", res.Verdict, got, c.want, want)
			}
		})
	}
}

func TestExplainRefuses(t *testing.T) {
	b := newBed(t, podNet())
	good := func() *dataplanev1.ExplainRequest { return udp("10.0.0.1", "10.0.0.2").request() }
	for name, c := range map[string]struct {
		change func(*dataplanev1.ExplainRequest)
		want   string
	}{
		"no tuple":                 {func(r *dataplanev1.ExplainRequest) { r.Tuple = nil }, "tuple.src"},
		"no source":                {func(r *dataplanev1.ExplainRequest) { r.Tuple.Src = "" }, "tuple.src"},
		"a name":                   {func(r *dataplanev1.ExplainRequest) { r.Tuple.Dst = "example.org" }, "tuple.dst"},
		"a prefix":                 {func(r *dataplanev1.ExplainRequest) { r.Tuple.Dst = "10.0.0.0/8" }, "tuple.dst"},
		"a zone":                   {func(r *dataplanev1.ExplainRequest) { r.Tuple.Src, r.Tuple.Dst = "fe80::1%eth0", "fd00::1" }, "tuple.src"},
		"two families":             {func(r *dataplanev1.ExplainRequest) { r.Tuple.Dst = "fd00::1" }, "tuple: source and destination"},
		"protocol":                 {func(r *dataplanev1.ExplainRequest) { r.Tuple.Protocol = 256 }, "tuple.protocol"},
		"source port":              {func(r *dataplanev1.ExplainRequest) { r.Tuple.SrcPort = 1 << 16 }, "tuple.src_port"},
		"port":                     {func(r *dataplanev1.ExplainRequest) { r.Tuple.DstPort = 1 << 16 }, "tuple.dst_port"},
		"ICMP type":                {func(r *dataplanev1.ExplainRequest) { r.IcmpType = 256 }, "icmp_type"},
		"ICMP code":                {func(r *dataplanev1.ExplainRequest) { r.IcmpCode = 256 }, "icmp_code"},
		"ICMP of the other family": {func(r *dataplanev1.ExplainRequest) { r.Tuple.Protocol = packet.ProtoICMPv6 }, "tuple.protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			c.change(r)
			b.T = t
			_, err := b.explain(r)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want INVALID_ARGUMENT about %s", err, c.want)
			}
		})
	}
}
