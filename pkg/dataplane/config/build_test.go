// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func TestBuildTown(t *testing.T) {
	s := town()
	before := proto.Clone(s)
	tab := Build(s, townIDs, nil, 42)
	if !proto.Equal(s, before) {
		t.Error("the snapshot has changed")
	}
	if tab.Generation != 42 {
		t.Errorf("generation %d", tab.Generation)
	}
	set := tab.Settings
	if set.Router(packet.IPv4) != addr("169.254.0.1") || set.Router(packet.IPv6) != addr("fe80::1") || set.MaxConnections != 1000 || set.MaxConnectionsPerPort != 100 ||
		set.Timeouts.UDP != 5000 || set.Timeouts.TCPEstablished != 7_200_000 || set.FragmentTimeout != 3*time.Second {
		t.Errorf("settings %+v", set)
	}
	web, db, host := tab.Port(1), tab.Port(2), tab.Port(7)
	if web != tab.PortByName("web") || db != tab.PortByName("db") || host != tab.PortByName("host") {
		t.Fatal("ports are not found by both number and name")
	}
	for _, id := range []uint32{0, 3, 8, 1 << 31} {
		if tab.Port(id) != nil {
			t.Errorf("port %d", id)
		}
	}
	if tab.PortByName("nowhere") != nil {
		t.Error("a port out of nowhere")
	}
	if web.ID != 1 || web.Name != "web" || !web.Pod || web.MTU != 1400 || db.MTU != 1500 || host.Pod {
		t.Errorf("%+v, %+v, %+v", web, db, host)
	}
	if web.Ingress == nil || web.Egress == nil || db.Ingress != nil || db.Egress == nil || host.Ingress != nil || host.Egress != nil {
		t.Error("rules in the wrong places")
	}
	if !web.Owns(addr("fd00::1")) || web.Owns(addr("10.0.0.2")) || len(web.Addresses()) != 2 {
		t.Error("own addresses")
	}
	for a, want := range map[string]uint32{"10.0.0.1": 1, "fd00::1": 1, "10.0.0.2": 2, "192.0.2.10": 7, "8.8.8.8": 7, "2001:db8::9": 7, "10.0.0.3": 0} {
		if id, ok := tab.Route(addr(a)); id != want || ok != (want != 0) {
			t.Errorf("route to %s: %d, %v", a, id, ok)
		}
	}
	for a, want := range map[string]uint32{"10.0.0.1": 1, "fd00::1": 1, "10.0.0.2": 2, "192.0.2.10": 0, "8.8.8.8": 0, "10.0.0.3": 0} {
		if id, ok := tab.OwnerOf(addr(a)); id != want || ok != (want != 0) {
			t.Errorf("owner of %s: %d, %v", a, id, ok)
		}
	}
	if v := web.Ingress.Evaluate(addr("10.0.0.2"), packet.ProtoTCP, 80, 0, 0); !v.Allow {
		t.Errorf("%+v", v)
	}
	if v := web.Ingress.Evaluate(addr("10.0.0.130"), packet.ProtoTCP, 80, 0, 0); v.Allow {
		t.Errorf("%+v", v)
	}
	dns := tab.DestinationNAT(addr("10.96.0.10"), packet.ProtoUDP, 53)
	if dns == nil || dns.Name != "dns" || dns.Affinity != time.Minute || len(dns.Backends) != 2 || dns.Backends[0] != (Backend{addr("10.0.0.1"), 53, 3}) || dns.Backends[1].Weight != 1 {
		t.Errorf("%+v", dns)
	}
	if n := tab.DestinationNAT(addr("10.96.0.10"), packet.ProtoTCP, 53); n == nil || len(n.Backends) != 0 || n.Affinity != 0 {
		t.Errorf("%+v", n)
	}
	if tab.DestinationNAT(addr("10.96.0.10"), packet.ProtoTCP, 54) != nil || Build(nil, nil, nil, 0).DestinationNAT(addr("10.0.0.1"), 6, 1) != nil {
		t.Error("a service out of nowhere")
	}
	n := tab.SourceNAT(addr("10.0.0.1"), addr("8.8.8.8"), 7)
	if n == nil || n.Name != "masquerade" || len(n.Addresses) != 1 || n.Addresses[0] != addr("192.0.2.10") || n.FirstPort != 1024 || n.LastPort != 65535 {
		t.Errorf("%+v", n)
	}
	if tab.SourceNAT(addr("10.0.0.1"), addr("8.8.8.8"), 2) != nil || tab.SourceNAT(addr("10.0.0.1"), addr("10.9.9.9"), 7) != nil || tab.SourceNAT(addr("172.16.0.1"), addr("8.8.8.8"), 7) != nil {
		t.Error("source NAT where there is none")
	}
	if n := tab.SourceNAT(addr("fd00::1"), addr("2001:db8::1"), 2); n == nil || n.FirstPort != 32768 || n.LastPort != 40000 {
		t.Errorf("%+v", n)
	}
}

