// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"strings"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

func TestLabel(t *testing.T) {
	for _, c := range []device.PortConfig{
		{Name: "default/web-0/eth0", IfName: "eth0", NetNS: "/run/netns/a", MTU: 1500},
		{Name: "host", IfName: "netio0", MTU: 68},
		{Name: "a", IfName: "b", NetNS: "/a/line\nbreak", MTU: 65535},
		{Name: strings.Repeat("n", device.PortNameMax), IfName: strings.Repeat("i", 15), NetNS: strings.Repeat("p", device.NetNSMax), MTU: 9000},
	} {
		s, err := encodeLabel(c)
		if err != nil {
			t.Fatal(err)
		}
		if len(s) >= labelMax {
			t.Errorf("a label of %d bytes", len(s))
		}
		if got, ok := decodeLabel(s); !ok || got != c {
			t.Errorf("%+v became %+v, %v", c, got, ok)
		}
	}
	for want, c := range map[string]device.PortConfig{
		`port name "a\nb"`:           {Name: "a\nb", IfName: "x"},
		`port name "a\x00"`:          {Name: "a\x00", IfName: "x"},
		`interface name "x\ny"`:      {Name: "a", IfName: "x\ny"},
		`network namespace "/a\x00"`: {Name: "a", IfName: "x", NetNS: "/a\x00"},
	} {
		if _, err := encodeLabel(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", c, err, want)
		}
	}
}

func TestPortInfo(t *testing.T) {
	rec := func(label, ifname string) *getPort {
		p := &getPort{Port: 7, IfIndex: 3, State: abi.PortPresent | abi.PortUp, Flags: abi.PortFlagWhole, NbufQuota: 99, MTU: 1400}
		copy(p.Label[:], label)
		copy(p.IfName[:], ifname)
		return p
	}
	for _, tc := range []struct {
		label, ifname string
		want          device.PortConfig
	}{
		// As it was made, whatever a pod has done to it since.
		{"web\n/run/netns/a\neth0\n1500", "renamed", device.PortConfig{Name: "web", NetNS: "/run/netns/a", IfName: "eth0", MTU: 1500}},
		// Not yet named.
		{"web\n/run/netns/a\neth0\n1500", "knet3", device.PortConfig{Name: "web", NetNS: "/run/netns/a", IfName: "knet3", MTU: 1500}},
		{"web\n/run/netns/a", "eth0", device.PortConfig{Name: "web", NetNS: "/run/netns/a", IfName: "eth0", MTU: 1400}},
		{"web\n/a\nb\nmany", "eth0", device.PortConfig{Name: "web", NetNS: "/a\nb\nmany", IfName: "eth0", MTU: 1400}},
		{"", "foo", device.PortConfig{IfName: "foo", MTU: 1400}},
	} {
		tc.want.Quota, tc.want.Whole = 99, true
		want := device.PortInfo{ID: 7, PortConfig: tc.want, IfIndex: 3, Up: true}
		if got := portInfo(rec(tc.label, tc.ifname)); got != want {
			t.Errorf("%q of %s: %+v, want %+v", tc.label, tc.ifname, got, want)
		}
	}
}

func FuzzLabel(f *testing.F) {
	f.Add("web\n/run/netns/a\neth0\n1500")
	f.Add("web\n/a\nb\neth0\n1500")
	f.Add("\n\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := decodeLabel(s)
		if !ok || strings.ContainsRune(s, 0) {
			return
		}
		again, err := encodeLabel(c)
		if err != nil {
			t.Fatalf("%q was taken as %+v: %v", s, c, err)
		}
		if got, ok := decodeLabel(again); !ok || got != c {
			t.Errorf("%q: %+v, then %+v", s, c, got)
		}
	})
}
