// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestParseHistogram(t *testing.T) {
	counts, err := parseHistogram(`# event histogram
#
# trigger info: hist:keys=common_pid:vals=hitcount:sort=hitcount:size=4096 [active]
#

{ common_pid:          0 } hitcount:          3
{ common_pid:       4711 } hitcount:         39

Totals:
    Hits: 42
    Entries: 2
    Dropped: 0
`)
	if want := map[int]uint64{0: 3, 4711: 39}; err != nil || !maps.Equal(counts, want) {
		t.Errorf("got %v, %v; want %v", counts, err, want)
	}
	if _, err := parseHistogram(""); err == nil {
		t.Error("no histogram: no error")
	}
}

func TestBusiest(t *testing.T) {
	for range 10 { // maps are in any order
		most, others := busiest(map[int]thread{1: {3, 1, 2, 3}, 2: {9, 10, 20, 30}, 3: {4, 100, 200, 300}})
		if most != (thread{9, 10, 20, 30}) || others != (thread{7, 101, 202, 303}) {
			t.Fatalf("got %v and %v", most, others)
		}
	}
}

func TestReadThreads(t *testing.T) {
	threads, err := readThreads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if most, others := busiest(threads); most.cpu == 0 || most.switches+others.switches == 0 {
		t.Errorf("got %v", threads)
	}
}

func TestSwitches(t *testing.T) {
	text := "Name:\tx\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t11\n"
	matches := switchLine.FindAllStringSubmatch(text, -1)
	if len(matches) != 2 || matches[0][2] != "7" || matches[1][2] != "11" || len(matches[0][1]) > 0 {
		t.Errorf("got %v", matches)
	}
}

func TestAddresses(t *testing.T) {
	a, b := netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("10.1.2.2")
	if !subnet(a, true).Contains(b) || subnet(a, false).Contains(b) {
		t.Errorf("%s, %s", subnet(a, true), subnet(a, false))
	}
	a6, b6 := netip.MustParseAddr("fd00:1:1::2"), netip.MustParseAddr("fd00:1:2::2")
	if !subnet(a6, true).Contains(b6) || subnet(a6, false).Contains(b6) {
		t.Errorf("%s, %s", subnet(a6, true), subnet(a6, false))
	}
	if got := router(a); got != netip.MustParseAddr("10.1.1.1") {
		t.Errorf("router of %s: %s", a, got)
	}
}

// Both kinds of rules are of the same policy.
func TestPolicy(t *testing.T) {
	at := func(n byte) pod {
		return pod{netip.AddrFrom4([4]byte{10, 0, 0, n}), netip.AddrFrom16([16]byte{0xfd, 15: n})}
	}
	p := newPolicy(at(1), at(2))
	sets, policies := p.dataplane()
	rules := p.nftables()
	if len(sets) != 1+otherAllowed+1 || len(policies) != 2 || len(policies[0].GetEgress()) != len(sets) {
		t.Errorf("%d sets, %d rules", len(sets), len(policies[0].GetEgress()))
	}
	for _, set := range sets {
		for _, prefix := range set.GetPrefixes() {
			if !strings.Contains(rules, prefix) {
				t.Fatalf("%s of %s is not in the ruleset", prefix, set.GetName())
			}
		}
	}
	if n := strings.Count(rules, " dport 20000-20099 "); n != 8 {
		t.Errorf("what is measured is allowed by %d rules, want one per pod, family and protocol: 8", n)
	}
}
