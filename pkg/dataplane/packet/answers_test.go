// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func TestBuildError(t *testing.T) {
	big4 := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, payload: make([]byte, 1401)}.bytes()
	big6 := spec{src: a6, dst: b6, proto: ProtoUDP, sport: 1, dport: 2, payload: make([]byte, 1401)}.bytes()
	small4, small6 := big4[:61], big6[:81] // what the nbuf has; the rest is parked
	tests := map[string]struct {
		kind      ErrorKind
		b         []byte
		total     int
		arg       uint32
		typ, code uint8
		rest      uint32
		length    int
	}{
		"time exceeded":             {TimeExceeded, big4, len(big4), 9, 11, 0, 0, 576},
		"time exceeded, IPv6":       {TimeExceeded, big6, len(big6), 9, 3, 0, 0, 1280},
		"net unreachable, parked":   {NetUnreachable, small4, len(big4), 9, 3, 0, 0, 28 + 61},
		"no route, parked":          {NetUnreachable, small6, len(big6), 9, 1, 0, 0, 48 + 81},
		"host unreachable":          {HostUnreachable, big4, len(big4), 0, 3, 1, 0, 576},
		"address unreachable":       {HostUnreachable, big6, len(big6), 0, 1, 3, 0, 1280},
		"protocol unreachable":      {ProtoUnreachable, big4, len(big4), 6, 3, 2, 0, 576},
		"next header":               {ProtoUnreachable, big6, len(big6), 6, 4, 1, 6, 1280},
		"port unreachable":          {PortUnreachable, big4, len(big4), 0, 3, 3, 0, 576},
		"port unreachable, IPv6":    {PortUnreachable, big6, len(big6), 0, 1, 4, 0, 1280},
		"admin prohibited":          {AdminProhibited, big4, len(big4), 0, 3, 13, 0, 576},
		"admin prohibited, IPv6":    {AdminProhibited, big6, len(big6), 0, 1, 1, 0, 1280},
		"fragmentation needed":      {PacketTooBig, big4, len(big4), 1400, 3, 4, 1400, 576},
		"packet too big":            {PacketTooBig, big6, len(big6), 70000, 2, 0, 70000, 1280},
		"reassembly":                {ReassemblyExceeded, big4, len(big4), 0, 11, 1, 0, 576},
		"MTU beyond sixteen bits":   {PacketTooBig, big4, len(big4), 70000, 3, 4, 65535, 576},
		"padding behind the packet": {TimeExceeded, append(big4[:28:28], 1, 2, 3), 28, 0, 11, 0, 0, 28 + 28},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if name == "padding behind the packet" {
				tt.b = append(spec{src: a4, dst: b4, proto: ProtoUDP}.bytes(), 1, 2, 3)
			}
			var orig Info
			if r := Parse(tt.b, tt.total, &orig); r != OK || !MayAnswer(&orig) {
				t.Fatal(r)
			}
			router := "198.51.100.1"
			if orig.Family == IPv6 {
				router = "2001:db8:9::1"
			}
			dst := bytes.Repeat([]byte{0xee}, 2000)
			n := BuildError(dst, tt.kind, tt.b, &orig, addr(router), tt.arg)
			if n != tt.length {
				t.Fatalf("%d bytes, want %d", n, tt.length)
			}
			if !bytes.Equal(dst[n:], bytes.Repeat([]byte{0xee}, 2000-n)) {
				t.Fatal("wrote behind its end")
			}
			verify(t, dst[:n])
			info := mustParse(t, dst[:n])
			if info.ICMPType != tt.typ || info.ICMPCode != tt.code || binary.BigEndian.Uint32(dst[info.L4Off+4:]) != tt.rest {
				t.Errorf("type %d code %d rest %#x", info.ICMPType, info.ICMPCode, binary.BigEndian.Uint32(dst[info.L4Off+4:]))
			}
			if info.Src != addr(router) || info.Dst != orig.Src || info.TTL != 64 {
				t.Errorf("from %v to %v TTL %d", info.Src, info.Dst, info.TTL)
			}
			if q := dst[info.HdrLen:n]; !bytes.Equal(q, tt.b[:len(q)]) {
				t.Error("quote differs")
			}
			var inner Inner
			if r := ParseInner(dst[:n], &info, &inner); r != OK || inner.Tuple != orig.Tuple {
				t.Errorf("inner: %v, %+v", r, inner)
			}
			if MayAnswer(&info) {
				t.Error("an error may be answered by an error")
			}
			if k := BuildError(dst[:info.HdrLen-1], tt.kind, tt.b, &orig, addr(router), 0); k != 0 {
				t.Errorf("%d bytes where there was no room", k)
			}
			if k := BuildError(dst[:100], tt.kind, tt.b, &orig, addr(router), 0); k > 100 {
				t.Errorf("%d bytes in 100", k)
			}
		})
	}
	if BuildError(make([]byte, 2000), errorKinds, big4, &Info{Family: IPv4}, Addr{}, 0) != 0 {
		t.Error("made an error of no kind")
	}
}

