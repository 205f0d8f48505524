// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// errorAbout is an ICMP error by router about a packet, quoting n bytes of it.
func errorAbout(router string, quoted []byte, n int) spec {
	info := Info{}
	Parse(quoted, len(quoted), &info)
	s := spec{src: router, dst: info.Src.String(), proto: ProtoICMP, dport: 3<<8 | 1, payload: quoted[:n]}
	if info.Family == IPv6 {
		s.proto, s.dport = ProtoICMPv6, 1<<8
	}
	return s
}

func TestParseInner(t *testing.T) {
	frag6 := []byte{ProtoUDP, 0, 0, 1, 1, 2, 3, 4}
	later6 := []byte{ProtoUDP, 0, 0, 16, 1, 2, 3, 4}
	tests := map[string]struct {
		quoted spec
		quote  int // bytes, 0 for all
		want   Inner
		reason Reason
	}{
		"TCP, eight bytes": {spec{src: a4, dst: b4, proto: ProtoTCP, sport: 1, dport: 2}, 28,
			Inner{Tuple{addr(a4), addr(b4), 1, 2, ProtoTCP}, 28, 48, 8}, OK},
		"UDP, all": {spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, payload: []byte{1, 2, 3}}, 0,
			Inner{Tuple{addr(a4), addr(b4), 1, 2, ProtoUDP}, 28, 48, 11}, OK},
		"options": {spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, options: []byte{1, 1, 1, 0}}, 0,
			Inner{Tuple{addr(a4), addr(b4), 1, 2, ProtoUDP}, 28, 52, 8}, OK},
		"echo": {spec{src: a4, dst: b4, proto: ProtoICMP, sport: 1, dport: 8 << 8}, 0,
			Inner{Tuple{addr(a4), addr(b4), 1, 8 << 8, ProtoICMP}, 28, 48, 8}, OK},
		"echo reply over IPv6": {spec{src: a6, dst: b6, proto: ProtoICMPv6, sport: 1, dport: 129 << 8}, 0,
			Inner{Tuple{addr(a6), addr(b6), 1, 129 << 8, ProtoICMPv6}, 48, 88, 8}, OK},
		"first fragment over IPv6": {spec{src: a6, dst: b6, proto: ProtoUDP, sport: 1, dport: 2, extFirst: protoFragment, ext: frag6}, 0,
			Inner{Tuple{addr(a6), addr(b6), 1, 2, ProtoUDP}, 48, 96, 8}, OK},
		"GRE, header only": {spec{src: a4, dst: b4, proto: 47}, 0,
			Inner{Tuple{addr(a4), addr(b4), 0, 0, 47}, 28, 48, 0}, OK},
		"seven bytes":     {spec{src: a4, dst: b4, proto: ProtoTCP, sport: 1, dport: 2}, 27, Inner{}, NoInner},
		"half a header":   {spec{src: a4, dst: b4, proto: ProtoTCP}, 19, Inner{}, NoInner},
		"half a header 6": {spec{src: a6, dst: b6, proto: ProtoTCP}, 39, Inner{}, NoInner},
		"ICMP error":      {spec{src: a4, dst: b4, proto: ProtoICMP, dport: 11 << 8}, 0, Inner{}, NoInner},
		"unanswered ICMP": {spec{src: a6, dst: b6, proto: ProtoICMPv6, dport: 133 << 8}, 0, Inner{}, NoInner},
		"later fragment":  {spec{src: a4, dst: b4, proto: ProtoUDP, fragField: 2, rawL4: make([]byte, 8)}, 0, Inner{}, NoInner},
		"later fragment over IPv6": {spec{src: a6, dst: b6, proto: ProtoUDP, extFirst: protoFragment, ext: later6}, 0,
			Inner{}, NoInner},
		"extension headers cut": {spec{src: a6, dst: b6, proto: ProtoUDP, extFirst: protoFragment, ext: frag6}, 44, Inner{}, NoInner},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			q := tt.quoted.bytes()
			if tt.quote == 0 {
				tt.quote = len(q)
			}
			router := "198.51.100.1"
			if q[0]>>4 == 6 {
				router = "2001:db8:9::1"
			}
			b := errorAbout(router, q, tt.quote).bytes()
			info := mustParse(t, b)
			inner := Inner{Off: 99}
			r := ParseInner(b, &info, &inner)
			if r != tt.reason || r == OK && inner != tt.want {
				t.Fatalf("%v, %+v\nwant %v, %+v", r, inner, tt.reason, tt.want)
			}
			if r != OK {
				return
			}
			enough := int(inner.L4Off) + min(int(inner.Avail), 8)
			for n := int(info.HdrLen); n < enough; n++ {
				if r := ParseInner(b[:n], &info, &inner); r != Truncated {
					t.Fatalf("%d bytes in the nbuf: %v", n, r)
				}
			}
		})
	}
	b := spec{src: a4, dst: b4, proto: ProtoUDP, payload: make([]byte, 40)}.bytes()
	info := mustParse(t, b)
	if r := ParseInner(b, &info, &Inner{}); r != NoInner {
		t.Errorf("not an ICMP error: %v", r)
	}
	// A quote of the other family.
	s := errorAbout("198.51.100.1", spec{src: a4, dst: b4, proto: ProtoUDP}.bytes(), 28)
	s.payload = spec{src: a6, dst: b6, proto: ProtoUDP}.bytes()
	b = s.bytes()
	info = mustParse(t, b)
	if r := ParseInner(b, &info, &Inner{}); r != NoInner {
		t.Errorf("other family: %v", r)
	}
}

