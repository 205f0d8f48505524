// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"net/netip"
	"testing"
	"unsafe"
)

// fakeNames knows ports p1 to p9 and every rule.
type fakeNames struct{}

func (fakeNames) Port(id uint32) string {
	if id == 0 || id > 9 {
		return ""
	}
	return "p" + string(rune('0'+id))
}

func (fakeNames) Rule(r *Record) string {
	return fmt.Sprintf("rule-%d-%d-%d-%d", r.Generation, r.Rule, r.InPort, r.OutPort)
}

var fakeReasons = []string{"", "policy", "ttl", "no-route"}

func tuple(src, dst string, protocol uint8, sport, dport uint16) Tuple {
	return Tuple{
		Src: netip.MustParseAddr(src).As16(), Dst: netip.MustParseAddr(dst).As16(),
		Protocol: protocol, SrcPort: sport, DstPort: dport,
	}
}

func TestRecordSize(t *testing.T) {
	if n := unsafe.Sizeof(Record{}); n != 80 {
		t.Errorf("a Record has %d bytes, its comment says 80", n)
	}
}

func TestMap4(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.9")
	if Map4(a.As4()) != a.As16() {
		t.Errorf("Map4(%v) = %x, want %x", a, Map4(a.As4()), a.As16())
	}
}

func TestVerdictString(t *testing.T) {
	for v, want := range map[Verdict]string{Allow: "allow", Deny: "deny", Audit: "audit", Drop: "drop", 0: "", 99: ""} {
		if v.String() != want {
			t.Errorf("Verdict(%d) is %q, want %q", v, v, want)
		}
	}
}
