// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/packet"
)

// backends gives the services of a configuration these backends, "a:8080" and the
// like.
func backends(ip func(string) string, list ...*dataplanev1.Backend) func(*dataplanev1.Snapshot) {
	return func(s *dataplanev1.Snapshot) {
		for _, n := range s.DestinationNats {
			n.Backends = nil
			for _, b := range list {
				if v4(n.Address) == v4(ip("a")) {
					n.Backends = append(n.Backends, &dataplanev1.Backend{Address: ip(b.Address), Port: b.Port, Weight: b.Weight})
				}
			}
		}
	}
}

func backend(pod string, port, weight uint32) *dataplanev1.Backend {
	return &dataplanev1.Backend{Address: pod, Port: port, Weight: weight}
}

// ports of a UDP, TCP or SCTP packet.
func ports(data []byte) (src, dst uint16) {
	off := 20
	if data[0]>>4 == 6 {
		off = 40
	}
	return binary.BigEndian.Uint16(data[off:]), binary.BigEndian.Uint16(data[off+2:])
}

func TestDestinationNAT(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		s := udp(ip("a"), ip("svc")).with(func(s *spec) { s.dport = 80 })
		at := s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
		for _, partial := range []bool{false, true} {
			t.Run(fmt.Sprintf("there and back, partial checksum %v", partial), func(t *testing.T) {
				b := newBed(t, podNet(services))
				for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP} {
					change := func(s *spec) { s.proto, s.tcp, s.partial, s.size = proto, packet.TCPAck, partial, 101 }
					s, at := s.with(change), at.with(change)
					answer := at.answer().with(func(s *spec) { s.ttl = 64 })
					for range 3 { // slow path, then fast path
						b.pass("a", s, "b", at)
						b.pass("b", answer, "a", s.answer().hop())
					}
				}
				b.conns(2)
			})
		}
		t.Run("UDP without a checksum stays so", func(t *testing.T) {
			b := newBed(t, podNet(services))
			none := func(s *spec) { s.noSum = true }
			for range 2 {
				b.pass("a", s.with(none), "b", at.with(none))
			}
		})
		t.Run("from the world, and the answer back to it", func(t *testing.T) {
			b := newBed(t, podNet(services))
			s := s.with(func(s *spec) { s.src = ip("world") })
			at := at.with(func(s *spec) { s.src = ip("world") })
			b.pass("host", s, "b", at)
			b.pass("b", at.answer().with(func(s *spec) { s.ttl = 64 }), "host", s.answer().hop())
		})
		t.Run("another port of the address is refused", func(t *testing.T) {
			b := newBed(t, podNet(services))
			s := s.with(func(s *spec) { s.dport = 81 })
			b.refuse("a", s, ReasonNoBackend, icmpError(s, packet.PortUnreachable, 0))
		})
		t.Run("another port of a shared address goes where it belongs", func(t *testing.T) {
			b := newBed(t, podNet(services, shared))
			b.forward("a", s.with(func(s *spec) { s.dport = 81 }), "host")
			b.pass("a", s, "b", at)
		})
		t.Run("policy judges the backend, not the service", func(t *testing.T) {
			b := newBed(t, podNet(services, sets, policy("p", "a", all(isolateEgress, egressRule("r", allow, "set-b")))))
			b.pass("a", s, "b", at)
			b = newBed(t, podNet(services, sets, policy("p", "a", all(isolateEgress, egressRule("r", allow, "services")))))
			b.drop("a", s, ReasonPolicyEgress)
			b = newBed(t, podNet(services, sets, policy("p", "b", all(isolateIngress, func(p *dataplanev1.Policy) {
				p.Ingress = []*dataplanev1.Rule{{Name: "r", Action: allow, Peers: []string{"set-a"}, L4: []*dataplanev1.L4Match{{Protocol: 17, FirstPort: 8080}}}}
			}))))
			b.pass("a", s, "b", at)
		})
		t.Run("a connection stays when backends come, and is cut when its own goes", func(t *testing.T) {
			b := newBed(t, podNet(services))
			syn := s.with(func(s *spec) { s.proto, s.tcp = packet.ProtoTCP, packet.TCPSyn })
			seen := syn.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
			b.pass("a", syn, "b", seen)
			b.apply(podNet(services, backends(ip, backend("c", 8080, 200), backend("b", 8080, 1))))
			for range 2 {
				b.pass("a", syn, "b", seen)
			}
			b.apply(podNet(services, backends(ip, backend("c", 9090, 200))))
			b.pass("a", syn, "c", seen.with(func(s *spec) { s.dst, s.dport = ip("c"), 9090 }))
			b.conns(1)
		})
		t.Run("the service goes", func(t *testing.T) {
			b := newBed(t, podNet(services))
			b.pass("a", s, "b", at)
			b.apply(podNet(services, backends(ip)))
			b.refuse("a", s, ReasonNoBackend, icmpError(s, packet.PortUnreachable, 0))
			b.apply(podNet())
			b.forward("a", s, "host")
		})
		t.Run("the backend has no knet", func(t *testing.T) {
			b := newBed(t, podNet(services, without("b")))
			b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
		})
		t.Run("a client that uses one port for the service and for its backend", func(t *testing.T) {
			direct := s.with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
			for name, first := range map[string]bool{"service first": true, "backend first": false} {
				t.Run(name, func(t *testing.T) {
					b := newBed(t, podNet(services))
					one, two := s, direct
					if !first {
						one, two = direct, s
					}
					sent := b.send("a", one)
					if sport, _ := ports(sent[0].Data); sport != 40000 {
						t.Errorf("source port %d", sport)
					}
					sent = b.send("a", two)
					if len(sent) != 1 || sent[0].Port != b.port("b") {
						t.Fatalf("%d packets came out", len(sent))
					}
					sport, _ := ports(sent[0].Data)
					if sport == 40000 {
						t.Fatal("their answers cannot be told apart")
					}
					b.same(sent[0], "b", at.with(func(s *spec) { s.sport = sport }))
					// The answers go where they belong, also after a change.
					answer := at.answer().with(func(s *spec) { s.ttl = 64 })
					for range 2 {
						b.pass("b", answer, "a", one.answer().hop())
						b.pass("b", answer.with(func(s *spec) { s.dport = sport }), "a", two.answer().hop())
						b.pass("a", two, "b", at.with(func(s *spec) { s.sport = sport }))
						b.apply(podNet(services))
					}
					b.conns(2)
				})
			}
		})
		t.Run("a pod that is its own backend", func(t *testing.T) {
			b := newBed(t, podNet(services))
			s := s.with(func(s *spec) { s.src = ip("b") })
			at := s.hop().with(func(s *spec) { s.src, s.dst, s.dport = ip("svc"), ip("b"), 8080 })
			for range 2 {
				b.pass("b", s, "b", at)
				b.pass("b", at.answer().with(func(s *spec) { s.ttl = 64 }), "b", s.answer().hop())
				b.apply(podNet(services))
			}
			b.conns(1)
		})
		t.Run("a pod that is its own backend, on the same port", func(t *testing.T) {
			// Request and answer are alike: to the service's port from itself.
			b := newBed(t, podNet(services, func(s *dataplanev1.Snapshot) {
				for _, n := range s.DestinationNats {
					n.Port = 8080
				}
			}))
			s := s.with(func(s *spec) { s.src, s.sport, s.dport = ip("b"), 8080, 8080 })
			at := s.hop().with(func(s *spec) { s.src, s.dst = ip("svc"), ip("b") })
			for range 3 {
				b.pass("b", s, "b", at)
				b.apply(b.f.Snapshot())
			}
			b.conns(1)
			b.sleep(1e9 * 200)
			b.conns(0)
			b.pass("b", s, "b", at)
		})
	})
}

