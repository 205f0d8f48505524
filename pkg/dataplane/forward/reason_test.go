// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"strings"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// TestReasons drops a packet for every reason that there is, and finds it
// counted for its port and no other.
func TestReasons(t *testing.T) {
	ok := udp("10.0.0.1", "10.0.0.2")
	// raw is a packet with some of its bytes overwritten, its IPv4 header sum put right.
	raw := func(s spec, change func(b []byte)) []byte {
		b := s.bytes()
		change(b)
		if b[0]>>4 == 4 {
			b[10], b[11] = 0, 0
			sum := ^uint16(foldSum(onesSum(b[:20])))
			b[10], b[11] = byte(sum>>8), byte(sum)
		}
		return b
	}
	v6 := udp("fd00::1", "fd00::2")
	scenarios := map[Reason]func(b *bed) memdev.Rx{
		Reason(packet.TooShort):     func(b *bed) memdev.Rx { return memdev.Rx{Data: ok.bytes()[:19]} },
		Reason(packet.BadVersion):   func(b *bed) memdev.Rx { return memdev.Rx{Data: raw(ok, func(b []byte) { b[0] = 0x55 })} },
		Reason(packet.BadHeaderLen): func(b *bed) memdev.Rx { return memdev.Rx{Data: raw(ok, func(b []byte) { b[0] = 0x44 })} },
		Reason(packet.BadTotalLen):  func(b *bed) memdev.Rx { return memdev.Rx{Data: raw(ok, func(b []byte) { b[3] = 200 })} },
		Reason(packet.BadChecksum): func(b *bed) memdev.Rx {
			data := ok.bytes()
			data[11]++
			return memdev.Rx{Data: data}
		},
		Reason(packet.BadOption): func(b *bed) memdev.Rx {
			return memdev.Rx{Data: ok.with(func(s *spec) { s.options = []byte{7, 99, 0, 0} }).bytes()}
		},
		Reason(packet.SourceRoute): func(b *bed) memdev.Rx {
			return memdev.Rx{Data: ok.with(func(s *spec) { s.options = []byte{131, 3, 4, 0} }).bytes()}
		},
		Reason(packet.BadExtHeader): func(b *bed) memdev.Rx { return memdev.Rx{Data: raw(v6, func(b []byte) { b[6], b[41] = 60, 99 })} },
		Reason(packet.BadAddress): func(b *bed) memdev.Rx {
			return memdev.Rx{Data: raw(v6, func(b []byte) { clear(b[24:34]); b[34], b[35] = 0xff, 0xff })}
		},
		Reason(packet.BadFragment): func(b *bed) memdev.Rx {
			return memdev.Rx{Data: raw(ok, func(b []byte) { b[6], b[7] = 0x3f, 0xff })}
		},
		Reason(packet.TinyFragment): func(b *bed) memdev.Rx {
			return memdev.Rx{Data: rawFragment(tcp("10.0.0.1", "10.0.0.2", packet.TCPSyn), make([]byte, 8), true)}
		},
		Reason(packet.BadL4):     func(b *bed) memdev.Rx { return memdev.Rx{Data: raw(ok, func(b []byte) { b[25] = 7 })} },
		Reason(packet.Truncated): func(b *bed) memdev.Rx { return memdev.Rx{Data: ok.bytes(), Park: 24} },
		Reason(packet.NoInner): func(b *bed) memdev.Rx {
			return memdev.Rx{Data: spec{src: "10.0.0.1", dst: "10.0.0.2", proto: packet.ProtoICMP, typ: 3, size: 10}.bytes()}
		},
		ReasonUnknownPort:  func(b *bed) memdev.Rx { return memdev.Rx{Port: 500, Data: ok.bytes()} },
		ReasonSpoofed:      func(b *bed) memdev.Rx { return memdev.Rx{Data: ok.answer().bytes()} },
		ReasonMulticast:    func(b *bed) memdev.Rx { return memdev.Rx{Data: udp("10.0.0.1", "224.0.0.1").bytes()} },
		ReasonMartian:      func(b *bed) memdev.Rx { return memdev.Rx{Data: udp("10.0.0.1", "127.0.0.1").bytes()} },
		ReasonNoConnection: func(b *bed) memdev.Rx { return memdev.Rx{Data: tcp("10.0.0.1", "10.0.0.2", packet.TCPRst).bytes()} },
		ReasonUnrelatedICMP: func(b *bed) memdev.Rx {
			return memdev.Rx{Data: errorFrom("10.0.0.1", "10.0.0.2", ok.answer(), packet.PortUnreachable).bytes()}
		},
		ReasonFragmentOrder: func(b *bed) memdev.Rx { return memdev.Rx{Data: ok.with(func(s *spec) { s.off = 64 }).bytes()} },
		ReasonFragmentFull: func(b *bed) memdev.Rx {
			for i := range b.w.frags.entries { // each of another port
				b.w.frags.entries[i] = fragment{live: true, in: 1<<20 + uint32(i), expires: b.w.ms + 1000}
			}
			b.Cleanup(func() { b.w.frags = fragments{} })
			return memdev.Rx{Data: cut(ok, 1, 16)[0].raw}
		},
		ReasonFragmentNAT: func(b *bed) memdev.Rx {
			s := spec{src: "10.0.0.1", dst: "10.96.0.9", proto: packet.ProtoSCTP, sport: 7, dport: 80, size: 100}
			return memdev.Rx{Data: cut(s, 1, 64)[0].raw}
		},
		ReasonNoBackend:     func(b *bed) memdev.Rx { return memdev.Rx{Data: udp("10.0.0.1", "10.96.0.8").bytes()} },
		ReasonNoRoute:       func(b *bed) memdev.Rx { return memdev.Rx{Data: udp("10.0.0.1", "10.0.0.99").bytes()} },
		ReasonLoop:          func(b *bed) memdev.Rx { return memdev.Rx{Data: udp("10.0.0.1", "10.0.0.1").bytes()} },
		ReasonPolicyEgress:  func(b *bed) memdev.Rx { return memdev.Rx{Data: udp("10.0.0.1", "198.51.100.1").bytes()} },
		ReasonPolicyIngress: func(b *bed) memdev.Rx { return memdev.Rx{Data: udp("10.0.0.1", "10.0.0.3").bytes()} },
		ReasonNATExhausted: func(b *bed) memdev.Rx {
			s := udp("10.0.0.1", "203.0.113.1")
			b.send("a", s)
			return memdev.Rx{Data: s.with(func(s *spec) { s.sport++ }).bytes()}
		},
		ReasonTTL: func(b *bed) memdev.Rx { return memdev.Rx{Data: ok.with(func(s *spec) { s.ttl = 1 }).bytes()} },
		ReasonTooBig: func(b *bed) memdev.Rx {
			return memdev.Rx{Data: ok.with(func(s *spec) { s.size, s.df = 1600, true }).bytes()}
		},
		ReasonTableFull: func(b *bed) memdev.Rx {
			for i := range uint16(64) {
				b.send("a", tcp("10.0.0.1", "10.0.0.2", packet.TCPAck).with(func(s *spec) { s.sport = i }))
			}
			return memdev.Rx{Data: ok.bytes()}
		},
		ReasonNoLocalBackend: func(b *bed) memdev.Rx {
			return memdev.Rx{Data: udp("10.0.0.1", "10.96.0.8").with(func(s *spec) { s.dport = 54 }).bytes()}
		},
		ReasonServiceSource: func(b *bed) memdev.Rx {
			return memdev.Rx{Data: udp("10.0.0.1", "10.96.0.8").with(func(s *spec) { s.dport = 55 }).bytes()}
		},
		ReasonTunnelEnd: func(b *bed) memdev.Rx {
			b.apply(podNet(tunnels))
			return memdev.Rx{Port: b.port("host"), Data: inTunnel("192.0.2.99", "192.0.2.1", udp("10.1.0.1", "10.0.0.1")).bytes()}
		},
		ReasonTunnelMalformed: func(b *bed) memdev.Rx {
			b.apply(podNet(tunnels))
			s := inTunnel("192.0.2.2", "192.0.2.1", udp("10.1.0.1", "10.0.0.1"))
			s.data[6]++ // another network identifier
			return memdev.Rx{Port: b.port("host"), Data: s.bytes()}
		},
		ReasonTunnelCongestion: func(b *bed) memdev.Rx {
			b.apply(podNet(tunnels))
			s := inTunnel("192.0.2.2", "192.0.2.1", udp("10.1.0.1", "10.0.0.1"))
			s.tos = 3
			return memdev.Rx{Port: b.port("host"), Data: s.bytes()}
		},
		ReasonPortLimit: func(b *bed) memdev.Rx {
			b.apply(podNet(func(s *dataplanev1.Snapshot) { s.Settings.MaxConnectionsPerPort = 1 }))
			b.send("a", tcp("10.0.0.1", "10.0.0.2", packet.TCPAck))
			return memdev.Rx{Data: ok.bytes()}
		},
	}
	unreachable := map[Reason]string{
		ReasonNone:                    "it is none",
		Reason(packet.DontFragment):   "such packets are too-big",
		Reason(packet.CannotFragment): "no MTU may be so small: package config",
		ReasonDevice:                  "is the device's to tell: TestDeviceDrops",
	}
	snap := podNet(sets, func(s *dataplanev1.Snapshot) {
		s.DestinationNats = []*dataplanev1.DestinationNat{
			{Name: "none", Address: "10.96.0.8", Protocol: 17, Port: 53},
			{Name: "not here", Address: "10.96.0.8", Protocol: 17, Port: 54, Silent: true},
			{Name: "not from there", Address: "10.96.0.8", Protocol: 17, Port: 55, Sources: []string{"192.0.2.0/24"}},
			{Name: "sctp", Address: "10.96.0.9", Protocol: packet.ProtoSCTP, Port: 80, Backends: []*dataplanev1.Backend{{Address: "10.0.0.2", Port: 8080}}},
		}
		s.SourceNats = []*dataplanev1.SourceNat{{Name: "one", Source: "10.0.0.1/32", DestinationsExcept: []string{"10.0.0.0/8", "198.51.100.0/24"}, Addresses: []string{"192.0.2.1"}, FirstPort: 2000, LastPort: 2000}}
	}, policy("out", "a", egressRule("no", deny, "world")), policy("in", "c", isolateIngress))
	for r := range ReasonCount {
		scenario := scenarios[r]
		if why := unreachable[r]; (scenario == nil) == (why == "") {
			t.Errorf("%s: want a packet that is dropped for it, or why there is none", r)
		}
		if scenario == nil {
			continue
		}
		t.Run(r.String(), func(t *testing.T) {
			b := newBedOn(t, snap, memdev.Config{}, 64)
			rx := scenario(b)
			if rx.Port == 0 {
				rx.Port = b.port("a")
			}
			b.dev.Sent()
			b.dropped(received{rx}, r)
		})
	}
}

