// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Validate checks a snapshot whole. It returns nil or a *ValidationError that
// lists every violation. A snapshot that passes can be built.
func Validate(s *dataplanev1.Snapshot) error { return ValidateUpdate(nil, s) }

// ValidateUpdate is Validate for a snapshot that was merged from a valid base:
// messages that it shares with the base are known to be good in themselves, and
// only how they stand to the others is checked again.
func ValidateUpdate(base, s *dataplanev1.Snapshot) error {
	v := &validator{errors: &ValidationError{}}
	v.known("", s)
	v.settings(s.GetSettings(), base.GetSettings() != nil && base.GetSettings() == s.GetSettings())
	v.addressSets(s.GetAddressSets(), shared(base.GetAddressSets(), s.GetAddressSets()))
	v.policies(s.GetPolicies(), shared(base.GetPolicies(), s.GetPolicies()))
	v.ports(base, s)
	v.routerAddresses(s.GetSettings())
	v.tunnels(s)
	v.routes(s.GetRoutes())
	v.sourceNats(s.GetSourceNats(), shared(base.GetSourceNats(), s.GetSourceNats()))
	v.destinationNats(s.GetDestinationNats(), shared(base.GetDestinationNats(), s.GetDestinationNats()))
	return v.errors.err()
}

// validator collects violations, and the names and addresses that others
// refer to or must not repeat.
type validator struct {
	errors      *ValidationError
	setNames    map[string]int
	policyNames map[string]int
	portNames   map[string]int        // those that matter; see portIndex
	owners      map[packet.Addr]owner // likewise
}

// owner is the port that has an address, and which of its addresses it is.
type owner struct {
	port, address int
	pod           bool
}

// place formats a field path.
func place(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// shared tells which elements of next are the very messages that base has, each
// once.
func shared[T comparable](base, next []T) func(i int) bool {
	same := 0
	for same < len(base) && same < len(next) && base[same] == next[same] {
		same++
	}
	moved := make([]bool, len(next)-same)
	if same < len(base) && same < len(next) {
		rest := make(map[T]struct{}, len(base)-same)
		for _, m := range base[same:] {
			rest[m] = struct{}{}
		}
		for i, m := range next[same:] {
			if _, ok := rest[m]; ok {
				moved[i] = true
				delete(rest, m)
			}
		}
	}
	return func(i int) bool { return i < same || moved[i-same] }
}

// known refuses fields of a newer version: to leave out what one does not
// understand of a rule is to enforce another rule.
func (v *validator) known(field string, m protoreflect.ProtoMessage) {
	r := m.ProtoReflect()
	if !r.IsValid() || len(r.GetUnknown()) == 0 {
		return
	}
	if field == "" {
		field = "snapshot"
	}
	v.errors.add(field, "has fields that this forwarder does not know; upgrade the forwarder before what configures it")
}

// name checks that a name is well-formed and new.
func (v *validator) name(list string, i int, name string, seen map[string]int) {
	field := func() string { return place("%s[%d].name", list, i) }
	if why := badName(name); why != "" {
		v.errors.add(field(), "%s %s", quote(name), why)
		return
	}
	if first, ok := seen[name]; ok {
		v.errors.add(field(), "%s is also the name of %s[%d]; give each a name of its own", quote(name), list, first)
		return
	}
	seen[name] = i
}

// badName says what is wrong with a name, "" if nothing is.
func badName(s string) string {
	switch {
	case s == "":
		return "is empty; give it a name"
	case len(s) > MaxNameLength:
		return fmt.Sprintf("is %d bytes long; use at most %d", len(s), MaxNameLength)
	case !utf8.ValidString(s):
		return "is not UTF-8"
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "has control characters; leave them out"
	}
	return ""
}

// quote repeats input in a violation, but not all of a long one.
func quote(s string) string {
	if len(s) > maxQuoted {
		return fmt.Sprintf("%q...", s[:maxQuoted])
	}
	return fmt.Sprintf("%q", s)
}

// tooMany checks a list's length.
func (v *validator) tooMany(field func() string, n, limit int) bool {
	if n <= limit {
		return false
	}
	v.errors.add(field(), "has %d elements; at most %d are possible", n, limit)
	return true
}

// parseAddr reads an address as a host has it, and says what is wrong with it.
func parseAddr(s string) (netip.Addr, string) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		if p, err := netip.ParsePrefix(s); err == nil {
			return a, fmt.Sprintf("is a prefix; expected an address such as %s", p.Addr())
		}
		return a, "is not an IP address; expected one such as 10.0.0.1 or fd00::1"
	case a.Zone() != "":
		return a, "has a zone; leave out what begins at the %"
	case a.Is4In6():
		return a, fmt.Sprintf("is an IPv4-mapped IPv6 address; write it as %s", a.Unmap())
	case !packet.AddrFrom(a).IsUnicast():
		return a, "is not an address of a host; it is unspecified, loopback, multicast, broadcast or reserved"
	}
	return a, ""
}