func TestBuildDefaults(t *testing.T) {
	set := Build(&dataplanev1.Snapshot{}, nil, nil, 0).Settings
	if set.MaxConnections != 262144 || set.MaxConnectionsPerPort != 65536 || set.Timeouts.TCPOpening != 30000 || set.Timeouts.TCPClosing != 30000 ||
		set.Timeouts.UDP != 30000 || set.Timeouts.UDPStream != 120000 || set.Timeouts.ICMP != 30000 || set.Timeouts.Other != 120000 ||
		set.FragmentTimeout != 10*time.Second || set.RouterIPv4 != (packet.Addr{}) || set.RouterIPv6 != (packet.Addr{}) {
		t.Errorf("%+v", set)
	}
}

// A port whose knet could not be made is not there, and what leads to it is
// unreachable rather than sent elsewhere; once it has a number all is well.
func TestBuildWithoutAPort(t *testing.T) {
	s := town()
	ids := map[string]uint32{"web": 1, "db": 2}
	tab := Build(s, ids, nil, 1)
	if _, ok := tab.Route(addr("8.8.8.8")); ok || tab.PortByName("host") != nil || tab.SourceNAT(addr("10.0.0.1"), addr("8.8.8.8"), 7) != nil {
		t.Error("the missing port is used")
	}
	ids["host"] = 3
	tab = Build(s, ids, tab, 2)
	if id, ok := tab.Route(addr("8.8.8.8")); !ok || id != 3 || tab.SourceNAT(addr("10.0.0.1"), addr("8.8.8.8"), 3) == nil {
		t.Error("the port is not used once it is there")
	}
	// The same name by another number.
	ids["host"] = 9
	tab = Build(s, ids, tab, 3)
	if id, _ := tab.Route(addr("8.8.8.8")); id != 9 || tab.Port(3) != nil || tab.PortByName("host").ID != 9 {
		t.Errorf("route to port %d", id)
	}
	if prefix, ok := tab.Match(addr("8.8.8.8")); !ok || prefix.String() != "0.0.0.0/0" {
		t.Errorf("the route is %v", prefix)
	}
	if id, _ := tab.Route(addr("192.0.2.10")); id != 9 {
		t.Errorf("own address leads to %d", id)
	}
}