// weighted is a service with backends of these weights.
func weighted(affinity time.Duration, weights ...int) *config.DestinationNAT {
	var backends []config.Backend
	for i, w := range weights {
		backends = append(backends, config.Backend{Addr: packet.Addr4(10<<24 | 1<<16 | uint32(i)), Port: 8080, Weight: w})
	}
	return &config.DestinationNAT{Affinity: affinity, Choice: config.NewChoice(backends, false)}
}

// TestChoose: backends get their shares, and keep them.
func TestChoose(t *testing.T) {
	tuple := func(n int) packet.Tuple {
		return packet.Tuple{Src: packet.Addr4(10<<24 | uint32(n%200)), Dst: addr("10.96.0.1"), SrcPort: uint16(1024 + n), DstPort: 80, Proto: 6}
	}
	worker := &Worker{affinity: &affinities{}}
	choose := func(n *config.DestinationNAT, t packet.Tuple) *config.Backend {
		return worker.backend(n, &n.Choice, &flow{orig: t})
	}
	const flows = 60000
	for _, weights := range [][]int{{1}, {1, 1, 1}, {5, 5, 5, 5}, {1, 2, 3}, {256, 1}, {1, 1, 8}} {
		n := weighted(0, weights...)
		got := map[packet.Addr]int{}
		for i := range flows {
			got[choose(n, tuple(i)).Addr]++
		}
		total := 0
		for _, w := range weights {
			total += w
		}
		for i, b := range n.Backends {
			want := float64(flows) * float64(weights[i]) / float64(total)
			if d := math.Abs(float64(got[b.Addr]) - want); d > 6*math.Sqrt(want) {
				t.Errorf("weights %v: backend %d has %d of %d flows, want about %.0f", weights, i, got[b.Addr], flows, want)
			}
		}
	}
	t.Run("one that comes takes its share and moves no other", func(t *testing.T) {
		for _, weights := range [][]int{{1, 1, 1, 1}, {2, 1, 4, 3}} {
			old, grown := weighted(0, weights[:3]...), weighted(0, weights...)
			for i := range flows {
				was, is := choose(old, tuple(i)).Addr, choose(grown, tuple(i)).Addr
				if was != is && is != grown.Backends[3].Addr {
					t.Fatalf("weights %v: flow %d moved between backends that were there before", weights, i)
				}
			}
		}
	})
	t.Run("affinity", func(t *testing.T) {
		n := weighted(time.Minute, 1, 1, 1)
		seen := map[packet.Addr]packet.Addr{}
		used := map[packet.Addr]bool{}
		for i := range flows {
			c := tuple(i)
			b := choose(n, c).Addr
			if was, ok := seen[c.Src]; ok && was != b {
				t.Fatalf("client %s has two backends", c.Src)
			}
			seen[c.Src] = b
			used[b] = true
		}
		if len(used) != 3 {
			t.Errorf("%d backends are used", len(used))
		}
	})
}

