// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// tunnelled is s behind the headers of a tunnel.
func tunnelled(src, dst string, s spec) []byte {
	h := NewVXLANHeader(addr(src), addr(dst), 77, VXLANPort)
	inner := s.bytes()
	b := append(make([]byte, h.Len()), inner...)
	h.Put(b, len(inner), 0xbeef, 5)
	return b
}

// TestVXLANRoundTrip reads what Put has written, by this package and by another one.
func TestVXLANRoundTrip(t *testing.T) {
	for _, outer := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
		for _, s := range []spec{
			{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, payload: []byte("payload")},
			{src: a6, dst: b6, proto: ProtoTCP, sport: 1, dport: 2, flags: TCPSyn},
		} {
			b := tunnelled(outer[0], outer[1], s)
			var v VXLAN
			if !ParseVXLAN(b, len(b), VXLANPort, &v) || !v.Valid || v.VNI != 77 || v.Src.String() != outer[0] || v.Dst.String() != outer[1] {
				t.Errorf("%s: read as %+v", outer[0], v)
			}
			if !bytes.Equal(b[v.Len:], s.bytes()) {
				t.Errorf("%s: the inner packet has changed", outer[0])
			}
			kind := gopacket.LayerType(layers.LayerTypeIPv4)
			if b[0]>>4 == 6 {
				kind = layers.LayerTypeIPv6
			}
			p := gopacket.NewPacket(b, kind, gopacket.Default)
			if x, ok := p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN); !ok || x.VNI != 77 || p.ErrorLayer() != nil {
				t.Errorf("another program reads %s", p)
			}
			if ParseVXLAN(b, len(b), VXLANPort+1, &v) || ParseVXLAN(b, len(b)+1, VXLANPort, &v) {
				t.Error("a packet to another port, or of another length, is taken for a tunnel's")
			}
		}
	}
}

// FuzzVXLAN gives ParseVXLAN any bytes, of a packet of which some are elsewhere: it
// may not read beyond them, and what it calls valid is what another program does.
func FuzzVXLAN(f *testing.F) {
	udp := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, payload: []byte("payload")}
	tcp := spec{src: a6, dst: b6, proto: ProtoTCP, flags: TCPSyn}
	for _, b := range [][]byte{tunnelled("192.0.2.1", "192.0.2.2", udp), tunnelled("192.0.2.1", "192.0.2.2", tcp), tunnelled("fd00::1", "fd00::2", udp)} {
		f.Add(b, uint16(0))
		f.Add(b[:60], uint16(len(b)-60))
	}
	f.Fuzz(func(t *testing.T, b []byte, parked uint16) {
		b = bytes.Clone(b)
		b = b[:len(b):len(b)]
		var v VXLAN
		if !ParseVXLAN(b, len(b)+int(parked), VXLANPort, &v) || !v.Valid {
			return
		}
		before := bytes.Clone(b)
		if v.Decapsulate(b[v.Len:]) && !bytes.Equal(before[:v.Len], b[:v.Len]) {
			t.Error("outer headers were changed")
		}
		if v.Len+20 > len(b) {
			t.Fatalf("%d bytes of headers in %d", v.Len, len(b))
		}
		kind := gopacket.LayerType(layers.LayerTypeIPv4)
		if before[0]>>4 == 6 {
			kind = layers.LayerTypeIPv6
		}
		p := gopacket.NewPacket(before, kind, gopacket.Default)
		x, ok := p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok || x.VNI != v.VNI || !x.ValidIDFlag {
			t.Errorf("VNI %d, and another program reads %s", v.VNI, p)
		}
	})
}
