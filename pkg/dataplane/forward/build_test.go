// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/packet"
)

// spec describes a packet in full, so that a test can say what goes in and, with
// a few fields changed, what must come out. Zero values stand for the usual.
type spec struct {
	src, dst     string
	proto        uint8 // UDP
	sport, dport uint16
	tcp          uint8 // flags
	typ, code    uint8 // ICMP; its identifier is sport
	rest         uint32
	ttl          int // 64; -1: 0
	tos          uint8
	data         []byte // after the L4 header
	size         int    // without data: so many bytes of a pattern

	df, mf  bool
	off     int // fragment offset in bytes: data follows the IP headers
	id      uint32
	frag    bool   // IPv6: fragment header
	options []byte // IPv4
	ext     []byte // IPv6: extension headers before the L4 or fragment header
	first   uint8  // protocol of the first byte of ext

	noSum   bool // UDP without checksum
	partial bool // the device is to complete the checksum
}

func (s spec) is4() bool { return addr(s.src).Is4() }

func (s spec) protocol() uint8 {
	if s.proto == 0 {
		return packet.ProtoUDP
	}
	return s.proto
}

// payload is what follows the L4 header.
func (s spec) payload() []byte {
	if s.data != nil {
		return s.data
	}
	b := make([]byte, s.size)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + 1)
	}
	return b
}

// l4 is the packet behind the IP headers, its checksum complete or partial.
func (s spec) l4() []byte {
	data := s.payload()
	if s.off > 0 {
		return data
	}
	src, dst, proto := addr(s.src), addr(s.dst), s.protocol()
	var b []byte
	at, pseudo := -1, true
	switch proto {
	case packet.ProtoTCP:
		b = make([]byte, 20)
		binary.BigEndian.PutUint32(b[4:], 1000)
		binary.BigEndian.PutUint32(b[8:], 2000)
		b[12], b[13] = 5<<4, s.tcp
		binary.BigEndian.PutUint16(b[14:], 65535)
		at = 16
	case packet.ProtoUDP:
		b = make([]byte, 8)
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
		at = 6
	case packet.ProtoSCTP:
		b = make([]byte, 12)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		b = make([]byte, 8)
		b[0], b[1] = s.typ, s.code
		binary.BigEndian.PutUint32(b[4:], s.rest)
		if s.isEcho() {
			binary.BigEndian.PutUint16(b[4:], s.sport)
		}
		at, pseudo = 2, proto == packet.ProtoICMPv6
	default:
		return data
	}
	if packet.HasPorts(proto) {
		binary.BigEndian.PutUint16(b, s.sport)
		binary.BigEndian.PutUint16(b[2:], s.dport)
	}
	b = append(b, data...)
	if proto == packet.ProtoSCTP {
		if !s.partial {
			binary.LittleEndian.PutUint32(b[8:], packet.SCTPChecksum(b))
		}
		return b
	}
	sum := uint32(0)
	if pseudo {
		s16, d16 := src.As16(), dst.As16()
		from := 0
		if src.Is4() {
			from = 12
		}
		sum = onesSum(s16[from:]) + onesSum(d16[from:]) + uint32(proto) + uint32(len(b))
	}
	switch {
	case s.noSum:
		return b
	case !s.partial:
		sum = ^foldSum(sum + onesSum(b))
		if proto == packet.ProtoUDP && sum&0xffff == 0 {
			sum = 0xffff
		}
	default:
		sum = foldSum(sum)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(sum))
	return b
}

func (s spec) isEcho() bool {
	return packet.Tuple{Proto: s.protocol(), DstPort: uint16(s.typ) << 8}.IsICMPRequest() ||
		packet.Tuple{Proto: s.protocol(), DstPort: uint16(s.typ) << 8}.Reply().IsICMPRequest()
}

// onesSum and foldSum are as slow and obvious as can be (RFC 1071).
func onesSum(b []byte) (sum uint32) {
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	return sum
}

func foldSum(s uint32) uint32 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return s
}

// bytes of the packet.
func (s spec) bytes() []byte {
	ttl := uint8(s.ttl)
	switch s.ttl {
	case 0:
		ttl = 64
	case -1:
		ttl = 0
	}
	l4 := s.l4()
	src, dst := addr(s.src).As16(), addr(s.dst).As16()
	if s.is4() {
		h := make([]byte, 20+len(s.options), 20+len(s.options)+len(l4))
		h[0], h[1], h[8], h[9] = 0x40|byte(len(h)/4), s.tos, ttl, s.protocol()
		binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(l4)))
		binary.BigEndian.PutUint16(h[4:], uint16(s.id))
		frag := uint16(s.off / 8)
		if s.df {
			frag |= 0x4000
		}
		if s.mf {
			frag |= 0x2000
		}
		binary.BigEndian.PutUint16(h[6:], frag)
		copy(h[12:], src[12:])
		copy(h[16:], dst[12:])
		copy(h[20:], s.options)
		binary.BigEndian.PutUint16(h[10:], ^uint16(foldSum(onesSum(h))))
		return append(h, l4...)
	}
	h := make([]byte, 40)
	binary.BigEndian.PutUint32(h, 6<<28|uint32(s.tos)<<20)
	h[6], h[7] = s.protocol(), ttl
	copy(h[8:], src[:])
	copy(h[24:], dst[:])
	next := &h[6]
	if len(s.ext) > 0 {
		*next = s.first
		h = append(h, s.ext...)
		// The last header of ext names what follows: its first byte.
		next = &h[40]
		h[6] = s.first
	}
	if s.frag || s.mf || s.off > 0 {
		*next = 44
		f := make([]byte, 8)
		f[0] = s.protocol()
		binary.BigEndian.PutUint16(f[2:], uint16(s.off))
		if s.mf {
			f[3] |= 1
		}
		binary.BigEndian.PutUint32(f[4:], s.id)
		h = append(h, f...)
	} else {
		*next = s.protocol()
	}
	binary.BigEndian.PutUint16(h[4:], uint16(len(h)-40+len(l4)))
	return append(h, l4...)
}

