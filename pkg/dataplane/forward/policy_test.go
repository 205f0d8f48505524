// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

const (
	allow = dataplanev1.Action_ALLOW
	deny  = dataplanev1.Action_DENY
)

// policy makes a policy of rules that are for the ports named; ingress and egress
// isolate if they have rules or isolate says so.
func policy(name string, ports string, change func(*dataplanev1.Policy)) func(*dataplanev1.Snapshot) {
	return func(s *dataplanev1.Snapshot) {
		p := &dataplanev1.Policy{Name: name}
		change(p)
		s.Policies = append(s.Policies, p)
		for _, port := range s.Ports {
			for _, c := range ports {
				if port.Name == string(c) {
					port.Policies = append(port.Policies, name)
				}
			}
		}
	}
}

func isolateIngress(p *dataplanev1.Policy) { p.IsolatesIngress = true }
func isolateEgress(p *dataplanev1.Policy)  { p.IsolatesEgress = true }

func ingressRule(name string, action dataplanev1.Action, peers ...string) func(*dataplanev1.Policy) {
	return func(p *dataplanev1.Policy) {
		p.Ingress = append(p.Ingress, &dataplanev1.Rule{Name: name, Action: action, Peers: peers})
	}
}

func egressRule(name string, action dataplanev1.Action, peers ...string) func(*dataplanev1.Policy) {
	return func(p *dataplanev1.Policy) {
		p.Egress = append(p.Egress, &dataplanev1.Rule{Name: name, Action: action, Peers: peers})
	}
}

func audited(p *dataplanev1.Policy) { p.Audit = true }

func all(changes ...func(*dataplanev1.Policy)) func(*dataplanev1.Policy) {
	return func(p *dataplanev1.Policy) {
		for _, c := range changes {
			c(p)
		}
	}
}

// sets has a set for each pod, for all of them and for the world.
func sets(s *dataplanev1.Snapshot) {
	for name, prefixes := range map[string][]string{
		"set-a": {"10.0.0.1", "fd00::1"}, "set-b": {"10.0.0.2", "fd00::2"}, "set-c": {"10.0.0.3", "fd00::3"},
		"world": {"198.51.100.0/24", "2001:db8::/64"}, "services": {"10.96.0.0/16", "fd00:96::/64"},
	} {
		s.AddressSets = append(s.AddressSets, &dataplanev1.AddressSet{Name: name, Prefixes: prefixes})
	}
}

