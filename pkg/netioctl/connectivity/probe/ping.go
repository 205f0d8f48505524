// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// ping sends echo requests, one a second, until one is answered. It takes a ping socket
// (net.ipv4.ping_group_range) or else a raw one (CAP_NET_RAW).
func ping(ctx context.Context, host string) error {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return err
	}
	network, raw, protocol := "udp4", "ip4:icmp", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if addr.Is6() {
		network, raw, protocol = "udp6", "ip6:ipv6-icmp", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	var to net.Addr = &net.UDPAddr{IP: addr.AsSlice()}
	conn, err := icmp.ListenPacket(network, "")
	if errors.Is(err, os.ErrPermission) {
		to = &net.IPAddr{IP: addr.AsSlice()}
		conn, err = icmp.ListenPacket(raw, "")
	}
	if errors.Is(err, os.ErrPermission) {
		return unable("it may open neither ping sockets nor raw ones")
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	mark := make([]byte, 16)
	if _, err := rand.Read(mark); err != nil {
		return err
	}
	end, _ := ctx.Deadline()
	for seq := 1; ; seq++ {
		question, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: seq, Data: mark}}).Marshal(nil)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(question, to); err != nil {
			return err
		}
		next := time.Now().Add(repeatUDP)
		if next.After(end) {
			next = end
		}
		err = awaitReply(conn, protocol, reply, mark, next)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || next.Equal(end) {
			return err
		}
	}
}

// awaitReply reads until the answer to our own question comes.
func awaitReply(conn *icmp.PacketConn, protocol int, reply icmp.Type, mark []byte, until time.Time) error {
	if err := conn.SetReadDeadline(until); err != nil {
		return err
	}
	buffer := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(protocol, buffer[:n])
		if err != nil {
			return fmt.Errorf("read echo reply: %w", err)
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && m.Type == reply && bytes.Equal(echo.Data, mark) {
			return nil
		}
	}
}
