// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"testing"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/packet"
)

// hosts are addresses of the host's own.
func hosts(addresses ...string) func(*dataplanev1.Snapshot) {
	return func(s *dataplanev1.Snapshot) {
		s.Settings.HostAddresses = append(s.Settings.HostAddresses, addresses...)
	}
}

// shared has services on addresses that are not theirs alone.
func shared(s *dataplanev1.Snapshot) {
	for _, n := range s.DestinationNats {
		n.Shared = true
	}
}

// serviceSource gives the host's connections to services a source.
func serviceSource(s *dataplanev1.Snapshot) {
	s.Settings.ServiceIpv4, s.Settings.ServiceIpv6 = "10.0.0.250", "fd00::250"
}

// eachService changes all services.
func eachService(change func(n *dataplanev1.DestinationNat, ip func(v4, v6 string) string)) func(*dataplanev1.Snapshot) {
	return func(s *dataplanev1.Snapshot) {
		for _, n := range s.DestinationNats {
			change(n, func(four, six string) string {
				if v4(n.Address) {
					return four
				}
				return six
			})
		}
	}
}

// TestServicesOfTheHost: what the host sends to a service goes to a pod of the node
// as it is, and to a backend elsewhere with a source whose answers come back.
func TestServicesOfTheHost(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		s := udp(ip("world"), ip("svc")).with(func(s *spec) { s.dport = 80 })
		elsewhere := eachService(func(n *dataplanev1.DestinationNat, ip func(v4, v6 string) string) {
			n.Backends = []*dataplanev1.Backend{{Address: ip("203.0.113.9", "2001:db8:9::9"), Port: 8080}}
		})
		source, remote, second := "10.0.0.250", "203.0.113.9", "198.51.100.9"
		if !v4(ip("a")) {
			source, remote, second = "fd00::250", "2001:db8:9::9", "2001:db8::9"
		}
		t.Run("a pod of the node", func(t *testing.T) {
			b := newBed(t, podNet(services, serviceSource, hosts(ip("world"))))
			at := s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 })
			for range 2 {
				b.pass("host", s, "b", at)
				b.pass("b", at.answer().with(func(s *spec) { s.ttl = 64 }), "host", s.answer().hop())
			}
		})
		t.Run("a backend elsewhere", func(t *testing.T) {
			b := newBed(t, podNet(services, elsewhere, serviceSource))
			at := s.hop().with(func(s *spec) { s.src, s.dst, s.dport = source, remote, 8080 })
			for range 3 {
				b.pass("host", s, "host", at)
				b.pass("host", at.answer().with(func(s *spec) { s.ttl = 64 }), "host", s.answer().hop())
				b.apply(b.f.Snapshot())
			}
			b.conns(1)
			// Another client with the same port gets another one.
			other := s.with(func(s *spec) { s.src = second })
			sent := b.send("host", other)
			port, _ := ports(sent[0].Data)
			if port == s.sport {
				t.Fatal("the answers of two clients cannot be told apart")
			}
			b.same(sent[0], "host", at.with(func(s *spec) { s.sport = port }))
		})
		t.Run("a pod's own connections keep their source", func(t *testing.T) {
			b := newBed(t, podNet(services, elsewhere, serviceSource))
			s := s.with(func(s *spec) { s.src = ip("a") })
			b.pass("a", s, "host", s.hop().with(func(s *spec) { s.dst, s.dport = remote, 8080 }))
		})
	})
}

// TestExternal: connections from outside have a choice of their own.
func TestExternal(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		local := eachService(func(n *dataplanev1.DestinationNat, ip func(v4, v6 string) string) {
			n.External = &dataplanev1.External{Backends: []*dataplanev1.Backend{{Address: ip("10.0.0.3", "fd00::3"), Port: 8080}}}
		})
		s := udp(ip("world"), ip("svc")).with(func(s *spec) { s.dport = 80 })
		to := func(s spec, pod string) spec {
			return s.hop().with(func(s *spec) { s.dst, s.dport = ip(pod), 8080 })
		}
		pod := s.with(func(s *spec) { s.src = ip("a") })

		b := newBed(t, podNet(services, local))
		b.pass("host", s, "c", to(s, "c"))
		b.pass("a", pod, "b", to(pod, "b"))
		b = newBed(t, podNet(services, local, hosts(ip("world"))))
		b.pass("host", s, "b", to(s, "b"))

		t.Run("a connection that counts as another one now moves", func(t *testing.T) {
			b := newBed(t, podNet(services))
			b.pass("host", s, "b", to(s, "b"))
			b.apply(podNet(services, local))
			b.pass("host", s, "c", to(s, "c"))
			b.conns(1)
		})
		t.Run("none: dropped or refused", func(t *testing.T) {
			none := func(silent bool) func(*dataplanev1.Snapshot) {
				return eachService(func(n *dataplanev1.DestinationNat, _ func(v4, v6 string) string) {
					n.External = &dataplanev1.External{Silent: silent}
				})
			}
			b := newBed(t, podNet(services, none(true)))
			b.drop("host", s, ReasonNoLocalBackend)
			b.pass("a", pod, "b", to(pod, "b"))
			b = newBed(t, podNet(services, none(false)))
			b.refuse("host", s, ReasonNoBackend, icmpError(s, packet.PortUnreachable, 0))
		})
		t.Run("silent within", func(t *testing.T) {
			b := newBed(t, podNet(services, eachService(func(n *dataplanev1.DestinationNat, _ func(v4, v6 string) string) {
				n.Backends, n.Silent = nil, true
			})))
			b.drop("a", pod, ReasonNoLocalBackend)
		})
		t.Run("sources", func(t *testing.T) {
			only := func(prefixes ...string) func(*dataplanev1.Snapshot) {
				return eachService(func(n *dataplanev1.DestinationNat, _ func(v4, v6 string) string) { n.Sources = prefixes })
			}
			b := newBed(t, podNet(services, only("10.0.0.1/32", "fd00::1/128")))
			b.drop("host", s, ReasonServiceSource)
			b.pass("a", pod, "b", to(pod, "b"))
			other := pod.with(func(s *spec) { s.src = ip("c") })
			b.drop("c", other, ReasonServiceSource)
			b.apply(podNet(services, only("10.0.0.1/32", "fd00::1/128"), hosts(ip("world"))))
			b.pass("host", s, "b", to(s, "b"))
		})
	})
}

