// SPDX-License-Identifier: Apache-2.0

package packet

// Reason tells why a packet was refused; OK is zero. The names are stable:
// they are shown as drop reasons.
type Reason uint8

// Reasons for which Parse, ParseInner and FragmentIPv4 refuse a packet.
const (
	OK             Reason = iota
	TooShort              // shorter than an IP header
	BadVersion            // neither IPv4 nor IPv6
	BadHeaderLen          // IPv4 header length below 20 or beyond the packet
	BadTotalLen           // the IP header claims more bytes than there are
	BadChecksum           // IPv4 header checksum
	BadOption             // malformed IPv4 option
	SourceRoute           // IPv4 source route, IPv6 routing header type 0
	BadExtHeader          // IPv6 extension header malformed, misplaced, or too many
	BadAddress            // IPv4-mapped address in an IPv6 header
	BadFragment           // fragment length or offset impossible
	TinyFragment          // first fragment without its L4 header
	BadL4                 // L4 header or length impossible
	Truncated             // headers not wholly in the nbuf
	NoInner               // ICMP error that quotes no packet that can be matched
	DontFragment          // FragmentIPv4: DF is set
	CannotFragment        // FragmentIPv4: the MTU is too small for the header
	reasonCount
)

// ReasonCount is the number of reasons, for tables of counters.
const ReasonCount = int(reasonCount)

var reasonText = [reasonCount]struct{ name, description string }{
	OK:             {"ok", "the packet is well-formed"},
	TooShort:       {"too-short", "shorter than an IP header; the sender's stack or driver is broken"},
	BadVersion:     {"bad-ip-version", "neither IPv4 nor IPv6; only IP is forwarded, look for a raw socket on the sending port"},
	BadHeaderLen:   {"bad-header-length", "IPv4 header length below 20 bytes or beyond the packet; malformed by the sender"},
	BadTotalLen:    {"bad-total-length", "the IP header claims more bytes than the packet has; truncated on the way or malformed by the sender"},
	BadChecksum:    {"bad-header-checksum", "IPv4 header checksum is wrong; damaged on the way or malformed by the sender"},
	BadOption:      {"bad-ip-option", "malformed IPv4 option; malformed by the sender"},
	SourceRoute:    {"source-route", "IPv4 source route or IPv6 routing header type 0; refused because it would evade policy (RFC 7126, RFC 5095)"},
	BadExtHeader:   {"bad-extension-header", "IPv6 extension header malformed, out of place, or too many of them"},
	BadAddress:     {"bad-address", "IPv4-mapped address in an IPv6 header; such addresses must not be on a wire (RFC 4942)"},
	BadFragment:    {"bad-fragment", "fragment whose length is not a multiple of 8 or that ends beyond 65535 bytes"},
	TinyFragment:   {"tiny-fragment", "first fragment without a whole L4 header, or one that would overwrite it (RFC 1858, RFC 7112)"},
	BadL4:          {"bad-l4-header", "TCP, UDP, SCTP, DCCP or ICMP header shorter than it must be, or its length field is impossible"},
	Truncated:      {"headers-truncated", "the headers are longer than the bytes that the device copied into the nbuf; unusually long IPv6 extension headers"},
	NoInner:        {"bad-icmp-error", "ICMP error that does not quote enough of a packet to tell which connection it belongs to"},
	DontFragment:   {"dont-fragment", "larger than the MTU and must not be fragmented; the sender is told the MTU"},
	CannotFragment: {"mtu-too-small", "the MTU does not hold the IP header and 8 bytes; raise the port's MTU"},
}

// String returns the reason's short name.
func (r Reason) String() string {
	if r >= reasonCount {
		return "unknown"
	}
	return reasonText[r].name
}

// Description says in a sentence what the reason means and what to do.
func (r Reason) Description() string {
	if r >= reasonCount {
		return "unknown reason"
	}
	return reasonText[r].description
}
