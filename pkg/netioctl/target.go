// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// target is the destination of policy explain as it was written:
//
//	HOST:PORT  HOST:PORT/PROTOCOL  HOST:PROTOCOL  HOST
//
// HOST is a name, namespace/name, an IPv4 address, or an IPv6 address in brackets.
// The third form is for protocols without ports; the last one, in which an IPv6
// address needs no brackets, is completed by --icmp-type.
type target struct {
	host     string
	protocol uint8  // 0: HOST alone
	port     uint16 // 0 without ports
}

const targetForm = "DST:PORT, DST:PORT/udp or DST:icmp, with an IPv6 address as [fd00::1]:PORT"

// parseTarget reads a destination. "icmp" stands for ICMPv6 too.
func parseTarget(s string) (target, error) {
	host, service, found, err := cutService(s)
	switch {
	case err != nil:
		return target{}, err
	case host == "":
		return target{}, fmt.Errorf("destination %q: the host is missing; expected %s", s, targetForm)
	case !found:
		return target{host: host}, nil
	}
	word, protocol, hasProtocol := strings.Cut(service, "/")
	t := target{host: host, protocol: protoTCP}
	if hasProtocol {
		if t.protocol, err = parseProtocol(protocol); err != nil {
			return target{}, fmt.Errorf("destination %q: %w", s, err)
		}
		if !hasPorts(uint32(t.protocol)) {
			return target{}, fmt.Errorf("destination %q: %s has no ports; write %s:%s",
				s, protocolName(uint32(t.protocol)), s[:len(s)-len(service)-1], protocolName(uint32(t.protocol)))
		}
	}
	if port, err := strconv.ParseUint(word, 10, 16); err == nil && port != 0 {
		t.port = uint16(port)
		return t, nil
	}
	if !hasProtocol && word != "" && (word[0] < '0' || word[0] > '9') {
		if p, err := parseProtocol(word); err == nil && !hasPorts(uint32(p)) {
			return target{host: host, protocol: p}, nil
		}
	}
	return target{}, fmt.Errorf("destination %q: %q is no port; expected a number from 1 to 65535, or a protocol without ports such as icmp", s, word)
}

// cutService parts a host from what follows its colon. An IPv6 address loses its
// brackets.
func cutService(s string) (host, service string, found bool, err error) {
	if strings.HasPrefix(s, "[") {
		inside, rest, ok := strings.Cut(s[1:], "]")
		if !ok || (rest != "" && rest[0] != ':') {
			return "", "", false, fmt.Errorf("%q: expected [ADDRESS] or [ADDRESS]:PORT", s)
		}
		if addr, err := netip.ParseAddr(inside); err != nil || !addr.Is6() {
			return "", "", false, fmt.Errorf("%q: %q is not an IPv6 address", s, inside)
		}
		service, found = strings.CutPrefix(rest, ":")
		return inside, service, found, nil
	}
	if strings.Count(s, ":") > 1 {
		if _, err := netip.ParseAddr(s); err == nil {
			return s, "", false, nil
		}
		return "", "", false, fmt.Errorf("%q: put the IPv6 address in brackets, as in [fd00::1]:80", s)
	}
	host, service, found = strings.Cut(s, ":")
	return host, service, found, nil
}

// parseSource reads the source of policy explain: a host alone.
func parseSource(s string) (string, error) {
	host, service, found, err := cutService(s)
	switch {
	case err != nil:
		return "", fmt.Errorf("source %w", err)
	case host == "":
		return "", fmt.Errorf("source %q: expected namespace/name, a name or an address", s)
	case found:
		return "", fmt.Errorf("source %q: expected no port here; give it with --source-port %s", s, service)
	}
	return host, nil
}
