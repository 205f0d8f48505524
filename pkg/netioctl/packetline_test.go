// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"net"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func serialize(list ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, list...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func ip4(protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 63, Protocol: protocol, SrcIP: net.IP{10, 42, 0, 5}, DstIP: net.IP{10, 42, 0, 7}}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 63, NextHeader: next, SrcIP: net.ParseIP("fd00:42::5"), DstIP: net.ParseIP("fd00:42::7")}
}

// samplePackets are of every kind that a line tells apart.
func samplePackets() []*dataplanev1.CapturedPacket {
	fragment := ip4(layers.IPProtocolUDP)
	fragment.FragOffset = 185
	data := [][]byte{
		serialize(ip4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 40112, DstPort: 8080, Seq: 1000, SYN: true, Window: 64240}),
		serialize(ip4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 40112, DstPort: 8080, Seq: 1001, Ack: 501, ACK: true, PSH: true, Window: 502}, gopacket.Payload("GET / HTTP/1.1\r\n")),
		serialize(ip6(layers.IPProtocolUDP), &layers.UDP{SrcPort: 5353, DstPort: 53}, gopacket.Payload(make([]byte, 30))),
		serialize(ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 77, Seq: 3}, gopacket.Payload(make([]byte, 56))),
		serialize(ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, gopacket.Payload(make([]byte, 60))),
		serialize(fragment, gopacket.Payload(make([]byte, 100))),
		serialize(ip4(47), gopacket.Payload(make([]byte, 24))),
		[]byte("\x00garbage"),
	}
	packets := make([]*dataplanev1.CapturedPacket, len(data))
	for i, d := range data {
		packets[i] = &dataplanev1.CapturedPacket{
			TimeUnixNano: fakeNow.UnixNano() + int64(i)*1_000_123, ToPort: i%2 == 0, Length: uint32(len(d)), Data: d,
		}
	}
	packets[5].Lost = 3
	return packets
}

func TestPacketLine(t *testing.T) {
	for i, want := range []string{
		"IP 10.42.0.5.40112 > 10.42.0.7.8080: tcp [S] seq 1000 ack 0 win 64240",
		"IP 10.42.0.5.40112 > 10.42.0.7.8080: tcp [P.] seq 1001 ack 501 win 502 data 16",
		"IP fd00:42::5.5353 > fd00:42::7.53: udp data 30",
		"IP 10.42.0.5 > 10.42.0.7: icmp EchoRequest id 77 seq 3",
		"IP fd00:42::5 > fd00:42::7: icmpv6 EchoRequest",
		"IP 10.42.0.5 > 10.42.0.7: udp fragment at 1480",
		"IP 10.42.0.5 > 10.42.0.7: gre",
		"not IP: 00 67 61 72 62 61 67 65",
	} {
		if got := packetLine(samplePackets()[i].GetData()); got != want {
			t.Errorf("packet %d: %q, want %q", i, got, want)
		}
	}
	if got := packetLine(nil); got != "no data" {
		t.Errorf("no packet: %q", got)
	}
}

// What was snapped off in the middle of a header still gives a line.
func TestPacketLineOfTruncated(t *testing.T) {
	for _, p := range samplePackets() {
		for n := range p.GetData() {
			if line := packetLine(p.GetData()[:n]); line == "" || strings.Contains(line, "\n") {
				t.Errorf("%d bytes: %q", n, line)
			}
		}
	}
}

func FuzzPacketLine(f *testing.F) {
	for _, p := range samplePackets() {
		f.Add(p.GetData())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if line := packetLine(data); line == "" || strings.Contains(line, "\n") {
			t.Errorf("%x: %q", data, line)
		}
	})
}
