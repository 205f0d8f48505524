// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func TestAntiSpoofing(t *testing.T) {
	families(t, func(t *testing.T, ip func(string) string) {
		t.Run("a pod with another pod's address", func(t *testing.T) {
			b := newBed(t, podNet())
			b.drop("a", udp(ip("b"), ip("c")), ReasonSpoofed)
		})
		t.Run("a pod with an address of the world", func(t *testing.T) {
			b := newBed(t, podNet())
			b.drop("a", udp(ip("world"), ip("b")), ReasonSpoofed)
		})
		t.Run("a pod with the router's address", func(t *testing.T) {
			b := newBed(t, podNet())
			b.drop("a", udp(ip("router"), ip("b")), ReasonSpoofed)
		})
		t.Run("the host with a pod's address", func(t *testing.T) {
			b := newBed(t, podNet())
			b.drop("host", udp(ip("a"), ip("b")), ReasonSpoofed)
		})
		t.Run("a flow that is known, from another pod", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b"))
			b.forward("a", s, "b")
			b.drop("c", s, ReasonSpoofed)
			b.drop("host", s, ReasonSpoofed)
			b.forward("a", s, "b")
			if b.w.conns.PortLen(b.port("c")) != 0 {
				t.Error("the impostor is charged for a connection")
			}
		})
		t.Run("an answer that another pod gives", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b"))
			b.forward("a", s, "b")
			b.drop("c", s.answer(), ReasonSpoofed)
			b.forward("b", s.answer(), "a")
		})
		t.Run("an answer of the world that a pod gives", func(t *testing.T) {
			b := newBed(t, podNet())
			s := tcp(ip("a"), ip("world"), packet.TCPSyn)
			b.forward("a", s, "host")
			b.drop("b", s.answer().with(func(s *spec) { s.tcp |= packet.TCPAck }), ReasonSpoofed)
		})
		t.Run("an answer that comes from another port of the host", func(t *testing.T) {
			b := newBed(t, podNet(func(s *dataplanev1.Snapshot) {
				s.Ports = append(s.Ports, &dataplanev1.Port{Name: "uplink", Kind: dataplanev1.Port_HOST, Ifname: "netio1"})
			}))
			s := udp(ip("a"), ip("world"))
			b.forward("a", s, "host")
			b.drop("uplink", s.answer(), ReasonSpoofed)
			// Neither the first nor a later look after a change lets it in.
			b.apply(b.f.Snapshot())
			b.drop("uplink", s.answer(), ReasonSpoofed)
			b.forward("host", s.answer(), "a")
			b.conns(1)
		})
		t.Run("ICMP errors and fragments are checked as well", func(t *testing.T) {
			b := newBed(t, podNet())
			s := udp(ip("a"), ip("b"))
			b.forward("a", s, "b")
			e := icmpError(s, packet.PortUnreachable, 0)
			e.src = ip("c")
			b.drop("b", e, ReasonSpoofed)
			b.drop("a", s.with(func(s *spec) { s.src, s.off, s.id = ip("b"), 64, 9 }), ReasonSpoofed)
		})
		t.Run("a pod with several addresses", func(t *testing.T) {
			b := newBed(t, podNet(func(s *dataplanev1.Snapshot) {
				s.Ports[0].Addresses = append(s.Ports[0].Addresses, "10.0.7.7", "fd00::77")
			}))
			src := "10.0.7.7"
			if !v4(ip("a")) {
				src = "fd00::77"
			}
			b.forward("a", udp(src, ip("b")), "b")
			b.drop("c", udp(src, ip("b")), ReasonSpoofed)
		})
		t.Run("no answer goes to a spoofed source", func(t *testing.T) {
			b := newBed(t, podNet())
			b.drop("a", udp(ip("b"), ip("nobody")), ReasonSpoofed)
			b.drop("a", udp(ip("b"), ip("c")).with(func(s *spec) { s.ttl = 1 }), ReasonSpoofed)
		})
	})
}

func TestAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		from, src, dst string
		want           Reason
	}{
		"multicast":                  {"a", "10.0.0.1", "224.0.0.251", ReasonMulticast},
		"multicast IPv6":             {"a", "fd00::1", "ff02::fb", ReasonMulticast},
		"limited broadcast":          {"a", "10.0.0.1", "255.255.255.255", ReasonMulticast},
		"reserved destination":       {"a", "10.0.0.1", "240.0.0.1", ReasonMulticast},
		"loopback":                   {"a", "10.0.0.1", "127.0.0.1", ReasonMartian},
		"loopback IPv6":              {"a", "fd00::1", "::1", ReasonMartian},
		"unspecified":                {"a", "10.0.0.1", "0.0.0.0", ReasonMartian},
		"unspecified IPv6":           {"a", "fd00::1", "::", ReasonMartian},
		"this network":               {"a", "10.0.0.1", "0.1.2.3", ReasonMartian},
		"link-local IPv6":            {"a", "fd00::1", "fe80::1", ReasonMartian},
		"from loopback":              {"host", "127.0.0.1", "10.0.0.1", ReasonMartian},
		"from loopback IPv6":         {"host", "::1", "fd00::1", ReasonMartian},
		"from nowhere":               {"host", "0.0.0.0", "10.0.0.1", ReasonMartian},
		"from nowhere IPv6":          {"host", "::", "fd00::1", ReasonMartian},
		"from multicast":             {"host", "224.0.0.1", "10.0.0.1", ReasonMartian},
		"from multicast IPv6":        {"host", "ff02::1", "fd00::1", ReasonMartian},
		"from broadcast":             {"host", "255.255.255.255", "10.0.0.1", ReasonMartian},
		"from link-local IPv6":       {"host", "fe80::2", "fd00::1", ReasonMartian},
		"a pod without an address":   {"a", "0.0.0.0", "10.0.0.2", ReasonMartian},
		"a pod from link-local IPv6": {"a", "fe80::2", "fd00::2", ReasonMartian},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, podNet())
			b.drop(c.from, udp(c.src, c.dst), c.want)
			b.drop(c.from, udp(c.src, c.dst).with(func(s *spec) { s.ttl = 1 }), c.want)
			b.conns(0)
		})
	}
	t.Run("IPv4 link-local is routed, as metadata services live there", func(t *testing.T) {
		b := newBed(t, podNet())
		s := tcp("10.0.0.1", "169.254.169.254", packet.TCPSyn)
		b.forward("a", s, "host")
		b.forward("host", s.answer().with(func(s *spec) { s.tcp |= packet.TCPAck }), "a")
	})
}

func TestUnknownPort(t *testing.T) {
	b := newBed(t, podNet())
	rx := b.rx("a", udp("10.0.0.1", "10.0.0.2"))
	for _, port := range []uint32{0, 77, 1023} {
		rx.Port = port
		if sent := b.dropped(rx, ReasonUnknownPort); len(sent) != 0 {
			t.Errorf("port %d: sent", port)
		}
	}
	// Beyond the ports of the area: counted as of no port.
	rx.Port = 1 << 30
	b.dev.Receive(rx.Rx)
	b.settle()
	if n := b.w.counters(0).Drops[ReasonUnknownPort]; n != 2 {
		t.Errorf("%d drops of no port, want 2", n)
	}
}
