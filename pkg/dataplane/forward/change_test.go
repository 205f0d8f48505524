// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"slices"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// without takes a port out of a configuration.
func without(names ...string) func(*dataplanev1.Snapshot) {
	return func(s *dataplanev1.Snapshot) {
		s.Ports = slices.DeleteFunc(s.Ports, func(p *dataplanev1.Port) bool { return slices.Contains(names, p.Name) })
	}
}

// TestPortChange: ports come, go, and come again.
func TestPortChange(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		t.Run("a port that is removed is not reached and does not reach", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b"))
			b.forward("a", s, "b")
			gone := b.rx("b", s.answer())
			b.apply(podNet(without("b")))
			b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
			if sent := b.dropped(gone, ReasonUnknownPort); len(sent) != 0 {
				t.Error("sent")
			}
		})
		t.Run("a port comes back under another number", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b"))
			b.forward("a", s, "b")
			b.forward("b", s.answer(), "a")
			old := b.port("b")
			b.apply(podNet(without("b")))
			b.dev.NextPort(77)
			b.apply(podNet())
			if b.port("b") == old {
				t.Fatal("the port has its old number")
			}
			b.forward("a", s, "b")
			b.forward("b", s.answer(), "a")
			rx := b.rx("b", s.answer())
			rx.Port = old
			if sent := b.dropped(rx, ReasonUnknownPort); len(sent) != 0 {
				t.Error("sent")
			}
		})
		t.Run("the opener comes back under another number, and the answer is first", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b"))
			b.forward("a", s, "b")
			b.dev.NextPort(77)
			b.apply(podNet(without("a")))
			b.apply(podNet())
			b.conns(0) // what was the old pod's is gone with it
			b.forward("b", s.answer(), "a")
		})
		t.Run("the number is another pod's now", func(t *testing.T) {
			b := newBed(t, podNet(without("c")))
			s := udp(ip("b"), ip("a"))
			b.forward("b", s, "a")
			b.forward("a", s.answer(), "b")
			old := b.port("a")
			b.apply(podNet(without("a", "c")))
			b.apply(podNet(without("a"))) // c gets the number
			if b.port("c") != old {
				t.Fatalf("c has number %d, want %d", b.port("c"), old)
			}
			// b is told that its peer is gone, and not that b is an impostor.
			b.refuse("b", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
			b.forward("c", udp(ip("c"), ip("b")), "b")
		})
		t.Run("an address moves to another pod's port", func(t *testing.T) {
			b := newBed(t, podNet(services))
			s := tcp(ip("a"), ip("svc"), packet.TCPAck)
			b.pass("a", s, "b", s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 }))
			b.apply(podNet(services, func(s *dataplanev1.Snapshot) {
				s.Ports[0].Addresses, s.Ports[2].Addresses = s.Ports[2].Addresses, s.Ports[0].Addresses
			}))
			answer := spec{src: ip("b"), dst: ip("a"), proto: packet.ProtoTCP, sport: 8080, dport: 40000, tcp: packet.TCPAck}
			b.pass("b", answer, "c", answer.hop().with(func(s *spec) { s.src, s.sport = ip("svc"), 80 }))
			b.pass("c", s, "b", s.hop().with(func(s *spec) { s.dst, s.dport = ip("b"), 8080 }))
			b.drop("a", s, ReasonSpoofed)
			b.conns(1)
		})
		t.Run("a removed port's connections are not charged to its number's next port", func(t *testing.T) {
			b := newBedOn(t, podNet(), memdev.Config{}, 4096)
			const conns = 2*forgetAtATime + 5
			for n := range uint16(conns) {
				b.dev.Receive(b.rx("a", udp(ip("a"), ip("b")).with(func(s *spec) { s.sport = n })).Rx)
				turn(b, b.w)
			}
			b.dev.Sent()
			b.conns(conns)
			b.w.conns.Len()
			id := b.port("a")
			b.apply(podNet(without("a")))
			for b.w.mail.pending.Load() {
				before := b.w.conns.Len()
				turn(b, b.w)
				if n := before - b.w.conns.Len(); n > forgetAtATime {
					t.Errorf("%d connections were forgotten in one go", n)
				}
			}
			if n := b.w.conns.PortLen(id); n != 0 {
				t.Errorf("%d connections are left", n)
			}
			if c := b.w.ports[id]; c != nil {
				t.Errorf("counters are left: %+v", c)
			}
		})
	})
	t.Run("the host's other port takes over", func(t *testing.T) {
		two := func(s *dataplanev1.Snapshot) {
			s.Ports = append(s.Ports, &dataplanev1.Port{Name: "uplink", Kind: dataplanev1.Port_HOST, Ifname: "netio1", Mtu: 9000})
		}
		moved := func(s *dataplanev1.Snapshot) {
			for _, r := range s.Routes[:2] {
				r.Port = "uplink"
			}
		}
		masquerade := func(s *dataplanev1.Snapshot) {
			s.SourceNats = []*dataplanev1.SourceNat{{Name: "masq", Source: "10.0.0.0/24", Addresses: []string{"192.0.2.1"}}}
		}
		b := newBed(t, podNet(two, masquerade))
		s := udp("10.0.0.1", "198.51.100.7")
		out := s.hop().with(func(s *spec) { s.src = "192.0.2.1" })
		b.pass("a", s, "host", out)
		b.apply(podNet(two, masquerade, moved))
		// The answer, too, comes the new way; what comes the old way changes nothing.
		answer := s.answer().with(func(s *spec) { s.dst = "192.0.2.1" })
		b.drop("host", answer, ReasonSpoofed)
		b.pass("uplink", answer, "a", answer.hop().with(func(s *spec) { s.dst = "10.0.0.1" }))
		b.pass("a", s, "uplink", out)
	})
}