func TestPolicy(t *testing.T) {
	type try struct {
		from, to string
		want     Reason
	}
	for name, c := range map[string]struct {
		policies []func(*dataplanev1.Snapshot)
		tries    []try
	}{
		"no policy": {nil, []try{{"a", "b", 0}, {"b", "a", 0}, {"a", "host", 0}, {"host", "a", 0}}},
		"closed for what comes in": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", isolateIngress)},
			[]try{{"a", "b", 0}, {"b", "a", ReasonPolicyIngress}, {"host", "a", ReasonPolicyIngress}, {"a", "host", 0}, {"b", "c", 0}},
		},
		"closed for what goes out": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", isolateEgress)},
			[]try{{"a", "b", ReasonPolicyEgress}, {"b", "a", 0}, {"a", "host", ReasonPolicyEgress}, {"host", "a", 0}},
		},
		"one peer may come in": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", all(isolateIngress, ingressRule("r", allow, "set-b")))},
			[]try{{"b", "a", 0}, {"c", "a", ReasonPolicyIngress}, {"host", "a", ReasonPolicyIngress}},
		},
		"one peer may be reached": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", all(isolateEgress, egressRule("r", allow, "set-b")))},
			[]try{{"a", "b", 0}, {"a", "c", ReasonPolicyEgress}, {"a", "host", ReasonPolicyEgress}},
		},
		"both sides must allow": {
			[]func(*dataplanev1.Snapshot){policy("out", "a", all(isolateEgress, egressRule("r", allow, "set-b"))), policy("in", "b", isolateIngress)},
			[]try{{"a", "b", ReasonPolicyIngress}, {"c", "b", ReasonPolicyIngress}},
		},
		"a deny rule that does not isolate": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", ingressRule("r", deny, "set-b"))},
			[]try{{"b", "a", ReasonPolicyIngress}, {"c", "a", 0}},
		},
		"deny goes before allow": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", all(isolateIngress, ingressRule("yes", allow), ingressRule("no", deny, "set-b")))},
			[]try{{"b", "a", ReasonPolicyIngress}, {"c", "a", 0}},
		},
		"two policies of a pod": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", all(isolateIngress, ingressRule("r", allow, "set-b"))), policy("q", "a", all(isolateIngress, ingressRule("r", allow, "set-c")))},
			[]try{{"b", "a", 0}, {"c", "a", 0}, {"host", "a", ReasonPolicyIngress}},
		},
		"audit mode closes nothing": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", all(isolateIngress, isolateEgress, audited))},
			[]try{{"a", "b", 0}, {"b", "a", 0}},
		},
		"audit mode opens nothing": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", isolateIngress), policy("q", "a", all(ingressRule("r", allow), audited))},
			[]try{{"b", "a", ReasonPolicyIngress}},
		},
		"the host has no policies": {
			[]func(*dataplanev1.Snapshot){policy("p", "a", isolateIngress)},
			[]try{{"b", "host", 0}, {"host", "b", 0}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			families(t, func(t *testing.T, ip func(string) string) {
				address := func(port string) string {
					if port == "host" {
						return ip("world")
					}
					return ip(port)
				}
				for _, try := range c.tries {
					for kind, s := range map[string]spec{
						"UDP":  udp(address(try.from), address(try.to)),
						"TCP":  tcp(address(try.from), address(try.to), packet.TCPSyn),
						"ICMP": echo(address(try.from), address(try.to), 3),
					} {
						t.Run(try.from+" to "+try.to+" "+kind, func(t *testing.T) {
							b := newBed(t, podNet(append(c.policies, sets)...))
							if try.want != ReasonNone {
								b.drop(try.from, s, try.want)
								b.drop(try.from, s, try.want)
								b.conns(0)
								return
							}
							b.forward(try.from, s, try.to)
							// Answers need no permission.
							answer := s.answer()
							if s.proto == packet.ProtoTCP {
								answer.tcp = packet.TCPSyn | packet.TCPAck
							}
							b.forward(try.to, answer, try.from)
							b.conns(1)
						})
					}
				}
			})
		})
	}
}

func TestPolicyByPortAndType(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		icmp, request := uint32(packet.ProtoICMP), uint32(8)
		if !v4(ip("a")) {
			icmp, request = uint32(packet.ProtoICMPv6), 128
		}
		b := newBed(t, podNet(policy("p", "b", all(isolateIngress, func(p *dataplanev1.Policy) {
			p.Ingress = []*dataplanev1.Rule{{Name: "r", Action: allow, L4: []*dataplanev1.L4Match{
				{Protocol: 17, FirstPort: 53}, {Protocol: 6, FirstPort: 8000, LastPort: 8080}, {Protocol: icmp, IcmpType: &request},
			}}}
		}))))
		to := func(s spec, port uint16) spec { s.dport = port; return s }
		b.forward("a", to(udp(ip("a"), ip("b")), 53), "b")
		b.drop("a", to(udp(ip("a"), ip("b")), 54), ReasonPolicyIngress)
		b.drop("a", to(tcp(ip("a"), ip("b"), packet.TCPSyn), 53), ReasonPolicyIngress)
		b.drop("a", to(tcp(ip("a"), ip("b"), packet.TCPSyn), 7999), ReasonPolicyIngress)
		b.forward("a", to(tcp(ip("a"), ip("b"), packet.TCPSyn), 8000), "b")
		b.forward("a", to(tcp(ip("a"), ip("b"), packet.TCPSyn), 8080), "b")
		b.drop("a", to(tcp(ip("a"), ip("b"), packet.TCPSyn), 8081), ReasonPolicyIngress)
		b.forward("a", echo(ip("a"), ip("b"), 1), "b")
		if v4(ip("a")) {
			b.drop("a", echo(ip("a"), ip("b"), 2).with(func(s *spec) { s.typ = 13 }), ReasonPolicyIngress) // timestamp
		}
		b.drop("a", spec{src: ip("a"), dst: ip("b"), proto: 47, size: 8}, ReasonPolicyIngress)
	})
}

