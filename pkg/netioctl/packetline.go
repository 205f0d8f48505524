// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// lineSink shows packets one a line, in the manner of tcpdump.
type lineSink struct{ a *app }

func (s *lineSink) flush() error { return nil }

func (s *lineSink) write(p *dataplanev1.CapturedPacket) error {
	if s.a.format != formatTable {
		return s.a.printOne(p)
	}
	direction := "from"
	if p.GetToPort() {
		direction = "to  "
	}
	lost := ""
	if p.GetLost() > 0 {
		lost = fmt.Sprintf(" (%s left out before)", plural(p.GetLost(), "packet"))
	}
	_, err := fmt.Fprintf(s.a.out, "%s %s %s, length %d%s\n", s.a.clock(p.GetTimeUnixNano()), direction, packetLine(p.GetData()), p.GetLength(), lost)
	return err
}

// packetLine says in a line what a packet is. Whatever it is given, it gives a
// line.
func packetLine(data []byte) string {
	if len(data) == 0 {
		return "no data"
	}
	var first gopacket.LayerType
	switch data[0] >> 4 {
	case 4:
		first = layers.LayerTypeIPv4
	case 6:
		first = layers.LayerTypeIPv6
	default:
		return fmt.Sprintf("not IP: % x", data[:min(len(data), 16)])
	}
	packet := gopacket.NewPacket(data, first, gopacket.DecodeOptions{NoCopy: true})
	network := packet.NetworkLayer()
	if network == nil {
		return "IP, cut off"
	}
	src, dst := network.NetworkFlow().Endpoints()
	if len(src.Raw()) == 0 || len(dst.Raw()) == 0 {
		return "IP, cut off"
	}
	for _, l := range packet.Layers() {
		switch l := l.(type) {
		case *layers.TCP:
			return fmt.Sprintf("IP %s.%d > %s.%d: tcp [%s] seq %d ack %d win %d%s",
				src, l.SrcPort, dst, l.DstPort, tcpFlags(l), l.Seq, l.Ack, l.Window, payload(l.Payload))
		case *layers.UDP:
			return fmt.Sprintf("IP %s.%d > %s.%d: udp%s", src, l.SrcPort, dst, l.DstPort, payload(l.Payload))
		case *layers.SCTP:
			return fmt.Sprintf("IP %s.%d > %s.%d: sctp", src, l.SrcPort, dst, l.DstPort)
		case *layers.ICMPv4:
			return fmt.Sprintf("IP %s > %s: icmp %s id %d seq %d", src, dst, l.TypeCode, l.Id, l.Seq)
		case *layers.ICMPv6:
			return fmt.Sprintf("IP %s > %s: icmpv6 %s", src, dst, l.TypeCode)
		}
	}
	return fmt.Sprintf("IP %s > %s: %s", src, dst, otherProtocol(packet))
}

// otherProtocol says what follows the IP header of a packet that has no
// transport header, such as a later fragment.
func otherProtocol(packet gopacket.Packet) string {
	for _, l := range packet.Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			if l.FragOffset != 0 {
				return fmt.Sprintf("%s fragment at %d", protocolName(uint32(l.Protocol)), int(l.FragOffset)*8)
			}
			return protocolName(uint32(l.Protocol))
		case *layers.IPv6Fragment:
			return fmt.Sprintf("%s fragment at %d", protocolName(uint32(l.NextHeader)), int(l.FragmentOffset)*8)
		}
	}
	if ip, ok := packet.NetworkLayer().(*layers.IPv6); ok {
		return protocolName(uint32(ip.NextHeader))
	}
	return "unknown"
}

func tcpFlags(t *layers.TCP) string {
	var b strings.Builder
	for _, f := range []struct {
		set  bool
		flag byte
	}{{t.FIN, 'F'}, {t.SYN, 'S'}, {t.RST, 'R'}, {t.PSH, 'P'}, {t.ACK, '.'}, {t.URG, 'U'}, {t.ECE, 'E'}, {t.CWR, 'W'}} {
		if f.set {
			b.WriteByte(f.flag)
		}
	}
	return b.String()
}

// payload tells how much follows the transport header, as far as it was captured.
func payload(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return fmt.Sprintf(" data %d", len(b))
}