// TestDeviceDrops: packets that the device lost are told, too.
func TestDeviceDrops(t *testing.T) {
	b := newBed(t, podNet())
	b.dev.Publish(0, abi.Entry(abi.InDrops, 7), abi.Entry(abi.InPort, 2), abi.Entry(abi.InQoS, 2))
	b.settle()
	if n := b.w.counters(0).Drops[ReasonDevice]; n != 7 || b.w.Stats.DeviceDrops != 7 {
		t.Errorf("%d drops, %d in all, want 7", n, b.w.Stats.DeviceDrops)
	}
}

// TestReasonTexts: every reason has a name that netioctl can show, of its own,
// and a sentence that says more.
func TestReasonTexts(t *testing.T) {
	seen := map[string]Reason{}
	for r := Reason(1); r < ReasonCount; r++ {
		name, text := r.String(), r.Description()
		if name == "" || strings.ContainsAny(name, " _") || strings.ToLower(name) != name {
			t.Errorf("reason %d has the name %q", r, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("reasons %d and %d are both called %s", r, other, name)
		}
		seen[name] = r
		if len(text) < 20 || strings.HasSuffix(text, ".") {
			t.Errorf("%s: description %q", name, text)
		}
		if ReasonNames()[r] != name {
			t.Errorf("%s is called %s by ReasonNames", name, ReasonNames()[r])
		}
	}
	if ReasonCount.String() != "unknown" || ReasonCount.Description() != "unknown reason" {
		t.Error("a number that is no reason has a name")
	}
}

// TestDenied: a device that has no nbufs is not asked all the time.
func TestDenied(t *testing.T) {
	b := newBedOn(t, podNet(), memdev.Config{Nbufs: 64, Reserve: 65}, 64)
	want := func(n int) {
		t.Helper()
		if got := b.dev.Counts().Want; got != n {
			t.Errorf("%d nbufs were asked for, want %d", got, n)
		}
	}
	want(stockFill)
	for range 1000 {
		turn(b, b.w)
	}
	want(stockFill)
	b.now += wantPause - time.Microsecond
	b.forward("a", udp("10.0.0.1", "10.0.0.2"), "b")
	want(stockFill)
	b.now += time.Microsecond
	b.forward("a", udp("10.0.0.1", "10.0.0.2"), "b")
	want(2 * stockFill)
}
