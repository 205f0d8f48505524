// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"errors"
	"strings"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestFilterMatchesRecords(t *testing.T) {
	tcp4 := sampleRecord // p1 10.0.0.1:40000 -> p2 10.0.0.2:80, deny, policy
	ping6 := Record{InPort: 3, Tuple: tuple("fd00::1", "fd00:1::2", 58, 9, 128<<8), Verdict: Allow}
	for _, c := range []struct {
		name        string
		filter      *dataplanev1.Filter
		tcp4, ping6 bool
	}{
		{"nil", nil, true, true},
		{"empty", &dataplanev1.Filter{}, true, true},
		{"in port", &dataplanev1.Filter{Port: "p1"}, true, false},
		{"out port", &dataplanev1.Filter{Port: "p2"}, true, false},
		{"other port", &dataplanev1.Filter{Port: "p9"}, false, false},
		{"port that does not exist", &dataplanev1.Filter{Port: "later"}, false, false},
		{"source address", &dataplanev1.Filter{Address: "10.0.0.1"}, true, false},
		{"destination address", &dataplanev1.Filter{Address: "10.0.0.2"}, true, false},
		{"neighbour address", &dataplanev1.Filter{Address: "10.0.0.3"}, false, false},
		{"prefix with host bits", &dataplanev1.Filter{Address: "10.0.0.77/24"}, true, false},
		{"every IPv4", &dataplanev1.Filter{Address: "0.0.0.0/0"}, true, false},
		{"every IPv6", &dataplanev1.Filter{Address: "::/0"}, false, true},
		{"IPv6 prefix", &dataplanev1.Filter{Address: "fd00:1::/32"}, false, true},
		{"IPv4-mapped address", &dataplanev1.Filter{Address: "::ffff:10.0.0.1"}, true, false},
		{"protocol", &dataplanev1.Filter{Protocol: 58}, false, true},
		{"source L4 port", &dataplanev1.Filter{L4Port: 40000}, true, false},
		{"destination L4 port", &dataplanev1.Filter{L4Port: 80}, true, false},
		{"ICMP has no ports", &dataplanev1.Filter{L4Port: 128 << 8}, false, false},
		{"verdict", &dataplanev1.Filter{Verdict: "allow"}, false, true},
		{"reason", &dataplanev1.Filter{Reason: "policy"}, true, false},
		{"all at once", &dataplanev1.Filter{Port: "p1", Address: "10.0.0.0/8", Protocol: 6, L4Port: 80, Verdict: "deny", Reason: "policy"}, true, false},
		{"all but one", &dataplanev1.Filter{Port: "p1", Address: "10.0.0.0/8", Protocol: 6, L4Port: 80, Verdict: "deny", Reason: "ttl"}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := CompileFilter(c.filter, fakeNames{}, fakeReasons)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Match(&tcp4); got != c.tcp4 {
				t.Errorf("TCP: %v", got)
			}
			if got := m.Match(&ping6); got != c.ping6 {
				t.Errorf("ping: %v", got)
			}
		})
	}
}

func TestFilterMatchesFlows(t *testing.T) {
	// A service address that was translated to a backend.
	original := tuple("10.0.0.1", "10.96.0.1", 17, 5353, 53)
	reply := tuple("10.0.0.2", "10.0.0.1", 17, 1053, 5353)
	for _, c := range []struct {
		name   string
		filter *dataplanev1.Filter
		want   bool
	}{
		{"nil", nil, true},
		{"service address", &dataplanev1.Filter{Address: "10.96.0.1"}, true},
		{"backend address", &dataplanev1.Filter{Address: "10.0.0.2"}, true},
		{"backend port", &dataplanev1.Filter{L4Port: 1053}, true},
		{"other", &dataplanev1.Filter{Address: "10.0.0.9"}, false},
		{"port", &dataplanev1.Filter{Port: "p2"}, true},
		{"allowed", &dataplanev1.Filter{Verdict: "allow"}, true},
		{"denied", &dataplanev1.Filter{Verdict: "deny"}, false},
		{"reason", &dataplanev1.Filter{Reason: "policy"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := CompileFilter(c.filter, fakeNames{}, fakeReasons)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.MatchFlow(&original, &reply, 1, 2); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestFilterErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		filter *dataplanev1.Filter
		want   []string
	}{
		{&dataplanev1.Filter{Address: "10.0.0"}, []string{"address", `"10.0.0"`, "10.0.0.0/24"}},
		{&dataplanev1.Filter{Address: "10.0.0.0/33"}, []string{"address", `"10.0.0.0/33"`}},
		{&dataplanev1.Filter{Address: "fe80::1%eth0"}, []string{"address"}},
		{&dataplanev1.Filter{Address: "::ffff:10.0.0.0/104"}, []string{"address"}},
		{&dataplanev1.Filter{Protocol: 256}, []string{"protocol", "256", "255"}},
		{&dataplanev1.Filter{L4Port: 65536}, []string{"l4_port", "65536", "65535"}},
		{&dataplanev1.Filter{Verdict: "Deny"}, []string{"verdict", `"Deny"`, "allow, deny, audit, drop"}},
		{&dataplanev1.Filter{Reason: "bad luck"}, []string{"reason", `"bad luck"`, "policy, ttl, no-route"}},
	} {
		_, err := CompileFilter(c.filter, fakeNames{}, fakeReasons)
		if !errors.Is(err, ErrFilter) {
			t.Errorf("%v: error is %v", c.filter, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: error %q lacks %q", c.filter, err, w)
			}
		}
	}
	if _, err := CompileFilter(&dataplanev1.Filter{Reason: "x"}, fakeNames{}, nil); !errors.Is(err, ErrFilter) {
		t.Errorf("no reasons known: %v", err)
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10.0.0.0/24", "fd00::/64", "::ffff:1.2.3.4", "fe80::1%lo", "/", ""} {
		f.Add("p1", s, uint32(6), uint32(80), "deny", "policy")
	}
	f.Fuzz(func(t *testing.T, port, address string, protocol, l4Port uint32, verdict, reason string) {
		m, err := CompileFilter(&dataplanev1.Filter{
			Port: port, Address: address, Protocol: protocol, L4Port: l4Port, Verdict: verdict, Reason: reason,
		}, fakeNames{}, fakeReasons)
		if err != nil {
			if !errors.Is(err, ErrFilter) {
				t.Errorf("error is not an ErrFilter: %v", err)
			}
			return
		}
		r := sampleRecord
		if m.Match(&r) && verdict != "" && verdict != "deny" {
			t.Errorf("a denied packet matches verdict %q", verdict)
		}
	})
}