// TestAffinity: a client keeps its backend for a time after its last connection.
func TestAffinity(t *testing.T) {
	const lasts = time.Minute
	n := weighted(lasts, 1, 1, 1, 1)
	client := func(i int) packet.Tuple {
		return packet.Tuple{Src: packet.Addr4(10<<24 | uint32(i)), Dst: addr("10.96.0.1"), SrcPort: uint16(i), DstPort: 80, Proto: 6}
	}
	at := func(a *affinities, d time.Duration, i int) packet.Addr {
		return a.backend(n, &n.Choice, client(i), uint32(d/time.Millisecond), true).Addr
	}
	t.Run("as long as it comes back in time", func(t *testing.T) {
		a := &affinities{}
		for i := range 50 {
			first := at(a, 0, i)
			for d := lasts; d < 20*lasts; d += lasts {
				if at(a, d, i) != first {
					t.Fatalf("client %d has another backend after %s, coming back each %s", i, d, lasts)
				}
			}
		}
	})
	t.Run("and not for ever", func(t *testing.T) {
		a := &affinities{}
		moved := 0
		for i := range 100 {
			first := at(a, 0, i)
			if at(a, lasts+time.Millisecond, i) != first {
				moved++
			}
		}
		if moved < 50 || moved > 95 {
			t.Errorf("%d of 100 clients have another one of 4 backends", moved)
		}
	})
	t.Run("a backend that goes", func(t *testing.T) {
		a := &affinities{}
		first := at(a, 0, 1)
		var rest []config.Backend
		for _, b := range n.Backends {
			if b.Addr != first {
				rest = append(rest, b)
			}
		}
		fewer := config.NewChoice(rest, false)
		next := a.backend(n, &fewer, client(1), 1, true).Addr
		if next == first {
			t.Fatal("it is still given out")
		}
		if at(a, time.Second, 1) != next {
			t.Error("the client goes back when it comes back")
		}
	})
	t.Run("looking remembers nothing", func(t *testing.T) {
		a := &affinities{}
		a.backend(n, &n.Choice, client(1), 0, false)
		if len(a.known) != 0 {
			t.Errorf("%d are remembered", len(a.known))
		}
	})
	t.Run("bounded", func(t *testing.T) {
		a := &affinities{}
		for i := range maxAffinities + 1000 {
			at(a, 0, i)
		}
		if len(a.known) != maxAffinities {
			t.Errorf("%d are remembered, at most %d may be", len(a.known), maxAffinities)
		}
		at(a, 2*lasts, maxAffinities+1)
		if len(a.known) != 1 {
			t.Errorf("%d are remembered after all but one have ended", len(a.known))
		}
	})
	t.Run("in the forwarder, through a change", func(t *testing.T) {
		families(t, func(t *testing.T, ip func(string) string) {
			many := func(extra ...*dataplanev1.Backend) func(*dataplanev1.Snapshot) {
				return func(s *dataplanev1.Snapshot) {
					services(s)
					backends(ip, append([]*dataplanev1.Backend{backend("b", 8080, 0), backend("c", 8080, 0)}, extra...)...)(s)
					for _, n := range s.DestinationNats {
						n.AffinitySeconds = 60
					}
				}
			}
			b := newBed(t, podNet(many()))
			var first string
			for i := range uint16(20) {
				s := udp(ip("a"), ip("svc")).with(func(s *spec) { s.sport, s.dport = 1000+i, 80 })
				sent := b.send("a", s)
				if len(sent) != 1 {
					t.Fatalf("%d packets", len(sent))
				}
				name := b.f.tables.Load().Port(sent[0].Port).Name
				if first == "" {
					first = name
				}
				if name != first {
					t.Fatalf("connection %d goes to %s, the first one to %s", i, name, first)
				}
				b.apply(podNet(many(backend("b", 9000+uint32(i), 0))))
			}
		})
	})
}