func TestSourceNAT(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		s := udp(ip("a"), ip("world"))
		out := s.hop().with(func(s *spec) { s.src = ip("snat") })
		back := out.answer().with(func(s *spec) { s.ttl = 64 })
		// few has a range of ports for one address.
		few := func(first, last uint32) func(*dataplanev1.Snapshot) {
			return func(s *dataplanev1.Snapshot) {
				masquerade(s)
				for _, n := range s.SourceNats {
					n.FirstPort, n.LastPort = first, last
				}
			}
		}
		for _, partial := range []bool{false, true} {
			t.Run(fmt.Sprintf("there and back, partial checksum %v", partial), func(t *testing.T) {
				b := newBed(t, podNet(masquerade))
				for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP} {
					change := func(s *spec) { s.proto, s.tcp, s.partial, s.size = proto, packet.TCPAck, partial, 99 }
					for range 3 {
						b.pass("a", s.with(change), "host", out.with(change))
						b.pass("host", back.with(change), "a", s.answer().hop().with(change))
					}
				}
			})
		}
		t.Run("of ping", func(t *testing.T) {
			b := newBed(t, podNet(masquerade))
			e := echo(ip("a"), ip("world"), 9)
			masked := e.hop().with(func(s *spec) { s.src = ip("snat") })
			for range 2 {
				b.pass("a", e, "host", masked)
				b.pass("host", masked.answer().with(func(s *spec) { s.ttl = 64 }), "a", e.answer().hop())
			}
		})
		t.Run("of a protocol without ports: one at a time", func(t *testing.T) {
			b := newBed(t, podNet(masquerade))
			g := spec{src: ip("a"), dst: ip("world"), proto: 47, size: 30}
			b.pass("a", g, "host", g.hop().with(func(s *spec) { s.src = ip("snat") }))
			b.drop("b", g.with(func(s *spec) { s.src = ip("b") }), ReasonNATExhausted)
		})
		t.Run("not between pods", func(t *testing.T) {
			b := newBed(t, podNet(masquerade))
			b.forward("a", udp(ip("a"), ip("b")), "b")
		})
		t.Run("not for what comes from the world", func(t *testing.T) {
			b := newBed(t, podNet(masquerade))
			b.forward("host", udp(ip("world"), ip("b")), "b")
		})
		t.Run("by the port that it leaves by", func(t *testing.T) {
			b := newBed(t, podNet(masquerade, func(s *dataplanev1.Snapshot) {
				for _, n := range s.SourceNats {
					n.OutPort, n.DestinationsExcept = "b", nil
				}
			}))
			b.forward("a", s, "host")
			in := udp(ip("a"), ip("b"))
			b.pass("a", in, "b", in.hop().with(func(s *spec) { s.src = ip("snat") }))
		})
		t.Run("policy of the receiver sees the pod's own address", func(t *testing.T) {
			b := newBed(t, podNet(masquerade, sets, func(s *dataplanev1.Snapshot) {
				for _, n := range s.SourceNats {
					n.DestinationsExcept = nil
				}
			}, policy("p", "b", all(isolateIngress, ingressRule("r", allow, "set-a")))))
			in := udp(ip("a"), ip("b"))
			b.pass("a", in, "b", in.hop().with(func(s *spec) { s.src = ip("snat") }))
			b.drop("c", udp(ip("c"), ip("b")), ReasonPolicyIngress)
		})
		t.Run("two clients with the same port", func(t *testing.T) {
			b := newBed(t, podNet(masquerade))
			b.pass("a", s, "host", out)
			other := s.with(func(s *spec) { s.src = ip("b") })
			sent := b.send("b", other)
			port, _ := ports(sent[0].Data)
			if port == 40000 || port < 1024 {
				t.Fatalf("source port %d", port)
			}
			b.same(sent[0], "host", out.with(func(s *spec) { s.sport = port }))
			b.pass("host", back, "a", s.answer().hop())
			b.pass("host", back.with(func(s *spec) { s.dport = port }), "b", other.answer().hop())
			// To another destination the port is free.
			b.pass("b", other.with(func(s *spec) { s.dport = 54 }), "host", out.with(func(s *spec) { s.dport = 54 }))
		})
		t.Run("a port outside of the range is not used", func(t *testing.T) {
			b := newBed(t, podNet(few(2000, 2009)))
			sent := b.send("a", s)
			if port, _ := ports(sent[0].Data); port < 2000 || port > 2009 {
				t.Errorf("source port %d, want 2000 to 2009", port)
			}
			inside := s.with(func(s *spec) { s.sport = 2005; s.dport = 99 })
			b.pass("a", inside, "host", inside.hop().with(func(s *spec) { s.src = ip("snat") }))
		})
		t.Run("exhausted, and free again", func(t *testing.T) {
			b := newBed(t, podNet(few(2000, 2009)))
			used := map[uint16]bool{}
			for i := range uint16(10) {
				sent := b.send("a", s.with(func(s *spec) { s.sport += i }))
				if len(sent) != 1 {
					t.Fatalf("connection %d does not get a port", i)
				}
				port, _ := ports(sent[0].Data)
				if used[port] {
					t.Fatalf("port %d is used twice", port)
				}
				used[port] = true
			}
			b.drop("a", s.with(func(s *spec) { s.sport += 10 }), ReasonNATExhausted)
			// Other destinations and protocols are not concerned.
			if sent := b.send("a", s.with(func(s *spec) { s.dport++ })); len(sent) != 1 {
				t.Error("another destination is refused")
			}
			b.sleep(40e9)
			b.conns(0)
			if sent := b.send("a", s.with(func(s *spec) { s.sport += 10 })); len(sent) != 1 {
				t.Error("still refused")
			}
		})
		t.Run("more addresses", func(t *testing.T) {
			two := func(s *dataplanev1.Snapshot) {
				few(2000, 2001)(s)
				s.SourceNats[0].Addresses = append(s.SourceNats[0].Addresses, "192.0.2.2")
				s.SourceNats[1].Addresses = append(s.SourceNats[1].Addresses, "2001:db8:1::2")
			}
			b := newBed(t, podNet(two))
			for i := range uint16(4) {
				if sent := b.send("a", s.with(func(s *spec) { s.sport += i })); len(sent) != 1 {
					t.Fatalf("connection %d does not get a port", i)
				}
			}
			b.drop("a", s.with(func(s *spec) { s.sport += 4 }), ReasonNATExhausted)
		})
		t.Run("kept through changes", func(t *testing.T) {
			b := newBed(t, podNet(few(2000, 2009)))
			sent := b.send("a", s)
			port, _ := ports(sent[0].Data)
			seen := out.with(func(s *spec) { s.sport = port })
			for range 3 {
				b.apply(podNet(few(2000, 2009)))
				b.pass("a", s, "host", seen)
				b.apply(podNet(few(2000, 2019)))
				b.pass("host", seen.answer().with(func(s *spec) { s.ttl = 64 }), "a", s.answer().hop())
			}
			b.conns(1)
		})
		t.Run("kept where it changes no address", func(t *testing.T) {
			same := podNet(func(s *dataplanev1.Snapshot) {
				for _, world := range []string{"198.51.100.7", "2001:db8::7"} {
					s.SourceNats = append(s.SourceNats, &dataplanev1.SourceNat{Name: world, Source: netip.PrefixFrom(netip.MustParseAddr(world), addr(world).Netip().BitLen()).String(), Addresses: []string{world}})
				}
			})
			b := newBed(t, same)
			s := udp(ip("world"), ip("a"))
			for range 3 {
				b.forward("host", s, "a")
				b.forward("a", s.answer(), "host")
				b.apply(same)
			}
			b.conns(1)
			if n := packetsOf(b.connOf(s)); n != [2]uint64{3, 3} {
				t.Errorf("%d packets are counted: it is not the same connection", n)
			}
		})
		t.Run("a rule that goes ends its connections", func(t *testing.T) {
			b := newBed(t, podNet(masquerade))
			b.pass("a", s, "host", out)
			b.apply(podNet())
			b.forward("a", s, "host")
			b.conns(1)
		})
		t.Run("both ends translated", func(t *testing.T) {
			b := newBed(t, podNet(masquerade, services, func(s *dataplanev1.Snapshot) {
				for _, n := range s.DestinationNats {
					n.Backends = []*dataplanev1.Backend{{Address: "198.51.100.7", Port: 8080}}
					if !v4(n.Address) {
						n.Backends[0].Address = "2001:db8::7"
					}
				}
			}))
			s := s.with(func(s *spec) { s.dst, s.dport = ip("svc"), 80 })
			out := s.hop().with(func(s *spec) { s.src, s.dst, s.dport = ip("snat"), ip("world"), 8080 })
			for range 2 {
				b.pass("a", s, "host", out)
				b.pass("host", out.answer().with(func(s *spec) { s.ttl = 64 }), "a", s.answer().hop())
				b.apply(b.f.Snapshot())
			}
			b.conns(1)
		})
	})
}