// change merges a delta that must be valid and builds.
func change(t *testing.T, tab *Tables, d *dataplanev1.Delta, ids map[string]uint32) *Tables {
	t.Helper()
	d.BaseRevision, d.Revision = tab.snapshot.Revision, tab.snapshot.Revision+1
	s, err := Merge(tab.snapshot, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateUpdate(tab.snapshot, s); err != nil {
		t.Fatal(err)
	}
	return Build(s, ids, tab, tab.Generation+1)
}

func TestBuildUsesAgainWhatHasNotChanged(t *testing.T) {
	ids := map[string]uint32{"web": 1, "db": 2, "host": 7, "new": 3}
	one := Build(town(), ids, nil, 1)

	two := change(t, one, &dataplanev1.Delta{Ports: []*dataplanev1.Port{{Name: "new", Kind: 1, Ifname: "eth0", Netns: "/n", Policies: []string{"p", "q"}}}}, ids)
	for _, name := range []string{"web", "db", "host"} {
		if one.PortByName(name) != two.PortByName(name) {
			t.Errorf("a port came: %s was made anew", name)
		}
	}
	if two.Port(3).Ingress != two.Port(1).Ingress {
		t.Error("ports with the same policies do not share rules")
	}
	if two.sets["pods"] != one.sets["pods"] || two.policies["p"] != one.policies["p"] {
		t.Error("a port came: sets or policies were made anew")
	}

	grown := &dataplanev1.AddressSet{Name: "pods", Prefixes: []string{"10.0.0.0/24", "10.0.1.1/32", "fd00::/64"}, Except: []string{"10.0.0.128/25"}}
	three := change(t, two, &dataplanev1.Delta{AddressSets: []*dataplanev1.AddressSet{grown}}, ids)
	if three.sets["office"] != two.sets["office"] || three.policies["q"] != two.policies["q"] || three.PortByName("db") != two.PortByName("db") {
		t.Error("an address came: what does not name its set was made anew")
	}
	flow := func(tab *Tables) bool {
		return tab.PortByName("web").Ingress.Evaluate(addr("10.0.1.1"), packet.ProtoTCP, 80, 0, 0).Allow
	}
	if flow(two) || !flow(three) || three.Port(3).Ingress != three.Port(1).Ingress {
		t.Error("an address came: it is not in the rules of all that name its set")
	}

	// A writer that starts anew sends a snapshot that says the same.
	again := proto.Clone(three.snapshot).(*dataplanev1.Snapshot)
	four := Build(again, ids, three, 4)
	for _, name := range []string{"web", "db", "host", "new"} {
		if four.PortByName(name).Ingress != three.PortByName(name).Ingress || four.PortByName(name).Egress != three.PortByName(name).Egress {
			t.Errorf("the same again: rules of %s were made anew", name)
		}
	}
	if four.routes != three.routes {
		t.Error("the same again: routes were made anew")
	}
	five := Build(again, ids, four, 5)
	if five.PortByName("web") != four.PortByName("web") || five.policies["p"] != four.policies["p"] {
		t.Error("the same again and again: made anew")
	}
}

func TestDifference(t *testing.T) {
	list := func(s string) (out []string) {
		for _, c := range s {
			out = append(out, string(rune(c))+"00::/16")
		}
		return out
	}
	for _, tt := range []struct {
		old, new string
		n        int
	}{
		{"", "", 0}, {"abc", "abc", 0}, {"abc", "abcd", 1}, {"abc", "bc", 1}, {"abc", "adc", 2}, {"abcdef", "abef", 2},
		{"abc", "", 3}, {"", "abc", 3}, {"abc", "cba", 4}, {"abcdef", "fabcde", 2},
	} {
		old, next := list(tt.old), list(tt.new)
		remove, insert, ok := difference(old, next, 100)
		if !ok || len(remove)+len(insert) != tt.n {
			t.Errorf("%q to %q: %v %v", tt.old, tt.new, remove, insert)
		}
		have := map[string]bool{}
		for _, s := range old {
			have[s] = true
		}
		for _, p := range remove {
			if !have[p.String()] {
				t.Errorf("%q to %q: removes %v", tt.old, tt.new, p)
			}
			delete(have, p.String())
		}
		for _, p := range insert {
			have[p.String()] = true
		}
		for _, s := range next {
			if !have[s] {
				t.Errorf("%q to %q: lacks %s", tt.old, tt.new, s)
			}
			delete(have, s)
		}
		if len(have) > 0 {
			t.Errorf("%q to %q: has %v", tt.old, tt.new, have)
		}
	}
	if _, _, ok := difference(list("abc"), list("def"), 5); ok {
		t.Error("does not give up")
	}
	if _, _, ok := difference(nil, list("abcdef"), 5); ok {
		t.Error("does not give up at the end")
	}
}

// A port's own address wins over a route of the same prefix, whichever came or
// goes first.
func TestBuildAddressThatIsAlsoARoute(t *testing.T) {
	a := addr("10.0.0.9")
	ids := map[string]uint32{"web": 1, "db": 2, "host": 7, "new": 3}
	pod := &dataplanev1.Port{Name: "new", Kind: 1, Ifname: "eth0", Netns: "/n", Addresses: []string{"10.0.0.9"}}
	via := &dataplanev1.Route{Prefix: "10.0.0.9/32", Port: "db"}
	leads := func(tab *Tables, want uint32, pods bool) *Tables {
		t.Helper()
		if id, _ := tab.Route(a); id != want {
			t.Errorf("leads to %d, want %d", id, want)
		}
		if _, ok := tab.OwnerOf(a); ok != pods {
			t.Errorf("owned by a pod: %v", ok)
		}
		return tab
	}
	add := func(tab *Tables, d *dataplanev1.Delta) *Tables { return change(t, tab, d, ids) }

	tab := leads(Build(town(), ids, nil, 1), 0, false)
	tab = leads(add(tab, &dataplanev1.Delta{Routes: []*dataplanev1.Route{via}}), 2, false)
	tab = leads(add(tab, &dataplanev1.Delta{Ports: []*dataplanev1.Port{pod}}), 3, true)
	tab = leads(add(tab, &dataplanev1.Delta{Routes: []*dataplanev1.Route{{Prefix: "10.0.0.9/32", Port: "host"}}}), 3, true)
	tab = leads(add(tab, &dataplanev1.Delta{DeletePorts: []string{"new"}}), 7, false)
	tab = leads(add(tab, &dataplanev1.Delta{Ports: []*dataplanev1.Port{pod}}), 3, true)
	tab = leads(add(tab, &dataplanev1.Delta{DeleteRoutes: []string{"10.0.0.9"}}), 3, true)
	tab = leads(add(tab, &dataplanev1.Delta{Routes: []*dataplanev1.Route{via}}), 3, true)
	leads(add(tab, &dataplanev1.Delta{DeletePorts: []string{"new"}, DeleteRoutes: []string{"10.0.0.9/32"}}), 0, false)
}
