// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/test/internal/netlab"
)

func TestSummarize(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name             string
		list             []float64
		median, min, max float64
		ok               bool
	}{
		{"nothing", nil, 0, 0, 0, false},
		{"only gaps", []float64{nan, nan}, 0, 0, 0, false},
		{"one", []float64{3}, 3, 3, 3, true},
		{"odd, unsorted", []float64{9, 1, 5}, 5, 1, 9, true},
		{"even", []float64{4, 1, 3, 2}, 2.5, 1, 4, true},
		{"with a gap", []float64{2, nan, 4}, 3, 2, 4, true},
	} {
		s, ok := summarize(c.list)
		if ok != c.ok || s.Median != c.median || s.Min != c.min || s.Max != c.max {
			t.Errorf("%s: %+v, %v", c.name, s, ok)
		}
	}
}

// Two rounds, the second on a machine at half speed: the ratio does not move.
func twoRounds() *results {
	r := newResults()
	for round, speed := range []float64{1, 0.5} {
		r.add(round, "routed", values{"tcp1": 10 * speed, "udp": 200 * speed, "rtt_flow_p50": 10 / speed})
		r.add(round, "netio", values{"tcp1": 9 * speed, "udp": 80 * speed, "rtt_flow_p50": 15 / speed, "idle_cpu": 0.5})
	}
	return r
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := twoRounds()
	s, ok := r.ratio("routed", "tcp1")
	if !ok || s.Min != 0.9 || s.Max != 0.9 {
		t.Errorf("ratio %+v, want 0.9 in both rounds", s)
	}
	if _, ok := r.ratio("routed", "idle_cpu"); ok {
		t.Error("a ratio to a topology that has no such value")
	}
	// A round that the other topology missed has no ratio.
	r.add(2, "netio", values{"tcp1": 1})
	if s, _ := r.ratio("routed", "tcp1"); len(s.Rounds) != 2 {
		t.Errorf("%d ratios, want 2", len(s.Rounds))
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		m     metric
		ratio float64
		want  string
	}{
		{metric{}, 1, ""},
		{metric{bar: 0.85, atLeast: true}, 0.85, "met"},
		{metric{bar: 0.85, atLeast: true}, 0.84, "missed"},
		{metric{bar: 1.6}, 1.6, "met"},
		{metric{bar: 1.6}, 1.7, "missed"},
	} {
		if got := c.m.verdict(c.ratio); got != c.want {
			t.Errorf("%+v at %v: %q, want %q", c.m, c.ratio, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	run := description{CPUs: 2, CPU: "A CPU", Kernel: "6.1", Busy: 0.5, Rounds: 2, Duration: time.Second}
	if err := printTable(&out, run, []string{"routed", "netio"}, twoRounds()); err != nil {
		t.Fatal(err)
	}
	want := `2 CPUs (A CPU), Linux 6.1; 2 rounds of 1s, topologies in turn; median (min-max)

Beware: 0.5 CPUs were busy with something else before the run.

                                      unit        routed            netio
TCP, 1 stream                         Gbit/s      7.50 (5.00-10.0)  6.75 (4.50-9.00)
UDP, 64-byte packets, delivered       kpps        150 (100-200)     60.0 (40.0-80.0)
round trip, one after the other, p50  us          15.0 (10.0-20.0)  22.5 (15.0-30.0)
forwarder at rest                     % of a CPU  -                 0.50 (0.50-0.50)

ratio of netio to                     routed  bar (to routed)
TCP, 1 stream                         0.90    >= 0.85: met
UDP, 64-byte packets, delivered       0.40    >= 0.50: missed
round trip, one after the other, p50  1.50    <= 1.60: met
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestJSON(t *testing.T) {
	var out strings.Builder
	if err := printJSON(&out, description{Rounds: 2}, []string{"routed", "netio"}, twoRounds()); err != nil {
		t.Fatal(err)
	}
	var doc report
	if err := json.Unmarshal([]byte(out.String()), &doc); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(doc.Metrics, func(m metricReport) bool { return m.Key == "udp" })
	if i < 0 {
		t.Fatalf("no udp in %s", out.String())
	}
	if m := doc.Metrics[i]; m.Values["netio"].Median != 60 || m.Ratios["routed"].Median != 0.4 || m.Verdict != "missed" {
		t.Errorf("udp: %+v", m)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // in the error; "": none
	}{
		{"", ""},
		{"-rounds 1 -time 100ms -topologies bridge,tun-copy,netio -phases tcp1,idle -o json", ""},
		{"-o yaml", "use table or json"},
		{"-rounds 0", "use 1 or more"},
		{"-time 1ms", "use 100ms or more"},
		{"-topologies bridge,ovs", `"ovs" is none of`},
		{"-phases tcp2", `"tcp2" is none of tcp1, tcp8`},
		{"extra", `unexpected argument "extra"`},
	} {
		_, err := parse(strings.Fields(c.args))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

// Both forms of the policy come from one value; what differs would be in the
// translation: counts and the rule that matters.
func TestPolicyForms(t *testing.T) {
	a, b := netip.MustParseAddr("10.3.1.2"), netip.MustParseAddr("10.3.2.2")
	p := newPolicy(a, b)
	sets, policies := p.dataplane()
	ruleset := p.nftables(a, b)
	if got, want := strings.Count(ruleset, "\tset "), len(sets); got != want {
		t.Errorf("%d sets for nftables, %d for NetIO", got, want)
	}
	allowed := 0
	for _, policy := range policies {
		for _, rule := range append(policy.GetIngress(), policy.GetEgress()...) {
			allowed += len(rule.GetL4())
		}
	}
	if got := strings.Count(ruleset, "dport"); got != allowed {
		t.Errorf("%d allowing rules for nftables, %d for NetIO", got, allowed)
	}
	for _, want := range []string{"ip saddr @measured udp dport 20000-20099 accept", "elements = { 10.3.1.2/32, 10.3.2.2/32 }"} {
		if !strings.Contains(ruleset, want) {
			t.Errorf("no %q in\n%s", want, ruleset)
		}
	}
}

func TestRulesetLoads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := netlab.New(fmt.Sprintf("bench-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	}()
	a, b := netip.MustParseAddr("10.3.1.2"), netip.MustParseAddr("10.3.2.2")
	if err := loadRuleset(ns, newPolicy(a, b).nftables(a, b)); err != nil {
		t.Error(err)
	}
	if err := loadRuleset(ns, "nonsense"); err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("nonsense: %v", err)
	}
}
