// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/ip4defrag"
	"github.com/gopacket/gopacket/layers"
)

func TestFragmentIPv4ReassemblesByGopacket(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for range 300 {
		s := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, id: uint16(r.Uint32()), tos: 7, payload: randomBytes(r, 1+r.IntN(4000))}
		if r.IntN(2) == 0 { // one copied, one not
			s.options = []byte{0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0}
		}
		b := s.bytes()
		info := mustParse(t, b)
		mtu := 68 + r.IntN(1500)
		var scratch [60]byte
		var frags [][]byte
		reason := FragmentIPv4(b, &info, mtu, &scratch, func(h, d []byte) {
			frags = append(frags, append(bytes.Clone(h), d...))
		})
		if reason != OK {
			t.Fatal(reason)
		}
		// Twice cut is as good as once.
		again := frags
		if mtu > 200 {
			again = nil
			for _, f := range frags {
				fi := mustParse(t, f)
				if r := FragmentIPv4(f, &fi, mtu/2, &scratch, func(h, d []byte) {
					again = append(again, append(bytes.Clone(h), d...))
				}); r != OK {
					t.Fatal(r)
				}
			}
		}
		for _, set := range [][][]byte{frags, again} {
			var whole *layers.IPv4
			defrag := ip4defrag.NewIPv4Defragmenter()
			for i, f := range set {
				fi := mustParse(t, f) // verifies the header
				if len(f) > mtu || fi.TOS != 7 || fi.FragID != uint32(s.id) || fi.TTL != 64 {
					t.Fatalf("fragment %d of %d bytes: %+v", i, len(f), fi)
				}
				if want := 20 + len(s.options); i == 0 && int(fi.L4Off) != want || i > 0 && int(fi.L4Off) != 20+min(len(s.options), 4) && int(fi.L4Off) != want {
					t.Fatalf("fragment %d has a header of %d bytes", i, fi.L4Off)
				}
				ip := &layers.IPv4{}
				if err := ip.DecodeFromBytes(f, gopacket.NilDecodeFeedback); err != nil {
					t.Fatal(err)
				}
				out, err := defrag.DefragIPv4(ip)
				if err != nil {
					t.Fatal(err)
				}
				if out != nil {
					whole = out
				}
			}
			if whole == nil || !bytes.Equal(whole.Payload, b[info.L4Off:]) {
				t.Fatalf("%d bytes with MTU %d do not come back", len(b), mtu)
			}
		}
	}
}

func TestFragmentIPv4Options(t *testing.T) {
	s := spec{src: a4, dst: b4, proto: ProtoUDP, payload: make([]byte, 60),
		options: []byte{7, 3, 0, 0x94, 4, 1, 2, 1, 0x88, 3, 9, 0}}
	b := s.bytes()
	info := mustParse(t, b)
	var got [][]byte
	var scratch [60]byte
	if r := FragmentIPv4(b, &info, 60, &scratch, func(h, _ []byte) { got = append(got, bytes.Clone(h[20:])) }); r != OK {
		t.Fatal(r)
	}
	copied := []byte{0x94, 4, 1, 2, 0x88, 3, 9, 0}
	want := [][]byte{s.options, copied, copied}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFragmentIPv4Refuses(t *testing.T) {
	whole := spec{src: a4, dst: b4, proto: ProtoUDP, payload: make([]byte, 1000)}
	df := whole
	df.fragField = 0x4000
	tests := map[string]struct {
		b    []byte
		have int
		mtu  int
		want Reason
		n    int
	}{
		"fits":                      {df.bytes(), 1028, 1028, OK, 1},
		"DF":                        {df.bytes(), 1028, 1027, DontFragment, 0},
		"not whole":                 {whole.bytes(), 1027, 500, Truncated, 0},
		"MTU below header":          {whole.bytes(), 1028, 10, CannotFragment, 0},
		"MTU of a header and seven": {whole.bytes(), 1028, 27, CannotFragment, 0},
		"negative MTU":              {whole.bytes(), 1028, -5, CannotFragment, 0},
		"MTU of a header and eight": {whole.bytes(), 1028, 28, OK, 126},
		"IPv6":                      {spec{src: a6, dst: b6, proto: ProtoUDP, payload: make([]byte, 1000)}.bytes(), 1048, 500, BadVersion, 0},
	}
	for name, tt := range tests {
		info := mustParse(t, tt.b)
		n := 0
		var scratch [60]byte
		r := FragmentIPv4(tt.b[:tt.have], &info, tt.mtu, &scratch, func(h, d []byte) {
			n++
			if len(h)+len(d) != int(binary.BigEndian.Uint16(h[2:])) {
				t.Errorf("%s: length", name)
			}
		})
		if r != tt.want || n != tt.n {
			t.Errorf("%s: %v, %d fragments; want %v, %d", name, r, n, tt.want, tt.n)
		}
	}
}
