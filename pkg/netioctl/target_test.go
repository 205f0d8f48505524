// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]target{
		"web:80":                {"web", protoTCP, 80},
		"default/web:80":        {"default/web", protoTCP, 80},
		"default/web:80/tcp":    {"default/web", protoTCP, 80},
		"default/web:53/udp":    {"default/web", protoUDP, 53},
		"web:9/SCTP":            {"web", protoSCTP, 9},
		"web:9/17":              {"web", protoUDP, 9},
		"10.0.0.7:65535":        {"10.0.0.7", protoTCP, 65535},
		"[fd00::7]:80":          {"fd00::7", protoTCP, 80},
		"[fd00::7]:53/udp":      {"fd00::7", protoUDP, 53},
		"[fd00::7]:icmp":        {"fd00::7", protoICMP, 0},
		"web:icmp":              {"web", protoICMP, 0},
		"10.0.0.7:icmpv6":       {"10.0.0.7", protoICMPv6, 0},
		"web:esp":               {"web", 50, 0},
		"web":                   {"web", 0, 0},
		"default/web":           {"default/web", 0, 0},
		"[fd00::7]":             {"fd00::7", 0, 0},
		"fd00::7":               {"fd00::7", 0, 0},
		"::1":                   {"::1", 0, 0},
		"[::ffff:10.0.0.1]:443": {"::ffff:10.0.0.1", protoTCP, 443},
	} {
		got, err := parseTarget(in)
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                  "host is missing",
		":80":               "host is missing",
		"web:":              "is no port",
		"web:0":             "1 to 65535",
		"web:65536":         "1 to 65535",
		"web:-1":            "is no port",
		"web:http":          "is no port",
		"web:tcp":           "is no port",
		"web:6":             "", // port 6, not protocol 6
		"web:80/":           "protocol",
		"web:80/quic":       "tcp, udp",
		"web:80/icmp":       "write web:icmp",
		"[fd00::7]:80/icmp": "write [fd00::7]:icmp",
		"web:80/256":        "1 to 255",
		"web:/udp":          "is no port",
		"fd00::7:80x":       "in brackets",
		"fd00:1:80/tcp":     "in brackets",
		"[fd00::7":          "expected [ADDRESS]",
		"[fd00::7]80":       "expected [ADDRESS]",
		"[10.0.0.7]:80":     "not an IPv6 address",
		"[web]:80":          "not an IPv6 address",
		"[]:80":             "not an IPv6 address",
	} {
		_, err := parseTarget(in)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", in, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
}

func TestParseSource(t *testing.T) {
	for in, want := range map[string]string{
		"web": "web", "default/web": "default/web", "10.0.0.1": "10.0.0.1", "fd00::1": "fd00::1", "[fd00::1]": "fd00::1",
	} {
		if got, err := parseSource(in); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"": "namespace/name", "web:80": "--source-port 80", "[fd00::1]:80": "--source-port 80", "[x": "[ADDRESS]",
	} {
		if _, err := parseSource(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
}

// Whatever is typed is read or refused, and what is read has a host and a port
// or a protocol without one.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"web:80", "default/web:80/udp", "[fd00::1]:443/tcp", "10.0.0.1:icmp", "fd00::1", "[fd00::1", ":", "[]:", "a:b/c", "web:80/47", "[::1%lo]:9",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTarget(s)
		if err != nil {
			return
		}
		switch {
		case got.host == "":
			t.Errorf("%q has no host", s)
		case got.protocol == 0 && got.port != 0:
			t.Errorf("%q has port %d of no protocol", s, got.port)
		case hasPorts(uint32(got.protocol)) != (got.port != 0):
			t.Errorf("%q: protocol %d, port %d", s, got.protocol, got.port)
		}
		if addr, err := netip.ParseAddr(got.host); err == nil && addr.Is6() && got.protocol != 0 && s[0] != '[' {
			t.Errorf("%q: an IPv6 address without brackets was taken apart", s)
		}
		if !strings.Contains(s, got.host) {
			t.Errorf("%q: host %q is not in it", s, got.host)
		}
	})
}

func FuzzSource(f *testing.F) {
	for _, s := range []string{"web", "default/web", "[fd00::1]", "fd00::1", "10.0.0.1", "a:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if host, err := parseSource(s); err == nil && host == "" {
			t.Errorf("%q has no host", s)
		}
	})
}
