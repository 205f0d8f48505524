// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// IP protocol numbers (IANA).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

var protocols = []struct {
	name   string
	number uint8
}{
	{"icmp", protoICMP}, {"igmp", 2}, {"ipip", 4}, {"tcp", protoTCP}, {"udp", protoUDP}, {"ipv6", 41}, {"gre", 47},
	{"esp", 50}, {"ah", 51}, {"icmpv6", protoICMPv6}, {"sctp", protoSCTP},
}

func protocolNames() []string {
	names := make([]string, len(protocols))
	for i, p := range protocols {
		names[i] = p.name
	}
	return names
}

// protocolName gives a protocol's name, or its number.
func protocolName(n uint32) string {
	for _, p := range protocols {
		if uint32(p.number) == n {
			return p.name
		}
	}
	return strconv.FormatUint(uint64(n), 10)
}

// parseProtocol takes a protocol's name or its number, 1 to 255.
func parseProtocol(s string) (uint8, error) {
	for _, p := range protocols {
		if strings.EqualFold(p.name, s) {
			return p.number, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("protocol %q: expected %s, or a number from 1 to 255", s, strings.Join(protocolNames(), ", "))
	}
	return uint8(n), nil
}

func hasPorts(protocol uint32) bool {
	return protocol == protoTCP || protocol == protoUDP || protocol == protoSCTP
}

func isICMP(protocol uint32) bool { return protocol == protoICMP || protocol == protoICMPv6 }

// hostPort shows one side of a tuple.
func hostPort(addr string, protocol, port uint32) string {
	if !hasPorts(protocol) {
		return addr
	}
	return net.JoinHostPort(addr, strconv.FormatUint(uint64(port), 10))
}

func source(t *dataplanev1.Tuple) string {
	return hostPort(t.GetSrc(), t.GetProtocol(), t.GetSrcPort())
}

func destination(t *dataplanev1.Tuple) string {
	return hostPort(t.GetDst(), t.GetProtocol(), t.GetDstPort())
}

// protocolOf shows a tuple's protocol; ICMP with type and code.
func protocolOf(t *dataplanev1.Tuple) string {
	if p := t.GetProtocol(); isICMP(p) {
		return fmt.Sprintf("%s %d/%d", protocolName(p), t.GetDstPort()>>8, t.GetDstPort()&0xff)
	}
	return protocolName(t.GetProtocol())
}
