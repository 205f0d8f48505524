// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/observe"
	"netio.dev/netio/pkg/dataplane/packet"
)

// watch subscribes to a bed's events.
type watch struct {
	*bed
	sub *observe.Subscription
}

func (b *bed) watch(f *dataplanev1.Filter) watch {
	b.Helper()
	sub, err := b.f.Events.Subscribe(f)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(sub.Close)
	return watch{b, sub}
}

// next wants an event like this one; its time is checked and taken out.
func (w watch) next(want *dataplanev1.Event) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	got, err := w.sub.Next(ctx)
	if err != nil {
		w.Fatal(err)
	}
	if at := time.Duration(got.TimeUnixNano - w.w.epoch); at != w.now {
		w.Errorf("the event is of %v, want %v", at, w.now)
	}
	got.TimeUnixNano = 0
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		w.Errorf("event (-want +got):\n%s", d)
	}
}

// event is what is reported of a packet.
func (s spec) event(in, out, verdict string) *dataplanev1.Event {
	t := &dataplanev1.Tuple{Src: s.src, Dst: s.dst, Protocol: uint32(s.protocol()), SrcPort: uint32(s.sport), DstPort: uint32(s.dport)}
	if s.proto == packet.ProtoICMP || s.proto == packet.ProtoICMPv6 {
		t.DstPort = uint32(s.typ)<<8 | uint32(s.code)
	}
	if s.off > 0 {
		t.SrcPort, t.DstPort = 0, 0
	}
	return &dataplanev1.Event{Verdict: verdict, Tuple: t, InPort: in, OutPort: out, Length: uint32(len(s.bytes()))}
}

func reason(r Reason, rule string, e *dataplanev1.Event) *dataplanev1.Event {
	e.Reason, e.Rule = "", rule
	if r != ReasonNone {
		e.Reason = r.String()
	}
	return e
}