func TestMayAnswer(t *testing.T) {
	ok := spec{src: a4, dst: b4, proto: ProtoUDP, payload: make([]byte, 8)}
	tests := map[string]struct {
		edit func(*spec)
		want bool
	}{
		"UDP":               {func(*spec) {}, true},
		"echo":              {func(s *spec) { s.proto, s.dport = ProtoICMP, 8<<8 }, true},
		"first fragment":    {func(s *spec) { s.fragField = 0x2000 }, true},
		"later fragment":    {func(s *spec) { s.fragField = 2 }, false},
		"ICMP error":        {func(s *spec) { s.proto, s.dport = ProtoICMP, 3<<8 }, false},
		"redirect":          {func(s *spec) { s.proto, s.dport = ProtoICMP, 5<<8 }, false},
		"redirect, IPv6":    {func(s *spec) { s.src, s.dst, s.proto, s.dport = a6, b6, ProtoICMPv6, 137<<8 }, false},
		"from unspecified":  {func(s *spec) { s.src = "0.0.0.0" }, false},
		"from loopback":     {func(s *spec) { s.src = "127.0.0.1" }, false},
		"from multicast":    {func(s *spec) { s.src = "224.0.0.1" }, false},
		"from broadcast":    {func(s *spec) { s.src = "255.255.255.255" }, false},
		"from ::":           {func(s *spec) { s.src, s.dst = "::", b6 }, false},
		"to multicast":      {func(s *spec) { s.dst = "239.1.2.3" }, false},
		"to multicast IPv6": {func(s *spec) { s.src, s.dst = a6, "ff0e::1" }, false},
		"to broadcast":      {func(s *spec) { s.dst = "255.255.255.255" }, false},
	}
	for name, tt := range tests {
		s := ok
		tt.edit(&s)
		info := mustParse(t, s.bytes())
		if MayAnswer(&info) != tt.want {
			t.Errorf("%s: %v", name, !tt.want)
		}
	}
}

func TestIsMartian(t *testing.T) {
	for _, tt := range []struct {
		src, dst string
		want     bool
	}{
		{a4, b4, false}, {a6, b6, false}, {a4, "224.0.0.1", false},
		{"0.0.0.0", b4, true}, {"127.0.0.1", b4, true}, {"224.0.0.1", b4, true},
		{a4, "127.0.0.1", true}, {a4, "0.0.0.0", true}, {a4, "255.255.255.255", true},
		{"::", b6, true}, {"::1", b6, true}, {"ff02::1", b6, true}, {a6, "::1", true}, {a6, "::", true},
	} {
		info := Info{Tuple: Tuple{Src: addr(tt.src), Dst: addr(tt.dst)}}
		if info.IsMartian() != tt.want {
			t.Errorf("%s to %s: %v", tt.src, tt.dst, !tt.want)
		}
	}
}

