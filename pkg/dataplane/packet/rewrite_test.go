// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// remade is the same packet made from scratch with the new tuple.
func remade(s spec, to Tuple) []byte {
	s.src, s.dst, s.sport = to.Src.String(), to.Dst.String(), to.SrcPort
	if HasPorts(s.proto) {
		s.dport = to.DstPort
	}
	return s.bytes()
}

func randomTo(r *rand.Rand, from Tuple, family uint8) Tuple {
	to := from
	if r.IntN(4) > 0 {
		to.Src = AddrFrom(randomAddr(r, family))
	}
	if r.IntN(4) > 0 {
		to.Dst = AddrFrom(randomAddr(r, family))
	}
	if r.IntN(4) > 0 {
		to.SrcPort = randomPort(r)
	}
	if HasPorts(from.Proto) && r.IntN(4) > 0 {
		to.DstPort = randomPort(r)
	}
	return to
}

func TestRewriteAgainstRecomputation(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, proto := range everyProto {
		for _, family := range families(proto) {
			for range 5000 {
				s := randomSpec(r, proto, family)
				b := s.bytes()
				info := mustParse(t, b)
				to := randomTo(r, info.Tuple, family)
				rw := NewRewrite(info.Tuple, to)
				// The payload is parked.
				rw.Apply(b[:info.HdrLen], &info, false)
				if want := remade(s, to); !bytes.Equal(b, want) {
					t.Fatalf("proto %d to %+v:\n got % x\nwant % x", proto, to, b, want)
				}
				if info.Tuple != to || info != mustParse(t, b) || rw.To() != to {
					t.Fatalf("info does not follow: %+v", info)
				}
			}
		}
	}
}

func TestRewriteThereAndBack(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, proto := range everyProto {
		for _, family := range families(proto) {
			for range 1000 {
				b := randomSpec(r, proto, family).bytes()
				orig := bytes.Clone(b)
				info := mustParse(t, b)
				from, to := info.Tuple, randomTo(r, info.Tuple, family)
				there, back := NewRewrite(from, to), NewRewrite(to, from)
				there.Apply(b, &info, false)
				back.Apply(b, &info, false)
				if !bytes.Equal(b, orig) {
					t.Fatalf("proto %d:\n got % x\nwant % x", proto, b, orig)
				}
			}
		}
	}
}

func TestRewritePartial(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for _, proto := range everyProto {
		for _, family := range families(proto) {
			for range 3000 {
				s := randomSpec(r, proto, family)
				b := s.bytes()
				info := mustParse(t, b)
				d := l4sums[proto]
				at := int(info.L4Off) + int(d.off)
				switch {
				case proto == ProtoSCTP:
					binary.LittleEndian.PutUint32(b[info.L4Off+8:], 0)
				case d.pseudo:
					binary.BigEndian.PutUint16(b[at:], PseudoSum(info.Src, info.Dst, proto, len(b)-int(info.L4Off)))
				default:
					b[at], b[at+1] = 0, 0
				}
				to := randomTo(r, info.Tuple, family)
				rw := NewRewrite(info.Tuple, to)
				rw.Apply(b[:info.HdrLen], &info, true)
				// The device completes it.
				if proto == ProtoSCTP {
					binary.LittleEndian.PutUint32(b[info.L4Off+8:], SCTPChecksum(b[info.L4Off:]))
					verify(t, b)
					continue
				}
				CompleteChecksum(b, int(info.L4Off), int(d.off))
				got := b[at : at+2]
				want := remade(s, to)
				if w := want[at : at+2]; w[0]|w[1] == 0 && got[0]&got[1] == 0xff {
					copy(got, w) // the two zeros
				}
				if !bytes.Equal(b, want) {
					t.Fatalf("proto %d to %+v:\n got % x\nwant % x", proto, to, b, want)
				}
			}
		}
	}
}

func TestRewriteKeepsUDPWithoutChecksum(t *testing.T) {
	b := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2}.bytes()
	b[26], b[27] = 0, 0
	info := mustParse(t, b)
	rw := NewRewrite(info.Tuple, Tuple{addr("1.2.3.4"), addr(b4), 9, 2, ProtoUDP})
	rw.Apply(b, &info, false)
	if b[26]|b[27] != 0 {
		t.Errorf("checksum % x", b[26:28])
	}
	// With CSUM_PARTIAL a 0 is a sum like any other.
	b = spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2}.bytes()
	b[26], b[27] = 0, 0
	info = mustParse(t, b)
	rw.Apply(b, &info, true)
	if b[26]|b[27] == 0 {
		t.Error("partial checksum was not adjusted")
	}
}