func TestEvents(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		s := udp(ip("a"), ip("b"))
		t.Run("a flow's first packet, and no other", func(t *testing.T) {
			b := newBed(t, podNet())
			w := b.watch(nil)
			b.forward("a", s, "b")
			b.forward("a", s, "b")
			b.forward("b", s.answer(), "a")
			e := echo(ip("b"), ip("world"), 7)
			b.forward("b", e, "host")
			w.next(s.event("a", "b", "allow"))
			w.next(e.event("b", "host", "allow"))
		})
		t.Run("a service: the tuple as it came, the port that it went to", func(t *testing.T) {
			b := newBed(t, podNet(services))
			w := b.watch(nil)
			s := udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport = 80 })
			b.send("a", s)
			w.next(s.event("a", "b", "allow"))
		})
		t.Run("rules by name", func(t *testing.T) {
			b := newBed(t, podNet(sets,
				policy("out", "a", all(isolateEgress, egressRule("first", deny, "set-c"), egressRule("second", allow))),
				policy("in", "b", all(isolateIngress, ingressRule("only", allow, "set-c")))))
			w := b.watch(nil)
			b.drop("a", s, ReasonPolicyIngress)
			w.next(reason(ReasonPolicyIngress, "isolation by in", s.event("a", "b", "deny")))
			c := udp(ip("a"), ip("c"))
			b.drop("a", c, ReasonPolicyEgress)
			w.next(reason(ReasonPolicyEgress, "out/first", c.event("a", "c", "deny")))
			world := udp(ip("a"), ip("world"))
			b.forward("a", world, "host")
			w.next(reason(0, "out/second", world.event("a", "host", "allow")))
			in := udp(ip("c"), ip("b"))
			b.forward("c", in, "b")
			w.next(reason(0, "in/only", in.event("c", "b", "allow")))
		})
		t.Run("audit", func(t *testing.T) {
			b := newBed(t, podNet(policy("p", "b", all(isolateIngress, audited))))
			w := b.watch(&dataplanev1.Filter{Verdict: "audit"})
			b.forward("a", s, "b")
			w.next(reason(0, "isolation by p", s.event("a", "b", "audit")))
		})
		t.Run("drops that no rule decided name none", func(t *testing.T) {
			b := newBed(t, podNet(sets, policy("p", "a", egressRule("r", deny, "set-c"))))
			w := b.watch(nil)
			// What is before them must not show in them.
			before := udp(ip("a"), ip("c"))
			check := func(s spec, port, to string, r Reason) {
				t.Helper()
				b.dropped(b.rx("a", before), ReasonPolicyEgress)
				w.next(reason(ReasonPolicyEgress, "p/r", before.event("a", "c", "deny")))
				b.dropped(b.rx(port, s), r)
				w.next(reason(r, "", s.event(port, to, "drop")))
			}
			check(udp(ip("b"), ip("a")), "a", "", ReasonSpoofed)
			check(s.with(func(s *spec) { s.ttl = 1 }), "a", "", ReasonTTL)
			check(s.with(func(s *spec) { s.off, s.id = 64, 4 }), "a", "", ReasonFragmentOrder)
			check(tcp(ip("a"), ip("b"), packet.TCPRst), "a", "", ReasonNoConnection)
			check(udp(ip("a"), ip("nobody")), "a", "", ReasonNoRoute)
			check(errorFrom(ip("b"), ip("a"), s, packet.PortUnreachable), "b", "", ReasonUnrelatedICMP)
			bad := b.rx("a", s)
			bad.Data[0] = 0x10
			b.dropped(b.rx("a", before), ReasonPolicyEgress)
			w.next(reason(ReasonPolicyEgress, "p/r", before.event("a", "c", "deny")))
			b.dropped(bad, Reason(packet.BadVersion))
			w.next(&dataplanev1.Event{Verdict: "drop", Reason: "bad-ip-version", InPort: "a", Length: uint32(len(bad.Data)),
				Tuple: &dataplanev1.Tuple{Src: "::", Dst: "::"}})
		})
		t.Run("a connection that a change cuts names the rule, whoever sends", func(t *testing.T) {
			closed := podNet(sets, policy("out", "c", egressRule("stop", deny, "set-b")), policy("in", "b", ingressRule("halt", deny, "set-a")),
				policy("other", "a", egressRule("not me", deny, "world")))
			b := newBed(t, podNet())
			fromC := udp(ip("c"), ip("b"))
			b.forward("a", s, "b")
			b.forward("c", fromC, "b")
			w := b.watch(nil)
			b.apply(closed)
			b.drop("b", s.answer(), ReasonPolicyIngress)
			w.next(reason(ReasonPolicyIngress, "in/halt", s.answer().event("b", "a", "deny")))
			b.drop("b", fromC.answer(), ReasonPolicyEgress)
			w.next(reason(ReasonPolicyEgress, "out/stop", fromC.answer().event("b", "c", "deny")))
			b.apply(podNet())
			b.forward("a", s, "b") // goes on, which is no event
			b.apply(closed)
			b.drop("a", s, ReasonPolicyIngress)
			w.next(reason(ReasonPolicyIngress, "in/halt", s.event("a", "b", "deny")))
		})
		t.Run("filters", func(t *testing.T) {
			b := newBed(t, podNet())
			w := b.watch(&dataplanev1.Filter{Port: "c", Reason: "no-route"})
			b.forward("a", s, "b")
			b.dropped(b.rx("a", udp(ip("a"), ip("nobody"))), ReasonNoRoute)
			n := udp(ip("c"), ip("nobody"))
			b.dropped(b.rx("c", n), ReasonNoRoute)
			w.next(reason(ReasonNoRoute, "", n.event("c", "", "drop")))
		})
		t.Run("a ping that the router answers", func(t *testing.T) {
			b := newBed(t, podNet())
			w := b.watch(nil)
			e := echo(ip("a"), ip("router"), 7)
			b.send("a", e)
			w.next(e.event("a", "", "allow"))
		})
		t.Run("names of what is gone since", func(t *testing.T) {
			b := newBed(t, podNet(policy("p", "b", isolateIngress)))
			w := b.watch(nil)
			b.drop("a", s, ReasonPolicyIngress)
			for range 3 {
				b.apply(podNet(without("b")))
			}
			w.next(reason(ReasonPolicyIngress, "isolation by p", s.event("a", "b", "deny")))
		})
		t.Run("only what is logged", func(t *testing.T) {
			logged := func(p *dataplanev1.Policy) {
				p.IsolatesIngress = true
				p.Ingress = []*dataplanev1.Rule{
					{Name: "loud", Action: dataplanev1.Action_ALLOW, Log: true, L4: []*dataplanev1.L4Match{{Protocol: 17, FirstPort: 7000, LastPort: 7000}}},
					{Name: "quiet", Action: dataplanev1.Action_ALLOW},
				}
			}
			b := newBed(t, podNet(policy("p", "b", logged)))
			w := b.watch(&dataplanev1.Filter{Logged: true})
			b.forward("a", s, "b")
			loud := s.with(func(s *spec) { s.dport = 7000 })
			b.forward("a", loud, "b")
			want := loud.event("a", "b", "allow")
			want.Rule, want.Logged = "p/loud", true
			w.next(want)
		})
		t.Run("nobody watches", func(t *testing.T) {
			b := newBed(t, podNet())
			sub, err := b.f.Events.Subscribe(nil)
			if err != nil {
				t.Fatal(err)
			}
			sub.Close()
			b.forward("a", s, "b")
		})
	})
}

