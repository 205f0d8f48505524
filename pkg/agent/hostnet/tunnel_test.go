// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/pkg/agent/netnstest"
)

func withTunnel() Config {
	c := dualStack()
	c.Sources = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	c.Peers = []Peer{peer("n2", "192.0.2.2 2001:db8::2", "10.244.1.0/24 fd00:10:245::/64")}
	c.Tunnel = &Tunnel{
		VNI: 9617, Port: 4789, MTU: 1350,
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Received:  []netip.Addr{netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("fd00:10:244::2")},
	}
	return c
}

func TestTunnel(t *testing.T) {
	h := neighbour(t)
	c := withTunnel()
	native := c
	native.Tunnel = nil
	mustReconcile(t, h, native)
	mustContain(t, peerRoutes(t, h), "10.244.1.0/24 via 192.0.2.2")
	for range 2 { // the second time all is there
		mustReconcile(t, h, c)
		text := look(t, h)
		mustContain(t, text, "10.244.1.0/24 proto 110 scope link src 192.0.2.1 mtu 1350", "10.244.0.0/24 proto 110 scope link src 192.0.2.1 mtu 1350",
			"fd00:10:245::/64 proto 110", `iifname "netio0" udp dport 4789 notrack`,
			"ip daddr 192.0.2.1 udp dport 4789 @th,96,24 0x2591 notrack ip daddr set 10.244.0.2",
			"ip6 daddr 2001:db8::1 udp dport 4789 @th,96,24 0x2591 notrack ip6 daddr set fd00:10:244::2")
		// What comes in the tunnel is larger than what pods may send.
		if r := run(t, h, "ip", "route", "get", "10.244.0.2"); !strings.Contains(r, "dev netio0") || strings.Contains(r, "mtu") {
			t.Errorf("route to the forwarder: %s", r)
		}
		if r := peerRoutes(t, h); strings.Contains(r, "via") {
			t.Errorf("routes past the tunnel: %s", r)
		}
	}
	before := run(t, h, "nft", "-a", "list", "table", "inet", "netio")
	mustReconcile(t, h, c)
	if after := run(t, h, "nft", "-a", "list", "table", "inet", "netio"); after != before {
		t.Errorf("the table was written again:\n%s\n%s", before, after)
	}
	mustReconcile(t, h, native)
	if text := look(t, h); strings.Contains(text, "4789") || strings.Contains(text, "mtu 1350") {
		t.Errorf("the tunnel is left:\n%s", text)
	}
	mustContain(t, peerRoutes(t, h), "10.244.1.0/24 via 192.0.2.2")
	mustReconcile(t, h, c)
	if err := h.Remove(c); err != nil {
		t.Fatal(err)
	}
	if text := run(t, h, "nft", "list", "ruleset"); strings.Contains(text, "netio") {
		t.Errorf("after Remove:\n%s", text)
	}
}

// TestTunnelLeads sends what another node's forwarder would, and sees it come out of
// the host knet; and back. Another network's packets at the port stay the host's.
//
//	netio0 ── host 192.0.2.1 ── up0 ────── up1 192.0.2.2
func TestTunnelLeads(t *testing.T) {
	h, tun := host(t)
	other := netnstest.New(t)
	run(t, h, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	if err := moveLink(h.NetNS, "up1", other); err != nil {
		t.Fatal(err)
	}
	o := &Host{NetNS: other}
	for _, c := range []string{"ip addr add 192.0.2.2/24 dev up1", "ip link set up1 up"} {
		run(t, o, strings.Fields(c)...)
	}
	for _, c := range []string{"ip addr add 192.0.2.1/24 dev up0", "ip link set up0 up"} {
		run(t, h, strings.Fields(c)...)
	}
	c := withTunnel()
	c.Tunnel.Addresses, c.Tunnel.Received = c.Tunnel.Addresses[:1], c.Tunnel.Received[:1]
	mustReconcile(t, h, c)
	listen := func(ns, address string) net.PacketConn {
		var l net.PacketConn
		if err := netnstest.Do(ns, func() (err error) {
			l, err = net.ListenPacket("udp4", address)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	theirs, ours := listen(other, "192.0.2.2:4789"), listen(h.NetNS, "192.0.2.1:4789")
	packet := func(vni uint32) []byte {
		b := []byte{8, 0, 0, 0, 0, 0, 0, 0, 'x'}
		binary.BigEndian.PutUint32(b[4:], vni<<8)
		return b
	}
	to := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4789}
	for vni, led := range map[uint32]bool{9617: true, 9618: false} {
		if _, err := theirs.WriteTo(packet(vni), to); err != nil {
			t.Fatal(err)
		}
		if !led {
			if err := ours.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := ours.ReadFrom(make([]byte, 64)); err != nil {
				t.Errorf("another network's packet: %v", err)
			}
			continue
		}
		got, err := readUDP(tun)
		if err != nil {
			t.Fatal(err)
		}
		src, dst := net.IP(got[12:16]).String(), net.IP(got[16:20]).String()
		if src != "192.0.2.2" || dst != "10.244.0.2" || checksum(got[:20]) != 0 {
			t.Errorf("%s > %s: % x", src, dst, got)
		}
	}
	// And out, from the host's own address.
	out := append(header(17, "192.0.2.1", "192.0.2.2", 8+9), 0xc0, 0, 0x12, 0xb5, 0, 17, 0, 0)
	if _, err := tun.Write(append(out, packet(9617)...)); err != nil {
		t.Fatal(err)
	}
	if err := theirs.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, from, err := theirs.ReadFrom(make([]byte, 64))
	if err != nil || from.(*net.UDPAddr).IP.String() != "192.0.2.1" {
		t.Errorf("from %v, %v", from, err)
	}
}
