// SPDX-License-Identifier: Apache-2.0

package device

import (
	"strings"
	"testing"
)

func TestPortConfigCheck(t *testing.T) {
	good := PortConfig{Name: "a", IfName: "eth0", NetNS: "/run/netns/a"}
	for want, change := range map[string]func(*PortConfig){
		"":                                  func(*PortConfig) {},
		`port name "": want 1 to 127 bytes`: func(c *PortConfig) { c.Name = "" },
		"want 1 to 127":                     func(c *PortConfig) { c.Name = strings.Repeat("a", 128) },
		`interface name ""`:                 func(c *PortConfig) { c.IfName = "" },
		`interface name "sixteen-bytes-16"`: func(c *PortConfig) { c.IfName = "sixteen-bytes-16" },
		"path is longer than 255":           func(c *PortConfig) { c.NetNS = strings.Repeat("a", 256) },
		"port a: MTU is 67, want 68 to 65":  func(c *PortConfig) { c.MTU = 67 },
		"MTU is 65536":                      func(c *PortConfig) { c.MTU = 65536 },
		"quota is -1 nbufs, want 0":         func(c *PortConfig) { c.Quota = -1 },
		"quota is 16777217 nbufs":           func(c *PortConfig) { c.Quota = 1<<24 + 1 },
		"but a whole packet may need 36":    func(c *PortConfig) { c.Whole, c.Quota = true, 35 },
	} {
		c := good
		change(&c)
		expect(t, c.Check(), want)
	}
	for _, c := range []PortConfig{
		{Name: strings.Repeat("a", 127), IfName: "fifteen-bytes-1", NetNS: strings.Repeat("n", 255), MTU: 68, Quota: 1 << 24},
		{Name: "a", IfName: "a", MTU: 65535, Whole: true, Quota: 36},
		{Name: "a", IfName: "a", Whole: true}, // the device's default
	} {
		expect(t, c.Check(), "")
	}
}

func TestPortUpdateCheck(t *testing.T) {
	yes, no := true, false
	num := func(n int) *int { return &n }
	for _, c := range []struct {
		u     PortUpdate
		whole bool
		quota int
		want  string
	}{
		{PortUpdate{}, true, 100, ""},
		{PortUpdate{Whole: &yes}, false, 35, "may need 36"},
		{PortUpdate{Whole: &yes, Quota: num(36)}, false, 1, ""},
		{PortUpdate{Whole: &no, Quota: num(1)}, true, 100, ""},
		{PortUpdate{Quota: num(35)}, true, 100, "may need 36"},
		{PortUpdate{Quota: num(0)}, false, 100, "want 1 to"},
		{PortUpdate{Quota: num(1<<24 + 1)}, false, 100, "want 1 to"},
		{PortUpdate{MarkBytes: num(-1)}, false, 100, "mark is -1"},
		{PortUpdate{MarkBytes: num(1<<30 + 1)}, false, 100, "mark is"},
		{PortUpdate{MarkBytes: num(0)}, false, 100, ""},
	} {
		expect(t, c.u.Check(c.whole, c.quota), c.want)
	}
}

// expect wants an error with the given text, or none.
func expect(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want %q", err, want)
	}
}
