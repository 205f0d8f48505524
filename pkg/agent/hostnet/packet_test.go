// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"netio.dev/netio/pkg/agent/netnstest"
)

// expectUnreachable sends a datagram to dst, plays the forwarder that finds it
// unreachable, and returns in got what the socket reports. It runs in the
// host's namespace.
func expectUnreachable(tun *os.File, dst string, got *string) error {
	c, err := net.Dial("udp4", dst)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	packet, err := readUDP(tun)
	if err != nil {
		return err
	}
	if src := net.IP(packet[12:16]).String(); src != "10.244.0.1" {
		return fmt.Errorf("the host sent from %s", src)
	}
	if _, err := tun.Write(unreachable(packet)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 16))
	if err == nil {
		return errors.New("got an answer")
	}
	*got = err.Error()
	return nil
}

// readUDP is the next IPv4 packet with UDP that comes out of the host knet.
func readUDP(tun *os.File) ([]byte, error) {
	packet := make([]byte, 2048)
	for {
		n, err := tun.Read(packet)
		if err != nil {
			return nil, err
		}
		if n >= 28 && packet[0]>>4 == 4 && packet[9] == 17 {
			return packet[:n], nil
		}
	}
}

// unreachable is the ICMP error for packet, from the router's address: port
// unreachable (RFC 792, type 3 code 3), which sockets report unasked.
func unreachable(packet []byte) []byte {
	e := append(header(1, "10.244.0.1", net.IP(packet[12:16]).String(), 8+28), 3, 3, 0, 0, 0, 0, 0, 0)
	e = append(e, packet[:28]...)
	binary.BigEndian.PutUint16(e[22:], checksum(e[20:]))
	return e
}

// datagram is UDP from port 9 to port 9, without checksum.
func datagram(src, dst string) []byte {
	return append(header(17, src, dst, 10), 0, 9, 0, 9, 0, 10, 0, 0, 'h', 'i')
}

// header is that of RFC 791 without options.
func header(protocol byte, src, dst string, payload int) []byte {
	h := make([]byte, 20)
	h[0], h[8], h[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(h[2:], uint16(20+payload))
	copy(h[12:], net.ParseIP(src).To4())
	copy(h[16:], net.ParseIP(dst).To4())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return h
}

// moveLink moves an interface to another namespace.
func moveLink(from, name, to string) error {
	return netnstest.Do(from, func() error {
		at, err := netns.GetFromPath(to)
		if err != nil {
			return err
		}
		defer at.Close()
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetNsFd(link, int(at))
	})
}

func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
