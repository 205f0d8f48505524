// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"net/netip"
	"strings"

	"netio.dev/netio/pkg/dataplane/packet"
)

// between is a tuple in words: from where to where.
func between(t packet.Tuple) string {
	switch {
	case packet.HasPorts(t.Proto):
		return end(t.Src, t.Proto, t.SrcPort) + " > " + end(t.Dst, t.Proto, t.DstPort)
	case t.SrcPort != 0:
		return fmt.Sprintf("%s > %s id %d", t.Src, t.Dst, t.SrcPort)
	}
	return t.Src.String() + " > " + t.Dst.String()
}

// end is an address with its port, if the protocol has ports.
func end(a packet.Addr, proto uint8, port uint16) string {
	if !packet.HasPorts(proto) {
		return a.String()
	}
	return netip.AddrPortFrom(a.Netip(), port).String()
}

// flagNames are those of TCP flags.
func flagNames(flags uint8) string {
	var names []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if flags>>i&1 != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "no flags"
	}
	return strings.Join(names, "+")
}