// parsePrefix reads a prefix, or an address as the prefix that has no other,
// and says what is wrong with it.
func parsePrefix(s string) (netip.Prefix, string) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return p, "is not a prefix; expected one such as 10.0.0.0/8 or fd00::/64"
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return p, "is an IPv4-mapped IPv6 prefix; write it as IPv4"
	}
	if m := p.Masked(); m != p {
		return p, fmt.Sprintf("has bits set beyond its length; did you mean %s?", m)
	}
	return p, ""
}

func (v *validator) settings(s *dataplanev1.Settings, known bool) {
	if s == nil || known {
		return
	}
	v.known("settings", s)
	for _, r := range []struct {
		field, value string
		is4          bool
	}{
		{"settings.ipv4", s.GetIpv4(), true}, {"settings.ipv6", s.GetIpv6(), false},
		{"settings.service_ipv4", s.GetServiceIpv4(), true}, {"settings.service_ipv6", s.GetServiceIpv6(), false},
	} {
		if r.value == "" {
			continue
		}
		a, why := parseAddr(r.value)
		switch {
		case why != "":
			v.errors.add(r.field, "%s %s", quote(r.value), why)
		case a.Is4() != r.is4:
			v.errors.add(r.field, "%s is of the other family", quote(r.value))
		}
	}
	for _, c := range []struct {
		field string
		value uint32
	}{{"max_connections", s.GetMaxConnections()}, {"max_connections_per_port", s.GetMaxConnectionsPerPort()}} {
		if c.value > MaxTotalConnections {
			v.errors.add("settings."+c.field, "%d is more than %d; use 0 for the default", c.value, MaxTotalConnections)
		}
	}
	v.timeouts(s.GetTimeouts())
	v.vxlan(s.GetVxlan())
	if v.tooMany(func() string { return "settings.host_addresses" }, len(s.GetHostAddresses()), MaxHostAddresses) {
		return
	}
	for i, text := range s.GetHostAddresses() {
		if _, why := parseAddr(text); why != "" {
			v.errors.add(place("settings.host_addresses[%d]", i), "%s %s", quote(text), why)
		}
	}
}

func (v *validator) timeouts(t *dataplanev1.Timeouts) {
	if t == nil {
		return
	}
	v.known("settings.timeouts", t)
	for _, c := range []struct {
		field string
		value uint32
	}{
		{"tcp_established", t.GetTcpEstablished()}, {"tcp_opening", t.GetTcpOpening()}, {"tcp_closing", t.GetTcpClosing()},
		{"udp", t.GetUdp()}, {"udp_stream", t.GetUdpStream()}, {"icmp", t.GetIcmp()}, {"other", t.GetOther()}, {"fragment", t.GetFragment()},
	} {
		if c.value > MaxTimeoutSeconds {
			v.errors.add("settings.timeouts."+c.field, "%d seconds are more than %d; use 0 for the default", c.value, MaxTimeoutSeconds)
		}
	}
}

// routerAddresses may be a host's, but not a pod's: the pod would be mute. That a
// service's connections come from may be neither's.
func (v *validator) routerAddresses(s *dataplanev1.Settings) {
	for _, r := range [...]struct{ field, value string }{
		{"settings.ipv4", s.GetIpv4()}, {"settings.ipv6", s.GetIpv6()},
		{"settings.service_ipv4", s.GetServiceIpv4()}, {"settings.service_ipv6", s.GetServiceIpv6()},
	} {
		a, err := netip.ParseAddr(r.value)
		if err != nil {
			continue
		}
		if o, ok := v.owners[packet.AddrFrom(a)]; ok && o.pod {
			v.errors.add(r.field, "%s is also an address of ports[%d]; the router needs one of its own", quote(r.value), o.port)
		} else if ok && strings.HasPrefix(r.field, "settings.service") {
			v.errors.add(r.field, "%s is also an address of ports[%d], whose answers would not come here; take one that nobody has", quote(r.value), o.port)
		}
	}
}
