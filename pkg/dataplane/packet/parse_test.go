// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

const (
	a4, b4 = "10.1.2.3", "192.0.2.7"
	a6, b6 = "2001:db8::1", "fd00:1:2::7"
)

func addr(s string) Addr { return AddrFrom(netip.MustParseAddr(s)) }

func TestParseReadsHeaders(t *testing.T) {
	hop := []byte{ProtoTCP, 0, 1, 4, 0, 0, 0, 0}
	chain := append([]byte{protoDestOpts, 0, 1, 4, 0, 0, 0, 0}, append([]byte{ProtoAH, 1, 1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		[]byte{ProtoUDP, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0}...)...)
	atomic := []byte{ProtoUDP, 0, 0, 0, 1, 2, 3, 4}
	first := []byte{ProtoUDP, 0, 0, 1, 1, 2, 3, 4}
	later := []byte{ProtoUDP, 0, 0, 16, 1, 2, 3, 4}
	p := make([]byte, 16)
	tests := map[string]struct {
		spec spec
		want Info
	}{
		"TCP over IPv4": {
			spec{src: a4, dst: b4, proto: ProtoTCP, sport: 1000, dport: 80, flags: TCPSyn, tos: 0x2e, id: 5, fragField: 0x4000},
			Info{Tuple: Tuple{addr(a4), addr(b4), 1000, 80, ProtoTCP}, Family: 4, TTL: 64, TOS: 0x2e, TCPFlags: TCPSyn, DontFrag: true, FragID: 5, L4Off: 20, HdrLen: 40, TotalLen: 40},
		},
		"TCP over IPv6": {
			spec{src: a6, dst: b6, proto: ProtoTCP, sport: 1000, dport: 80, flags: TCPSyn | TCPAck, tos: 0xb8, payload: p},
			Info{Tuple: Tuple{addr(a6), addr(b6), 1000, 80, ProtoTCP}, Family: 6, TTL: 64, TOS: 0xb8, TCPFlags: TCPSyn | TCPAck, DontFrag: true, L4Off: 40, HdrLen: 60, TotalLen: 76},
		},
		"TCP with options": {
			spec{src: a4, dst: b4, proto: ProtoTCP, rawL4: []byte{0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 6 << 4, 0x10, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 9}},
			Info{Tuple: Tuple{addr(a4), addr(b4), 1, 2, ProtoTCP}, Family: 4, TTL: 64, TCPFlags: TCPAck, L4Off: 20, HdrLen: 44, TotalLen: 45},
		},
		"UDP with IPv4 options": {
			spec{src: a4, dst: b4, proto: ProtoUDP, sport: 53, dport: 53, options: []byte{1, 7, 7, 4, 0, 0, 0, 0}},
			Info{Tuple: Tuple{addr(a4), addr(b4), 53, 53, ProtoUDP}, Family: 4, TTL: 64, L4Off: 28, HdrLen: 36, TotalLen: 36},
		},
		"echo request": {
			spec{src: a4, dst: b4, proto: ProtoICMP, sport: 77, dport: 8 << 8},
			Info{Tuple: Tuple{addr(a4), addr(b4), 77, 8 << 8, ProtoICMP}, Family: 4, TTL: 64, ICMPType: 8, L4Off: 20, HdrLen: 28, TotalLen: 28},
		},
		"echo reply over IPv6": {
			spec{src: a6, dst: b6, proto: ProtoICMPv6, sport: 77, dport: 129 << 8},
			Info{Tuple: Tuple{addr(a6), addr(b6), 77, 129 << 8, ProtoICMPv6}, Family: 6, TTL: 64, ICMPType: 129, DontFrag: true, L4Off: 40, HdrLen: 48, TotalLen: 48},
		},
		"ICMP error": {
			spec{src: a4, dst: b4, proto: ProtoICMP, sport: 77, dport: 3<<8 | 4},
			Info{Tuple: Tuple{addr(a4), addr(b4), 0, 3<<8 | 4, ProtoICMP}, Family: 4, TTL: 64, ICMPType: 3, ICMPCode: 4, IsICMPError: true, L4Off: 20, HdrLen: 28, TotalLen: 28},
		},
		"unknown ICMPv6 error": {
			spec{src: a6, dst: b6, proto: ProtoICMPv6, dport: 100 << 8},
			Info{Tuple: Tuple{addr(a6), addr(b6), 0, 100 << 8, ProtoICMPv6}, Family: 6, TTL: 64, ICMPType: 100, IsICMPError: true, DontFrag: true, L4Off: 40, HdrLen: 48, TotalLen: 48},
		},
		"neighbour solicitation has no identifier": {
			spec{src: a6, dst: b6, proto: ProtoICMPv6, sport: 77, dport: 135 << 8},
			Info{Tuple: Tuple{addr(a6), addr(b6), 0, 135 << 8, ProtoICMPv6}, Family: 6, TTL: 64, ICMPType: 135, DontFrag: true, L4Off: 40, HdrLen: 48, TotalLen: 48},
		},
		"SCTP": {
			spec{src: a4, dst: b4, proto: ProtoSCTP, sport: 1, dport: 2, payload: p},
			Info{Tuple: Tuple{addr(a4), addr(b4), 1, 2, ProtoSCTP}, Family: 4, TTL: 64, L4Off: 20, HdrLen: 32, TotalLen: 48},
		},
		"DCCP": {
			spec{src: a4, dst: b4, proto: ProtoDCCP, sport: 1, dport: 2},
			Info{Tuple: Tuple{addr(a4), addr(b4), 1, 2, ProtoDCCP}, Family: 4, TTL: 64, L4Off: 20, HdrLen: 32, TotalLen: 32},
		},
		"GRE has no ports": {
			spec{src: a4, dst: b4, proto: 47, payload: p},
			Info{Tuple: Tuple{addr(a4), addr(b4), 0, 0, 47}, Family: 4, TTL: 64, L4Off: 20, HdrLen: 20, TotalLen: 36},
		},
		"ESP over IPv6": {
			spec{src: a6, dst: b6, proto: ProtoESP, payload: p},
			Info{Tuple: Tuple{addr(a6), addr(b6), 0, 0, ProtoESP}, Family: 6, TTL: 64, DontFrag: true, L4Off: 40, HdrLen: 40, TotalLen: 56},
		},
		"no next header": {
			spec{src: a6, dst: b6, proto: ProtoNoNext, rawL4: []byte{}},
			Info{Tuple: Tuple{addr(a6), addr(b6), 0, 0, ProtoNoNext}, Family: 6, TTL: 64, DontFrag: true, L4Off: 40, HdrLen: 40, TotalLen: 40},
		},
		"first fragment has ports": {
			spec{src: a4, dst: b4, proto: ProtoUDP, sport: 5, dport: 6, fragField: 0x2000, id: 9, payload: p},
			Info{Tuple: Tuple{addr(a4), addr(b4), 5, 6, ProtoUDP}, Family: 4, TTL: 64, IsFragment: true, MoreFrags: true, FragID: 9, L4Off: 20, HdrLen: 28, TotalLen: 44},
		},
		"later fragment has none": {
			spec{src: a4, dst: b4, proto: ProtoUDP, fragField: 0x2002, id: 9, rawL4: p},
			Info{Tuple: Tuple{addr(a4), addr(b4), 0, 0, ProtoUDP}, Family: 4, TTL: 64, IsFragment: true, MoreFrags: true, FragOff: 16, FragID: 9, L4Off: 20, HdrLen: 20, TotalLen: 36},
		},
		"last fragment of odd length": {
			spec{src: a4, dst: b4, proto: ProtoTCP, fragField: 2, id: 9, rawL4: p[:3]},
			Info{Tuple: Tuple{addr(a4), addr(b4), 0, 0, ProtoTCP}, Family: 4, TTL: 64, IsFragment: true, FragOff: 16, FragID: 9, L4Off: 20, HdrLen: 20, TotalLen: 23},
		},
		"hop-by-hop": {
			spec{src: a6, dst: b6, proto: ProtoTCP, sport: 1, dport: 2, extFirst: protoHopByHop, ext: hop},
			Info{Tuple: Tuple{addr(a6), addr(b6), 1, 2, ProtoTCP}, Family: 6, TTL: 64, DontFrag: true, L4Off: 48, HdrLen: 68, TotalLen: 68},
		},
		"destination options, authentication, routing": {
			spec{src: a6, dst: b6, proto: ProtoUDP, sport: 1, dport: 2, extFirst: protoRouting, ext: func() []byte {
				e := append([]byte{}, chain[24:]...) // routing first
				e[0], e[1], e[2], e[3] = protoDestOpts, 1, 2, 1
				e = append(e, chain[:24]...)
				e[16] = ProtoAH
				e[24], e[25] = ProtoUDP, 2
				return e
			}()},
			Info{Tuple: Tuple{addr(a6), addr(b6), 1, 2, ProtoUDP}, Family: 6, TTL: 64, DontFrag: true, L4Off: 80, HdrLen: 88, TotalLen: 88},
		},
		"atomic fragment is whole": {
			spec{src: a6, dst: b6, proto: ProtoUDP, sport: 1, dport: 2, extFirst: protoFragment, ext: atomic},
			Info{Tuple: Tuple{addr(a6), addr(b6), 1, 2, ProtoUDP}, Family: 6, TTL: 64, DontFrag: true, FragID: 0x01020304, L4Off: 48, HdrLen: 56, TotalLen: 56},
		},
		"first fragment over IPv6": {
			spec{src: a6, dst: b6, proto: ProtoUDP, sport: 1, dport: 2, extFirst: protoFragment, ext: first},
			Info{Tuple: Tuple{addr(a6), addr(b6), 1, 2, ProtoUDP}, Family: 6, TTL: 64, IsFragment: true, MoreFrags: true, DontFrag: true, FragID: 0x01020304, L4Off: 48, HdrLen: 56, TotalLen: 56},
		},
		"later fragment over IPv6": {
			spec{src: a6, dst: b6, proto: ProtoUDP, rawL4: p[:5], extFirst: protoFragment, ext: later},
			Info{Tuple: Tuple{addr(a6), addr(b6), 0, 0, ProtoUDP}, Family: 6, TTL: 64, IsFragment: true, DontFrag: true, FragOff: 16, FragID: 0x01020304, L4Off: 48, HdrLen: 48, TotalLen: 53},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := tt.spec.bytes()
			info := Info{Family: 99, IsFragment: true, FragOff: 3} // reused
			if r := Parse(b, len(b), &info); r != OK {
				t.Fatalf("refused: %v", r)
			}
			if info != tt.want {
				t.Errorf("\n got %+v\nwant %+v", info, tt.want)
			}
			// Padding behind the packet changes nothing.
			padded := append(append([]byte{}, b...), make([]byte, 18)...)
			if r := Parse(padded, len(padded), &info); r != OK || info != tt.want {
				t.Errorf("padded: %v, %+v", r, info)
			}
			// A payload that is parked changes nothing either.
			if r := Parse(b[:info.HdrLen], len(b), &info); r != OK || info != tt.want {
				t.Errorf("parked: %v, %+v", r, info)
			}
			// Every shorter nbuf lacks headers.
			for n := range int(info.HdrLen) {
				if r := Parse(b[:n], len(b), &info); r != Truncated {
					t.Errorf("%d bytes: %v, want %v", n, r, Truncated)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tcp4 := spec{src: a4, dst: b4, proto: ProtoTCP, sport: 1, dport: 2}
	udp6 := spec{src: a6, dst: b6, proto: ProtoUDP, sport: 1, dport: 2}
	edit := func(s spec, f func(b []byte)) []byte {
		b := s.bytes()
		f(b)
		if b[0]>>4 == 4 {
			b[10], b[11] = 0, 0
			n := min(max(int(b[0]&15)*4, 20), len(b))
			binary.BigEndian.PutUint16(b[10:], ^goldenSum(b[:n]))
		}
		return b
	}
	ext := func(first uint8, e ...byte) []byte {
		s := udp6
		s.ext, s.extFirst = e, first
		return s.bytes()
	}
	raw := func(proto uint8, field uint16, n int) []byte {
		return spec{src: a4, dst: b4, proto: proto, fragField: field, rawL4: make([]byte, n)}.bytes()
	}
	opts := func(o ...byte) []byte {
		s := tcp4
		s.options = o
		return s.bytes()
	}
	tests := map[string]struct {
		b    []byte
		want Reason
	}{
		"empty":                          {nil, TooShort},
		"one byte":                       {[]byte{0x45}, TooShort},
		"19 bytes of IPv4":               {tcp4.bytes()[:19], TooShort},
		"39 bytes of IPv6":               {udp6.bytes()[:39], TooShort},
		"version 0":                      {make([]byte, 60), BadVersion},
		"version 5":                      {edit(tcp4, func(b []byte) { b[0] = 0x55 }), BadVersion},
		"header length 16":               {edit(tcp4, func(b []byte) { b[0] = 0x44 }), BadHeaderLen},
		"header beyond packet":           {edit(tcp4, func(b []byte) { b[0] = 0x4f }), BadHeaderLen},
		"total length beyond packet":     {edit(tcp4, func(b []byte) { b[3]++ }), BadTotalLen},
		"total length below header":      {edit(tcp4, func(b []byte) { b[3] = 19 }), BadTotalLen},
		"total length 0":                 {edit(tcp4, func(b []byte) { b[3] = 0 }), BadTotalLen},
		"IPv6 length beyond packet":      {edit(udp6, func(b []byte) { b[5]++ }), BadTotalLen},
		"checksum":                       {func() []byte { b := tcp4.bytes(); b[11]++; return b }(), BadChecksum},
		"option of length 0":             {opts(7, 0, 0, 0), BadOption},
		"option of length 1":             {opts(7, 1, 0, 0), BadOption},
		"option beyond header":           {opts(7, 5, 0, 0), BadOption},
		"option without length":          {opts(1, 1, 1, 7), BadOption},
		"loose source route":             {opts(131, 3, 4, 0), SourceRoute},
		"strict source route":            {opts(1, 137, 3, 4), SourceRoute},
		"TCP cut to 19":                  {raw(ProtoTCP, 0, 19), BadL4},
		"TCP data offset 4":              {edit(tcp4, func(b []byte) { b[32] = 4 << 4 }), BadL4},
		"TCP data offset beyond packet":  {edit(tcp4, func(b []byte) { b[32] = 6 << 4 }), BadL4},
		"UDP cut to 7":                   {raw(ProtoUDP, 0, 7), BadL4},
		"UDP length 7":                   {edit(udp6, func(b []byte) { b[45] = 7 }), BadL4},
		"UDP length beyond packet":       {edit(udp6, func(b []byte) { b[45] = 9 }), BadL4},
		"ICMP cut to 7":                  {raw(ProtoICMP, 0, 7), BadL4},
		"SCTP cut to 11":                 {raw(ProtoSCTP, 0, 11), BadL4},
		"DCCP data offset":               {raw(ProtoDCCP, 0, 12), BadL4},
		"ICMPv6 over IPv4":               {raw(ProtoICMPv6, 0, 8), BadL4},
		"ICMP over IPv6":                 {spec{src: a6, dst: b6, proto: ProtoICMP, rawL4: make([]byte, 8)}.bytes(), BadL4},
		"first fragment without header":  {raw(ProtoTCP, 0x2000, 16), TinyFragment},
		"fragment over TCP flags":        {raw(ProtoTCP, 1, 16), TinyFragment},
		"fragment not a multiple of 8":   {raw(ProtoUDP, 0x2002, 15), BadFragment},
		"empty fragment":                 {raw(ProtoUDP, 2, 0), BadFragment},
		"fragment beyond 65535":          {raw(ProtoUDP, 0x1fff, 16), BadFragment},
		"fragment whose whole would be":  {raw(ProtoUDP, 0x1ffc, 16), BadFragment},
		"mapped source":                  {spec{src: "::ffff:10.0.0.1", dst: b6, proto: ProtoUDP}.v6().bytes(), BadAddress},
		"mapped destination":             {spec{src: a6, dst: "::ffff:10.0.0.1", proto: ProtoUDP}.v6().bytes(), BadAddress},
		"hop-by-hop not first":           {ext(protoDestOpts, protoHopByHop, 0, 0, 0, 0, 0, 0, 0, ProtoUDP, 0, 0, 0, 0, 0, 0, 0), BadExtHeader},
		"extension header beyond packet": {ext(protoHopByHop, ProtoUDP, 9, 0, 0, 0, 0, 0, 0), BadExtHeader},
		"extension header cut":           {spec{src: a6, dst: b6, proto: protoDestOpts, rawL4: make([]byte, 7)}.bytes(), BadExtHeader},
		"two fragment headers":           {ext(protoFragment, protoFragment, 0, 0, 0, 0, 0, 0, 0, ProtoUDP, 0, 0, 0, 0, 0, 0, 0), BadExtHeader},
		"routing type 0":                 {ext(protoRouting, ProtoUDP, 0, 0, 1, 0, 0, 0, 0), SourceRoute},
		"IPv6 fragment without header":   {ext(protoFragment, protoDestOpts, 0, 0, 1, 0, 0, 0, 0, ProtoTCP, 0, 0, 0, 0, 0, 0, 0), TinyFragment},
		"IPv6 fragment beyond 65535":     {ext(protoFragment, ProtoUDP, 0, 0xff, 0xf8, 0, 0, 0, 0), BadFragment},
		"IPv6 jumbo payload":             {edit(spec{src: a6, dst: b6, proto: 0, rawL4: make([]byte, 8)}, func(b []byte) { b[5] = 0 }), BadExtHeader},
		"nine extension headers": {ext(protoDestOpts, func() (e []byte) {
			for range 8 {
				e = append(e, protoDestOpts, 0, 0, 0, 0, 0, 0, 0)
			}
			return append(e, ProtoUDP, 0, 0, 0, 0, 0, 0, 0)
		}()...), BadExtHeader},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var info Info
			if r := Parse(tt.b, len(tt.b), &info); r != tt.want {
				t.Errorf("%v, want %v", r, tt.want)
			}
		})
	}
	var info Info
	if r := Parse(tcp4.bytes(), -1, &info); r != TooShort {
		t.Errorf("negative total: %v", r)
	}
}

// v6 forces the IPv6 header for IPv4-mapped addresses.
func (s spec) v6() spec {
	s.rawL4 = make([]byte, 8)
	return s
}

func TestReasonsAreNamed(t *testing.T) {
	seen := map[string]bool{}
	for r := Reason(0); r <= reasonCount; r++ {
		if r.String() == "" || r.Description() == "" || seen[r.String()] {
			t.Errorf("reason %d: name %q, description %q", r, r, r.Description())
		}
		seen[r.String()] = true
	}
}

func TestTupleReply(t *testing.T) {
	a, b := addr(a4), addr(b4)
	tests := map[string]struct{ from, want Tuple }{
		"TCP":       {Tuple{a, b, 1, 2, ProtoTCP}, Tuple{b, a, 2, 1, ProtoTCP}},
		"echo":      {Tuple{a, b, 7, 8 << 8, ProtoICMP}, Tuple{b, a, 7, 0, ProtoICMP}},
		"timestamp": {Tuple{a, b, 7, 13 << 8, ProtoICMP}, Tuple{b, a, 7, 14 << 8, ProtoICMP}},
		"echo 6":    {Tuple{addr(a6), addr(b6), 7, 128 << 8, ProtoICMPv6}, Tuple{addr(b6), addr(a6), 7, 129 << 8, ProtoICMPv6}},
		"error":     {Tuple{a, b, 0, 3<<8 | 1, ProtoICMP}, Tuple{b, a, 0, 3<<8 | 1, ProtoICMP}},
		"GRE":       {Tuple{a, b, 0, 0, 47}, Tuple{b, a, 0, 0, 47}},
	}
	for name, tt := range tests {
		if got := tt.from.Reply(); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
		if got := tt.want.Reply(); got != tt.from {
			t.Errorf("%s and back: %+v, want %+v", name, got, tt.from)
		}
	}
	for dport := range 1 << 16 {
		for _, proto := range []uint8{ProtoICMP, ProtoICMPv6} {
			tu := Tuple{a, b, 1, uint16(dport), proto}
			if r := tu.Reply(); r.Reply() != tu || tu.IsICMPRequest() && r.IsICMPRequest() {
				t.Fatalf("%+v: reply %+v", tu, r)
			}
		}
	}
}

func TestAddr(t *testing.T) {
	tests := map[string]struct{ unspec, loop, multi, reserved, link, unicast, v4 bool }{
		"0.0.0.0":         {unspec: true, v4: true},
		"0.1.2.3":         {unspec: true, v4: true},
		"127.0.0.1":       {loop: true, v4: true},
		"224.0.0.1":       {multi: true, v4: true},
		"255.255.255.255": {reserved: true, v4: true},
		"169.254.1.1":     {link: true, unicast: true, v4: true},
		"10.0.0.1":        {unicast: true, v4: true},
		"::":              {unspec: true},
		"::1":             {loop: true},
		"ff02::1":         {multi: true},
		"fe80::1":         {link: true, unicast: true},
		"febf::1":         {link: true, unicast: true},
		"fec0::1":         {unicast: true},
		"2001:db8::1":     {unicast: true},
	}
	for s, w := range tests {
		a := addr(s)
		if a.IsUnspecified() != w.unspec || a.IsLoopback() != w.loop || a.IsMulticast() != w.multi ||
			a.IsReserved4() != w.reserved || a.IsLinkLocal() != w.link || a.IsUnicast() != w.unicast || a.Is4() != w.v4 {
			t.Errorf("%s is misjudged", s)
		}
		if a.String() != s || AddrFrom(netip.AddrFrom16(a.As16())) != a {
			t.Errorf("%s comes back as %s", s, a)
		}
	}
	if (AddrFrom(netip.Addr{}) != Addr{}) {
		t.Error("invalid address is not ::")
	}
}