func TestCapture(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		type captured struct {
			toPort bool
			data   []byte
			length int
		}
		capture := func(b *bed, port string, snap uint32) func(captured) {
			b.Helper()
			c, err := b.f.Captures.Open(port, snap)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(c.Close)
			return func(want captured) {
				b.Helper()
				ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
				defer cancel()
				p, err := c.Next(ctx)
				if err != nil {
					b.Fatal(err)
				}
				if p.ToPort != want.toPort || int(p.Length) != want.length || p.Lost != 0 {
					b.Errorf("captured to port %v, length %d, lost %d; want %v, %d", p.ToPort, p.Length, p.Lost, want.toPort, want.length)
				}
				if !bytes.Equal(p.Data, want.data) {
					b.Errorf("captured %s\nwant %s", describePacket(p.Data), describePacket(want.data))
				}
			}
		}
		whole := func(s spec, toPort bool) captured {
			return captured{toPort, s.bytes(), len(s.bytes())}
		}
		s := udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport = 80 })
		at := s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
		t.Run("as it comes and as it goes, both directions", func(t *testing.T) {
			b := newBed(t, podNet(services))
			a, to := capture(b, "a", 0), capture(b, "b", 0)
			answer := at.answer().with(func(s *spec) { s.ttl = 64 })
			for range 2 {
				b.pass("a", s, "b", at)
				b.pass("b", answer, "a", s.answer().hop())
				a(whole(s, false))
				a(whole(s.answer().hop(), true))
				to(whole(at, true))
				to(whole(answer, false))
			}
			b.forward("c", udp(ip("c"), ip("world")), "host") // not these ports'
			b.pass("a", s, "b", at)
			a(whole(s, false))
		})
		t.Run("chains whole", func(t *testing.T) {
			b := newBed(t, jumboNet(services))
			a, to := capture(b, "a", 0), capture(b, "b", 0)
			long := func(s *spec) { s.size = 60000 }
			sent := b.receive(b.rx("a", s.with(long)))
			b.same(sent[0], "b", at.with(long))
			a(whole(s.with(long), false))
			to(whole(at.with(long), true))
		})
		t.Run("parked packets as far as they are there", func(t *testing.T) {
			b := newBed(t, podNet())
			a := capture(b, "a", 0)
			s := udp(ip("a"), ip("b")).with(func(s *spec) { s.size = 1000 })
			b.receive(b.rx("a", s).parked(128))
			a(captured{false, s.bytes()[:128], len(s.bytes())})
		})
		t.Run("so many bytes", func(t *testing.T) {
			b := newBed(t, jumboNet())
			a := capture(b, "a", 400)
			s := udp(ip("a"), ip("b")).with(func(s *spec) { s.size = 5000 })
			b.receive(b.rx("a", s).in(150))
			a(captured{false, s.bytes()[:400], len(s.bytes())})
		})
		t.Run("dropped packets and the answer to them", func(t *testing.T) {
			b := newBed(t, podNet())
			a := capture(b, "a", 0)
			s := udp(ip("a"), ip("nobody"))
			b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
			a(whole(s, false))
			a(whole(icmpError(s, packet.NetUnreachable, 0), true))
			b.drop("a", udp(ip("b"), ip("a")), ReasonSpoofed)
			a(whole(udp(ip("b"), ip("a")), false))
			e := echo(ip("a"), ip("router"), 1)
			b.send("a", e)
			a(whole(e, false))
			a(whole(e.answer(), true))
		})
		t.Run("what is cut, in pieces", func(t *testing.T) {
			if !v4(ip("a")) {
				t.Skip("no router cuts IPv6 packets")
			}
			b := newBed(t, podNet(narrow(1280)))
			to := capture(b, "b", 0)
			for _, p := range b.send("a", sized(udp(ip("a"), ip("b")), 2000-200)) {
				to(captured{true, p.Data, len(p.Data)})
			}
		})
		t.Run("the device brings the port's packets whole, while it is captured", func(t *testing.T) {
			b := newBed(t, podNet())
			want := func(whole bool) {
				t.Helper()
				u := b.dev.PortUpdates()
				if len(u) != 1 || uint32(u[0].ID) != b.port("a") || u[0].Whole == nil || *u[0].Whole != whole {
					t.Errorf("updates %+v, want whole %v", u, whole)
				}
			}
			c, err := b.f.Captures.Open("a", 0)
			if err != nil {
				t.Fatal(err)
			}
			want(true)
			c.Close()
			want(false)
			if c, err = b.f.Captures.Open("a", abi.ParkCopyMin); err != nil {
				t.Fatal(err)
			}
			want(false) // so much is always there
			c.Close()
			want(false)
			if c, err = b.f.Captures.Open("a", abi.ParkCopyMin+1); err != nil {
				t.Fatal(err)
			}
			want(true)
			c.Close()
		})
		t.Run("ends with its port", func(t *testing.T) {
			b := newBed(t, podNet())
			c, err := b.f.Captures.Open("a", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			b.apply(podNet(without("a")))
			if _, err := c.Next(t.Context()); err != observe.ErrPortGone {
				t.Errorf("error %v, want %v", err, observe.ErrPortGone)
			}
		})
	})
}
