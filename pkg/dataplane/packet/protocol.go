// SPDX-License-Identifier: Apache-2.0

package packet

import "fmt"

// ProtocolName is what people call an IP protocol.
func ProtocolName(p uint8) string {
	switch p {
	case ProtoICMP:
		return "ICMP"
	case ProtoTCP:
		return "TCP"
	case ProtoUDP:
		return "UDP"
	case ProtoDCCP:
		return "DCCP"
	case ProtoICMPv6:
		return "ICMPv6"
	case ProtoSCTP:
		return "SCTP"
	case ProtoUDPLite:
		return "UDP-Lite"
	}
	return fmt.Sprintf("protocol %d", p)
}