func TestEchoReply(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 3000 {
		s := randomSpec(r, ProtoICMP, IPv4)
		s.src, s.dst = a4, b4
		if r.IntN(2) == 0 {
			s = randomSpec(r, ProtoICMPv6, IPv6)
		}
		b := s.bytes()
		info := mustParse(t, b)
		if !EchoReply(b[:info.HdrLen], &info, false) {
			t.Fatal("refused")
		}
		if info.SrcPort != 0 { // else see TestRewriteEchoReplyOfZeros
			verify(t, b)
		} else if l4sums[s.proto].pseudo == false && goldenSum(b[20:]) != 0xffff {
			t.Fatalf("checksum % x", b[22:24])
		}
		if got := mustParse(t, b); got != info {
			t.Fatalf("info %+v, want %+v", info, got)
		}
		want := s
		want.src, want.dst, want.ttl = s.dst, s.src, 64
		want.dport = 0
		if s.proto == ProtoICMPv6 {
			want.dport = 129 << 8
		}
		w := want.bytes()
		if at := info.L4Off + 2; b[at]&b[at+1] == 0xff && w[at]|w[at+1] == 0 {
			b[at], b[at+1] = 0, 0 // the two zeros
		}
		if !bytes.Equal(b, w) {
			t.Fatalf("\n got % x\nwant % x", b, w)
		}
	}
	b := spec{src: a6, dst: b6, proto: ProtoICMPv6, sport: 5, dport: 128 << 8}.bytes()
	info := mustParse(t, b)
	binary.BigEndian.PutUint16(b[42:], PseudoSum(info.Src, info.Dst, ProtoICMPv6, 8))
	if !EchoReply(b, &info, true) || !CompleteChecksum(b, 40, 2) {
		t.Fatal("refused")
	}
	verify(t, b)

	for name, s := range map[string]spec{
		"reply":     {src: a4, dst: b4, proto: ProtoICMP, dport: 0},
		"UDP":       {src: a4, dst: b4, proto: ProtoUDP},
		"fragment":  {src: a4, dst: b4, proto: ProtoICMP, dport: 8 << 8, fragField: 0x2000},
		"multicast": {src: a4, dst: "224.0.0.1", proto: ProtoICMP, dport: 8 << 8},
		"from none": {src: "::", dst: b6, proto: ProtoICMPv6, dport: 128 << 8},
	} {
		b := s.bytes()
		info := mustParse(t, b)
		if EchoReply(b, &info, false) || !bytes.Equal(b, s.bytes()) {
			t.Errorf("%s was answered", name)
		}
	}
}

func TestBuildReset(t *testing.T) {
	const seq, ack = 0x01020304, 0x0a0b0c0d // as spec has them
	p := []byte("12345")
	for _, family := range []uint8{IPv4, IPv6} {
		src, dst := a4, b4
		if family == IPv6 {
			src, dst = a6, b6
		}
		for name, tt := range map[string]struct {
			flags   uint8
			payload []byte
			want    uint8 // flags of the answer, 0 for none
			seq     uint32
			ack     uint32
		}{
			"SYN":           {TCPSyn, nil, TCPRst | TCPAck, 0, seq + 1},
			"SYN with data": {TCPSyn, p, TCPRst | TCPAck, 0, seq + 6},
			"FIN with data": {TCPFin, p, TCPRst | TCPAck, 0, seq + 6},
			"null":          {0, p, TCPRst | TCPAck, 0, seq + 5},
			"ACK":           {TCPAck, p, TCPRst, ack, 0},
			"SYN ACK":       {TCPSyn | TCPAck, nil, TCPRst, ack, 0},
			"RST":           {TCPRst, nil, 0, 0, 0},
			"RST ACK":       {TCPRst | TCPAck, nil, 0, 0, 0},
		} {
			b := spec{src: src, dst: dst, proto: ProtoTCP, sport: 1000, dport: 80, flags: tt.flags, payload: tt.payload}.bytes()
			info := mustParse(t, b)
			out := bytes.Repeat([]byte{0xee}, 100)
			n := BuildReset(out, b[:info.HdrLen], &info)
			if tt.want == 0 {
				if n != 0 {
					t.Errorf("%s was answered", name)
				}
				continue
			}
			if n == 0 {
				t.Fatalf("%s: no answer", name)
			}
			verify(t, out[:n])
			got := mustParse(t, out[:n])
			if got.Tuple != info.Tuple.Reply() || got.TCPFlags != tt.want || TCPSeq(out, &got) != tt.seq || TCPAckNo(out, &got) != tt.ack || TCPWindow(out, &got) != 0 || got.PayloadLen() != 0 {
				t.Errorf("%s: %+v seq %#x ack %#x", name, got, TCPSeq(out, &got), TCPAckNo(out, &got))
			}
			if BuildReset(out[:ResetMaxLen-1], b, &info) != 0 {
				t.Error("answer without room")
			}
		}
	}
	for _, s := range []spec{
		{src: a4, dst: b4, proto: ProtoUDP},
		{src: "224.0.0.1", dst: b4, proto: ProtoTCP},
		{src: a4, dst: "224.0.0.1", proto: ProtoTCP},
		{src: a4, dst: b4, proto: ProtoTCP, fragField: 0x2000, payload: make([]byte, 4)},
	} {
		b := s.bytes()
		info := mustParse(t, b)
		if BuildReset(make([]byte, 100), b, &info) != 0 {
			t.Errorf("answer to %+v", s)
		}
	}
}