// TestApplyPorts: what Apply makes of ports that the device will not make.
func TestApplyPorts(t *testing.T) {
	refuse := func(name string) func(op, port string) error {
		return func(op, port string) error {
			if op == "add" && port == name {
				return errors.New("no such namespace")
			}
			return nil
		}
	}
	t.Run("one named in a change takes all back", func(t *testing.T) {
		b := newBed(t, podNet(without("b", "c")))
		b.dev.FailPorts(refuse("c"))
		before, tables := b.f.Snapshot(), b.f.tables.Load()
		_, err := b.f.Apply(t.Context(), podNet(), map[string]bool{"b": true, "c": true})
		if err == nil || b.f.Snapshot() != before || b.f.tables.Load() != tables {
			t.Errorf("error %v, and something has changed", err)
		}
		ports, _ := b.dev.Ports()
		if len(ports) != 2 {
			t.Errorf("%d ports, want the two that there were", len(ports))
		}
	})
	t.Run("one of a snapshot is reported and tried again", func(t *testing.T) {
		b := newBed(t, podNet(without("b", "c")))
		b.dev.FailPorts(refuse("c"))
		states := b.apply(podNet())
		if len(states) != 4 || states[2].Name != "c" || states[2].Error == "" || states[2].Id != 0 || states[1].Error != "" {
			t.Errorf("states %v", states)
		}
		s := udp("10.0.0.1", "10.0.0.3")
		b.refuse("a", s, ReasonNoRoute, icmpError(s, packet.NetUnreachable, 0))
		b.dev.FailPorts(nil)
		states = b.apply(podNet())
		if states[2].Error != "" || states[2].Id == 0 || !states[2].Up || states[2].Ifindex == 0 {
			t.Errorf("states %v", states)
		}
		b.forward("a", s, "c")
	})
	t.Run("one that will not go is tried again", func(t *testing.T) {
		b := newBed(t, podNet())
		b.dev.FailPorts(func(op, port string) error {
			if op == "remove" {
				return errors.New("busy")
			}
			return nil
		})
		b.apply(podNet(without("c")))
		if ports, _ := b.dev.Ports(); len(ports) != 4 {
			t.Errorf("%d ports", len(ports))
		}
		b.dev.FailPorts(nil)
		b.apply(podNet(without("c")))
		if ports, _ := b.dev.Ports(); len(ports) != 3 {
			t.Errorf("%d ports", len(ports))
		}
	})
	t.Run("quotas follow", func(t *testing.T) {
		b := newBed(t, podNet())
		quota := func(n uint32) *dataplanev1.Snapshot {
			return podNet(func(s *dataplanev1.Snapshot) { s.Ports[1].NbufQuota = n })
		}
		b.apply(quota(100))
		u := b.dev.PortUpdates()
		if len(u) != 1 || uint32(u[0].ID) != b.port("b") || u[0].Quota == nil || *u[0].Quota != 100 {
			t.Errorf("updates %+v", u)
		}
		b.apply(quota(100))
		b.apply(quota(0))
		if u := b.dev.PortUpdates(); len(u) != 0 {
			t.Errorf("updates %+v", u)
		}
		b.dev.FailPorts(func(op, _ string) error {
			if op == "set" {
				return errors.New("out of range")
			}
			return nil
		})
		if states := b.apply(quota(5)); states[1].Error == "" {
			t.Error("the port's state does not tell that its quota could not be set")
		}
	})
}

// TestKeptPorts: a new process finds the ports of the one before.
func TestKeptPorts(t *testing.T) {
	dev := memdev.New(t, memdev.Config{})
	for _, c := range []device.PortConfig{
		{Name: "a", IfName: "eth0", NetNS: "/run/netns/a"},
		{Name: "b", IfName: "eth0", NetNS: "/run/netns/another", MTU: 1500},
		{Name: "host", IfName: "netio0", MTU: 9000},
		{Name: "stray", IfName: "eth0", NetNS: "/run/netns/stray"},
	} {
		if _, err := dev.AddPort(c); err != nil {
			t.Fatal(err)
		}
	}
	f, err := New(Options{Device: dev, MaxConnections: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	if ports, _ := dev.Ports(); len(ports) != 4 {
		t.Fatalf("%d ports before a configuration, want all that there were", len(ports))
	}
	f.apply(t, podNet())
	ports, _ := dev.Ports()
	got := map[string]device.PortConfig{}
	ids := map[string]device.PortID{}
	for _, p := range ports {
		got[p.Name], ids[p.Name] = p.PortConfig, p.ID
	}
	if len(got) != 4 || ids["a"] != 1 {
		t.Errorf("ports %+v: want a as it was, and b, c and host", ports)
	}
	if got["b"].NetNS != "/run/netns/b" || got["host"].MTU != 1500 {
		t.Errorf("b %+v, host %+v: want them replaced by the ones configured", got["b"], got["host"])
	}
	// Not again.
	f.apply(t, podNet())
	after, _ := dev.Ports()
	if !slices.Equal(ports, after) {
		t.Errorf("ports %+v, then %+v", ports, after)
	}
}