func TestRewriteNeverMakesUDPChecksumZero(t *testing.T) {
	// For each port there is one at which the sum comes out as 0xffff.
	s := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, payload: []byte{1, 2, 3, 4}}
	zeros := 0
	for port := range 1 << 16 {
		b := s.bytes()
		info := mustParse(t, b)
		to := info.Tuple
		to.SrcPort = uint16(port)
		rw := NewRewrite(info.Tuple, to)
		rw.Apply(b, &info, false)
		c := binary.BigEndian.Uint16(b[26:])
		if c == 0 {
			t.Fatalf("port %d: checksum 0", port)
		}
		if c == 0xffff {
			zeros++
			verify(t, b)
		}
	}
	if zeros != 1 {
		t.Errorf("0xffff came %d times", zeros)
	}
}

func TestRewriteFragments(t *testing.T) {
	later := spec{src: a4, dst: b4, proto: ProtoUDP, fragField: 3, rawL4: bytes.Repeat([]byte{7}, 16)}
	b := later.bytes()
	info := mustParse(t, b)
	to := Tuple{addr("1.2.3.4"), addr("5.6.7.8"), 9, 10, ProtoUDP}
	rw := NewRewrite(Tuple{info.Src, info.Dst, 53, 54, ProtoUDP}, to)
	rw.Apply(b, &info, false)
	later.src, later.dst = "1.2.3.4", "5.6.7.8"
	if want := later.bytes(); !bytes.Equal(b, want) {
		t.Errorf("later fragment:\n got % x\nwant % x", b, want)
	}

	// The whole datagram, cut in two, rewritten, joined again.
	whole := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 53, dport: 54, payload: bytes.Repeat([]byte{1, 9}, 20)}
	d := whole.bytes()
	head := spec{src: a4, dst: b4, proto: ProtoUDP, fragField: 0x2000, rawL4: d[20:44]}.bytes()
	info = mustParse(t, head)
	rw.Apply(head, &info, false)
	copy(d[20:44], head[20:])
	copy(d[12:20], head[12:20])
	if want := remade(whole, to)[20:]; !bytes.Equal(d[20:], want) {
		t.Errorf("first fragment:\n got % x\nwant % x", d[20:], want)
	}
}

func TestRewriteOtherProtocols(t *testing.T) {
	for _, s := range []spec{{src: a4, dst: b4, proto: 47, payload: []byte("payload")}, {src: a6, dst: b6, proto: ProtoESP, payload: []byte("payload")}} {
		b := s.bytes()
		info := mustParse(t, b)
		to := Tuple{Src: info.Dst, Dst: info.Src, Proto: info.Proto}
		rw := NewRewrite(info.Tuple, to)
		rw.Apply(b, &info, false)
		if want := remade(s, to); !bytes.Equal(b, want) {
			t.Errorf("proto %d:\n got % x\nwant % x", s.proto, b, want)
		}
	}
}

// A message that is neither query nor reply has no identifier.
func TestRewriteOtherICMP(t *testing.T) {
	for _, s := range []spec{
		{src: a4, dst: b4, proto: ProtoICMP, sport: 0x1234, dport: 9 << 8},
		{src: a6, dst: b6, proto: ProtoICMPv6, sport: 0x1234, dport: 133 << 8},
	} {
		b := s.bytes()
		info := mustParse(t, b)
		to := Tuple{info.Dst, addr(info.Src.String()), 99, info.DstPort, info.Proto}
		rw := NewRewrite(info.Tuple, to)
		rw.Apply(b, &info, false)
		to.SrcPort = s.sport
		if want := remade(s, to); !bytes.Equal(b, want) {
			t.Errorf("proto %d:\n got % x\nwant % x", s.proto, b, want)
		}
	}
}

// An echo reply of zeros is the one message whose sum is zero, not its inverse.
func TestRewriteEchoReplyOfZeros(t *testing.T) {
	for _, n := range []int{0, 1, 56} {
		b := spec{src: a4, dst: b4, proto: ProtoICMP, sport: 5, payload: make([]byte, n)}.bytes()
		info := mustParse(t, b)
		to := info.Tuple
		to.SrcPort = 0
		rw := NewRewrite(info.Tuple, to)
		rw.Apply(b[:28], &info, false)
		if goldenSum(b[20:]) != 0xffff {
			t.Errorf("%d bytes: checksum % x", n, b[22:24])
		}
	}
}