// TestPolicyChange: what a new policy forbids is cut, also where it is
// established; what it allows goes on as if nothing had happened.
func TestPolicyChange(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		closed := podNet(sets, policy("p", "b", all(isolateIngress, ingressRule("r", allow, "set-a"))))
		for name, fromB := range map[string]bool{"the sender's next packet": false, "the answer": true} {
			t.Run("cut by "+name, func(t *testing.T) {
				b := newBed(t, podNet())
				s := tcp(ip("c"), ip("b"), packet.TCPAck)
				b.forward("c", s, "b")
				b.forward("b", s.answer(), "c")
				b.apply(closed)
				if fromB {
					b.drop("b", s.answer(), ReasonPolicyIngress)
				} else {
					b.drop("c", s, ReasonPolicyIngress)
				}
				// Neither end brings it back, as a connection of the other one's.
				for range 3 {
					b.drop("c", s, ReasonPolicyIngress)
					b.drop("b", s.answer(), ReasonPolicyIngress)
				}
				b.conns(1)
				b.apply(podNet())
				b.forward("b", s.answer(), "c")
				b.forward("c", s, "b")
			})
		}
		t.Run("what is cut is forgotten when nobody sends any more", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("c"), ip("b"))
			b.forward("c", s, "b")
			b.apply(closed)
			b.drop("c", s, ReasonPolicyIngress)
			b.sleep(time.Hour)
			b.conns(0)
		})
		t.Run("allowed connections go on", func(t *testing.T) {
			b := newBed(t, podNet())
			s := tcp(ip("a"), ip("b"), packet.TCPSyn)
			b.forward("a", s, "b")
			b.forward("b", s.answer().with(func(s *spec) { s.tcp |= packet.TCPAck }), "a")
			s.tcp = packet.TCPAck
			b.forward("a", s, "b")
			before := b.connOf(s)
			for range 3 {
				b.apply(closed)
				b.forward("b", s.answer(), "a")
				b.forward("a", s, "b")
				b.apply(podNet())
				b.forward("a", s, "b")
			}
			after := b.connOf(s)
			if was := packetsOf(before); after.State() != before.State() || packetsOf(after) != [2]uint64{was[0] + 6, was[1] + 3} {
				t.Errorf("connection %+v before, %+v after", before, after)
			}
			b.conns(1)
		})
		t.Run("only the first packet after a change takes the slow path", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b"))
			b.forward("a", s, "b")
			b.apply(closed)
			for range 5 {
				b.forward("a", s, "b")
			}
			if b.w.Stats.SlowPath != 2 {
				t.Errorf("%d packets took the slow path, want 2", b.w.Stats.SlowPath)
			}
		})
		t.Run("what is forbidden stays out when it comes back allowed later", func(t *testing.T) {
			b := newBed(t, closed)
			s := udp(ip("c"), ip("b"))
			b.drop("c", s, ReasonPolicyIngress)
			b.apply(podNet())
			b.forward("c", s, "b")
		})
		t.Run("the unanswered request's connection is cut, too", func(t *testing.T) {
			b := newBed(t, podNet())
			s := echo(ip("c"), ip("b"), 5)
			b.forward("c", s, "b")
			b.apply(closed)
			b.drop("b", s.answer(), ReasonPolicyIngress)
			b.drop("b", s.answer(), ReasonPolicyIngress)
		})
	})
}

// TestHairpinPolicy: a pod that isolates itself still reaches itself through a
// service.
func TestHairpinPolicy(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		b := newBed(t, podNet(services, policy("p", "b", all(isolateIngress, isolateEgress))))
		s := udp(ip("b"), ip("svc")).with(func(s *spec) { s.dport = 80 })
		sent := b.send("b", s)
		if len(sent) != 1 || sent[0].Port != b.port("b") {
			t.Fatalf("%d packets came out, want one to the pod itself", len(sent))
		}
	})
}
