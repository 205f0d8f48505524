// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

const (
	protoICMP   = 1
	protoICMPv6 = 58
)

// Matcher is a compiled Filter. It may be used from many goroutines as far as
// its Names may.
type Matcher struct {
	names    Names
	port     string
	prefix   netip.Prefix // invalid: any
	protocol uint8
	l4Port   uint16
	verdict  Verdict
	reason   uint16
	logged   bool
}

// CompileFilter makes a matcher of a filter; nil matches everything. Ports are
// matched by the name that they have when a record is looked at, so the port
// need not exist yet. The error wraps ErrFilter, names the field, and lists
// what it takes.
func CompileFilter(f *dataplanev1.Filter, names Names, reasons []string) (*Matcher, error) {
	m := &Matcher{names: names, port: f.GetPort(), logged: f.GetLogged()}
	if s := f.GetAddress(); s != "" {
		p, err := parsePrefix(s)
		if err != nil {
			return nil, err
		}
		m.prefix = p
	}
	if n := f.GetProtocol(); n > 255 {
		return nil, fmt.Errorf("%w: protocol is %d; an IP protocol number is 1 to 255", ErrFilter, n)
	}
	m.protocol = uint8(f.GetProtocol())
	if n := f.GetL4Port(); n > 65535 {
		return nil, fmt.Errorf("%w: l4_port is %d; a port number is 1 to 65535", ErrFilter, n)
	}
	m.l4Port = uint16(f.GetL4Port())
	if s := f.GetVerdict(); s != "" {
		i := slices.Index(verdictNames[:], s)
		if i < 0 {
			return nil, fmt.Errorf("%w: verdict is %q; there are %s", ErrFilter, s, strings.Join(verdictNames[1:], ", "))
		}
		m.verdict = Verdict(i)
	}
	if s := f.GetReason(); s != "" {
		i := slices.Index(reasons, s)
		if i < 1 {
			return nil, fmt.Errorf("%w: reason is %q; there are %s", ErrFilter, s, strings.Join(reasons[min(1, len(reasons)):], ", "))
		}
		m.reason = uint16(i)
	}
	return m, nil
}

// parsePrefix takes an address as the prefix that holds only it.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%w: address is %q; give an address or a prefix, such as 10.0.0.7, 10.0.0.0/24 or fd00::/64", ErrFilter, s)
	}
	return p.Masked(), nil
}

// Match tells whether a record matches. It does not allocate.
func (m *Matcher) Match(r *Record) bool {
	return (m.verdict == 0 || m.verdict == r.Verdict) &&
		(!m.logged || r.Logged) &&
		(m.reason == 0 || m.reason == r.Reason) &&
		m.matchTuple(&r.Tuple) &&
		m.matchPorts(r.InPort, r.OutPort)
}

// MatchFlow tells whether a connection matches: by the tuple of either
// direction, for they differ under NAT, and by either port. A connection has
// been let in, so a filter for another verdict, or for a drop reason, matches
// none, and it does not know whether it was logged. It does not allocate.
func (m *Matcher) MatchFlow(original, reply *Tuple, in, out uint32) bool {
	return (m.verdict == 0 || m.verdict == Allow) && m.reason == 0 &&
		(m.matchTuple(original) || m.matchTuple(reply)) &&
		m.matchPorts(in, out)
}

func (m *Matcher) matchTuple(t *Tuple) bool {
	if m.protocol != 0 && m.protocol != t.Protocol {
		return false
	}
	if m.l4Port != 0 {
		if t.Protocol == protoICMP || t.Protocol == protoICMPv6 || (m.l4Port != t.SrcPort && m.l4Port != t.DstPort) {
			return false
		}
	}
	return !m.prefix.IsValid() ||
		m.prefix.Contains(netip.AddrFrom16(t.Src).Unmap()) ||
		m.prefix.Contains(netip.AddrFrom16(t.Dst).Unmap())
}

func (m *Matcher) matchPorts(in, out uint32) bool {
	return m.port == "" ||
		(in != 0 && m.names.Port(in) == m.port) ||
		(out != 0 && m.names.Port(out) == m.port)
}
