// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"net/netip"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Verdict is what became of a packet.
type Verdict uint8

// The verdicts, in the order of the names that Filter and Event use.
const (
	Allow Verdict = iota + 1 // first packet of a flow that was let in
	Deny                     // dropped by policy
	Audit                    // policy would have dropped it, but is in audit mode
	Drop                     // dropped for another reason
)

var verdictNames = [...]string{Allow: "allow", Deny: "deny", Audit: "audit", Drop: "drop"}

// String returns the name that Event.verdict and Filter.verdict use.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return ""
}

// Tuple names a packet's flow. IPv4 addresses are IPv4-mapped (RFC 4291,
// section 2.5.5.2), as netip.Addr.As16 and Map4 make them.
type Tuple struct {
	Src, Dst [16]byte
	SrcPort  uint16 // ICMP: identifier
	DstPort  uint16 // ICMP: type << 8 | code
	Protocol uint8
}

// Map4 returns an IPv4 address in the form that Tuple holds.
func Map4(a [4]byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: a[0], 13: a[1], 14: a[2], 15: a[3]}
}

func (t *Tuple) proto() *dataplanev1.Tuple {
	return &dataplanev1.Tuple{
		Src:      netip.AddrFrom16(t.Src).Unmap().String(),
		Dst:      netip.AddrFrom16(t.Dst).Unmap().String(),
		Protocol: uint32(t.Protocol),
		SrcPort:  uint32(t.SrcPort),
		DstPort:  uint32(t.DstPort),
	}
}

// Record is one verdict as a worker emits it: 80 bytes, no pointers. Names are
// looked up later, by the hub.
type Record struct {
	Time       int64  // Unix time in nanoseconds, of the batch
	Generation uint64 // of the configuration that the worker had
	Rule       uint32 // that decided, for Names.Rule; 0: none did
	InPort     uint32 // 0: none
	OutPort    uint32 // 0: none, or not known yet
	Length     uint32 // bytes of the packet, from the IP header
	Tuple
	Verdict Verdict
	Logged  bool   // a rule that had a say asks for it
	Reason  uint16 // index in EventsConfig.Reasons; 0: none
}