// A connection leaves as from and goes on as to. An error about a packet of it
// quotes to and must come back quoting from, as if there were no NAT.
func TestRewriteErrorAgainstRecomputation(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, proto := range everyProto {
		for _, family := range families(proto) {
			for range 3000 {
				orig := randomSpec(r, proto, family)
				before := orig.bytes()
				info := mustParse(t, before)
				to := randomTo(r, info.Tuple, family)
				after := remade(orig, to)
				quote := len(after)
				if r.IntN(2) == 0 {
					quote = int(info.L4Off) + 8 + r.IntN(len(after)-int(info.L4Off)-7)
				}
				router, hidden := randomAddr(r, family).String(), randomAddr(r, family).String()
				got := errorAbout(router, after, quote)
				got.dst = to.Src.String()
				want := errorAbout(hidden, before, quote)
				b, w := got.bytes(), want.bytes()
				if proto == ProtoSCTP { // its sum stays
					at := int(info.L4Off)
					if quote > at+8 {
						want.payload = bytes.Clone(want.payload)
						copy(want.payload[at+8:], after[at+8:min(quote, at+12)])
						w = want.bytes()
					}
				}
				var inner Inner
				outer := mustParse(t, b)
				if reason := ParseInner(b, &outer, &inner); reason != OK {
					t.Fatalf("proto %d: %v", proto, reason)
				}
				if inner.Tuple != to {
					t.Fatalf("inner %+v, want %+v", inner.Tuple, to)
				}
				partial := family == IPv6 && r.IntN(4) == 0
				at := outer.L4Off + 2
				if partial {
					binary.BigEndian.PutUint16(b[at:], PseudoSum(outer.Src, outer.Dst, ProtoICMPv6, len(b)-40))
				}
				RewriteError(b, &outer, &inner, AddrFrom(netip.MustParseAddr(hidden)), info.Src, info.Tuple, partial)
				if partial {
					CompleteChecksum(b, int(outer.L4Off), 2)
				}
				if b[at]&b[at+1] == 0xff && w[at]|w[at+1] == 0 {
					b[at], b[at+1] = 0, 0
				}
				// A checksum that is quoted in part only is left alone.
				if d := l4sums[proto]; d.has {
					if have := quote - int(info.L4Off); have == int(d.off)+1 {
						want.payload[quote-1] = after[quote-1]
						w = want.bytes()
					}
				}
				if !bytes.Equal(b, w) {
					t.Fatalf("proto %d, %d bytes quoted:\n got % x\nwant % x", proto, quote, b, w)
				}
				if inner.Tuple != info.Tuple || outer.Dst != info.Src || outer.Src != AddrFrom(netip.MustParseAddr(hidden)) {
					t.Fatal("tuples do not follow")
				}
			}
		}
	}
}

func TestRewriteErrorKeepsUDPWithoutChecksum(t *testing.T) {
	q := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2}.bytes()
	q[26], q[27] = 0, 0
	b := errorAbout("198.51.100.1", q, len(q)).bytes()
	info := mustParse(t, b)
	var inner Inner
	if r := ParseInner(b, &info, &inner); r != OK {
		t.Fatal(r)
	}
	RewriteError(b, &info, &inner, info.Src, addr("10.9.9.9"), Tuple{addr("10.9.9.9"), addr(b4), 7, 2, ProtoUDP}, false)
	if b[28+26]|b[28+27] != 0 {
		t.Error("a checksum came out of nothing")
	}
	verify(t, b)
}

// With part of the quoted L4 header parked the ICMP checksum stays right.
func TestRewriteErrorWithParkedQuote(t *testing.T) {
	q := spec{src: a4, dst: b4, proto: ProtoTCP, sport: 1, dport: 2, payload: []byte("data")}.bytes()
	b := errorAbout("198.51.100.1", q, len(q)).bytes()
	info := mustParse(t, b)
	for n := 56; n <= len(b); n++ {
		c := bytes.Clone(b)
		o := info
		var inner Inner
		if r := ParseInner(c[:n], &o, &inner); r != OK {
			t.Fatal(r)
		}
		RewriteError(c[:n], &o, &inner, o.Src, addr("10.9.9.9"), Tuple{addr("10.9.9.9"), addr(b4), 7, 2, ProtoTCP}, false)
		verify(t, c)
	}
}
