// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/pkg/agent/netnstest"
)

func withServices() Config {
	c := dualStack()
	addr := netip.MustParseAddr
	c.Services = Services{
		Addresses: []netip.Addr{addr("10.96.0.1"), addr("198.51.100.1"), addr("fd00:96::1")},
		TCP:       []uint16{30080, 30443}, UDP: []uint16{30053},
		Sources: []netip.Addr{addr("10.244.0.2"), addr("fd00:10:244::2")},
	}
	return c
}

func TestServices(t *testing.T) {
	h, _ := host(t)
	c := withServices()
	mustReconcile(t, h, c)
	first := look(t, h)
	mustContain(t, first, "10.96.0.1 proto 110 scope link", "198.51.100.1 proto 110", "fd00:96::1 proto 110",
		"meta nfproto ipv4 tcp dport { 30080, 30443 } dnat ip to 10.244.0.2", "meta nfproto ipv6 udp dport { 30053 } dnat ip6 to fd00:10:244::2",
		`ip saddr 10.244.0.2 oifname != "netio0" masquerade`, `ip6 saddr fd00:10:244::2 oifname != "netio0" masquerade`,
		`iifname != "netio0" fib daddr type local goto node-ports`, "ip daddr 127.0.0.0/8 return")
	mustContain(t, run(t, h, "ip", "route", "get", "198.51.100.1"), "dev netio0")

	before := run(t, h, "nft", "-a", "list", "table", "inet", "netio")
	mustReconcile(t, h, c)
	if after := run(t, h, "nft", "-a", "list", "table", "inet", "netio"); after != before {
		t.Errorf("the table was written again:\n%s\n%s", before, after)
	}

	// Other ports and other addresses.
	c.Services.Addresses, c.Services.TCP = c.Services.Addresses[:1], []uint16{30080, 30444}
	mustReconcile(t, h, c)
	changed := look(t, h)
	mustContain(t, changed, "dport { 30080, 30444 }", "10.96.0.1 proto 110")
	if strings.Contains(changed, "198.51.100.1") || strings.Contains(changed, "fd00:96::1 proto") {
		t.Errorf("addresses of services that are gone are left:\n%s", changed)
	}

	// Without masquerading, node ports remain.
	c.Masquerade = false
	mustReconcile(t, h, c)
	if text := look(t, h); !strings.Contains(text, "dnat ip to") || strings.Contains(text, "goto world") {
		t.Errorf("without masquerading:\n%s", text)
	}
	c = dualStack()
	mustReconcile(t, h, c)
	if text := look(t, h); strings.Contains(text, "dnat") || strings.Contains(text, "10.96.0.1") {
		t.Errorf("services are left:\n%s", text)
	}
	c = withServices()
	mustReconcile(t, h, c)
	if err := h.Remove(c); err != nil {
		t.Fatal(err)
	}
	if text := run(t, h, "nft", "list", "ruleset"); strings.Contains(text, "netio") {
		t.Errorf("after Remove:\n%s", text)
	}
}

// TestNodePortsLead sends a datagram to a node port, and sees it come out of the
// host knet for the forwarder: with the destination that says so, and the sender's
// address. The answer goes back as the node's.
func TestNodePortsLead(t *testing.T) {
	h, tun := host(t)
	mustReconcile(t, h, withServices())
	run(t, h, "ip", "link", "set", "lo", "up")
	run(t, h, "ip", "addr", "add", "192.0.2.1/32", "dev", "lo")

	for name, test := range map[string]struct {
		to   string
		port int
		want string // "" if it is not led
	}{
		"a node port":         {"192.0.2.1", 30053, "192.0.2.1 > 10.244.0.2"},
		"a service's address": {"198.51.100.1", 53, "10.244.0.1 > 198.51.100.1"},
		"another port":        {"192.0.2.1", 30054, ""},
		"loopback":            {"127.0.0.1", 30053, ""},
		"TCP's port by UDP":   {"192.0.2.1", 30080, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got, answer string
			err := netnstest.Do(h.NetNS, func() (err error) {
				got, answer, err = lead(tun, test.to, test.port, test.want != "")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want || test.want != "" && answer != "hi" {
				t.Errorf("%q, answer %q; want %q", got, answer, test.want)
			}
		})
	}
}

// lead sends a datagram and plays the forwarder, which answers it. It runs in the
// host's namespace.
func lead(tun *os.File, to string, port int, answered bool) (got, answer string, err error) {
	c, err := net.Dial("udp4", fmt.Sprint(to, ":", port))
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hi")); err != nil {
		return "", "", err
	}
	if !answered {
		// Nobody listens there: that is the host's own word.
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return "", "", err
		}
		_, err := c.Read(make([]byte, 16))
		if err == nil || !strings.Contains(err.Error(), "refused") {
			return "", "", fmt.Errorf("want connection refused, got %w", err)
		}
		return "", "", nil
	}
	packet, err := readUDP(tun)
	if err != nil {
		return "", "", err
	}
	src, dst := net.IP(packet[12:16]).String(), net.IP(packet[16:20]).String()
	back := append(header(17, dst, src, 10), packet[22], packet[23], packet[20], packet[21], 0, 10, 0, 0, 'h', 'i')
	if _, err := tun.Write(back); err != nil {
		return "", "", err
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", "", err
	}
	text := make([]byte, 16)
	n, err := c.Read(text)
	return src + " > " + dst, string(text[:n]), err
}