// tune says in the nbuf what the packet's bytes do not.
func (s spec) tune(nb *abi.Nbuf) {
	if !s.partial || s.off > 0 {
		return
	}
	nb.Flags |= abi.NbCsumPartial
	nb.CsumStart = 40 + uint16(len(s.ext))
	if s.is4() {
		nb.CsumStart = 20 + uint16(len(s.options))
	}
	switch s.protocol() {
	case packet.ProtoTCP:
		nb.CsumOffset = 16
	case packet.ProtoSCTP:
		nb.CsumOffset = 8
	case packet.ProtoICMP, packet.ProtoICMPv6:
		nb.CsumOffset = 2
	default:
		nb.CsumOffset = 6
	}
}

// answer is the packet that comes back.
func (s spec) answer() spec {
	s.src, s.dst, s.sport, s.dport = s.dst, s.src, s.dport, s.sport
	if s.isEcho() {
		s.sport = s.dport
		s.dport = 0
		s.typ = uint8(packet.Tuple{Proto: s.proto, DstPort: uint16(s.typ) << 8}.Reply().DstPort >> 8)
	}
	return s
}

// hop is the packet after one more router.
func (s spec) hop() spec {
	if s.ttl == 0 {
		s.ttl = 64
	}
	s.ttl--
	return s
}

// with returns a changed copy.
func (s spec) with(f func(*spec)) spec {
	f(&s)
	return s
}

// describe shows a packet to people.
func describePacket(b []byte) string {
	if len(b) == 0 {
		return "no bytes"
	}
	kind := gopacket.LayerType(layers.LayerTypeIPv4)
	if b[0]>>4 == 6 {
		kind = layers.LayerTypeIPv6
	}
	return fmt.Sprintf("%s\n%x", gopacket.NewPacket(b, kind, gopacket.Default), b[:min(len(b), 160)])
}

// TestSpec holds the builder against another one, so that the tests that rest on
// it stand on firm ground.
func TestSpec(t *testing.T) {
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	data := []byte("any payload, odd")
	for _, s := range []spec{
		{src: "10.0.0.1", dst: "10.0.0.2", sport: 1, dport: 2, data: data},
		{src: "fd00::1", dst: "fd00::2", sport: 1, dport: 2, data: data},
		{src: "10.0.0.1", dst: "10.0.0.2", proto: packet.ProtoTCP, sport: 1, dport: 2, tcp: packet.TCPSyn, data: data},
		{src: "fd00::1", dst: "fd00::2", proto: packet.ProtoTCP, sport: 1, dport: 2, tcp: packet.TCPAck, data: data},
		{src: "10.0.0.1", dst: "10.0.0.2", proto: packet.ProtoICMP, typ: 8, sport: 77, data: data},
		{src: "fd00::1", dst: "fd00::2", proto: packet.ProtoICMPv6, typ: 128, sport: 77, data: data},
	} {
		src, dst := addr(s.src).Netip().AsSlice(), addr(s.dst).Netip().AsSlice()
		var ip gopacket.NetworkLayer = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocol(s.protocol()), SrcIP: src, DstIP: dst}
		if !s.is4() {
			ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocol(s.protocol()), SrcIP: src, DstIP: dst}
		}
		list := []gopacket.SerializableLayer{ip.(gopacket.SerializableLayer)}
		switch s.protocol() {
		case packet.ProtoUDP:
			u := &layers.UDP{SrcPort: 1, DstPort: 2}
			u.SetNetworkLayerForChecksum(ip)
			list = append(list, u)
		case packet.ProtoTCP:
			c := &layers.TCP{SrcPort: 1, DstPort: 2, Seq: 1000, Ack: 2000, Window: 65535, SYN: s.tcp == packet.TCPSyn, ACK: s.tcp == packet.TCPAck}
			c.SetNetworkLayerForChecksum(ip)
			list = append(list, c)
		case packet.ProtoICMP:
			list = append(list, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 77})
		case packet.ProtoICMPv6:
			c := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
			c.SetNetworkLayerForChecksum(ip)
			list = append(list, c, &layers.ICMPv6Echo{Identifier: 77})
		}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, opts, append(list, gopacket.Payload(data))...); err != nil {
			t.Fatal(err)
		}
		if got, want := s.bytes(), buf.Bytes(); string(got) != string(want) {
			t.Errorf("built  %x\nwant   %x", got, want)
		}
		s.partial = true
		b := s.bytes()
		var nb abi.Nbuf
		s.tune(&nb)
		packet.CompleteChecksum(b, int(nb.CsumStart), int(nb.CsumOffset))
		if string(b) != string(buf.Bytes()) {
			t.Errorf("completed %x\nwant      %x", b, buf.Bytes())
		}
	}
}
