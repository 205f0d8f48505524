// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestReadWindows(t *testing.T) {
	windows, err := readWindows(strings.NewReader(`window 100 2000 30
batches 64 50 60 90
at ffffffff81000000 1900
at 10000000 100
end
window 1 2 3
end
`))
	if err != nil || len(windows) != 2 {
		t.Fatalf("%d windows, %v", len(windows), err)
	}
	w := windows[0]
	if w.user != 100 || w.kernel != 2000 || w.rep != 30 || w.batches != 64 || w.least != 50 || w.median != 60 || w.max != 90 {
		t.Errorf("got %+v", w)
	}
	if w.at[0xffffffff81000000] != 1900 || w.at[0x10000000] != 100 {
		t.Errorf("addresses: %v", w.at)
	}
	if windows[1].batches != 0 || len(windows[1].at) != 0 {
		t.Errorf("the second window has what the first had: %+v", windows[1])
	}
	for _, wrong := range []string{"window 1 2", "at x 1", "nonsense"} {
		if _, err := readWindows(strings.NewReader(wrong)); err == nil {
			t.Errorf("%q: no error", wrong)
		}
	}
}

func TestFind(t *testing.T) {
	s := symbols{{0x100, "a"}, {0x200, "b"}, {0xffffffff81000000, "k"}}
	for address, want := range map[uint64]string{
		0x10: "?", 0x100: "a", 0x1ff: "a", 0x200: "b", 0x300: "b", 0x7fff00000000: "[vdso]", 0xffffffff81000010: "k",
	} {
		if got := s.find(address); got != want {
			t.Errorf("%#x: %s, want %s", address, got, want)
		}
	}
}

// What direct needs for its wire is not the pods' own; NetIO's is its own code.
func TestAlone(t *testing.T) {
	counted := func(topology string, median uint64, p profile) measured {
		m := measured{Topology: topology, Phase: "udp4", Units: 640, Batch: 64}
		m.Values = window{batches: 10, median: median}.values(m, p)
		return m
	}
	r := results{}
	r.add([]measured{
		counted("direct", 64*8000, profile{"veth_xmit [veth]": 640 * 300, "ip_rcv": 640 * 500}),
		counted("netio", 64*8100, profile{"netio_tx [netio]": 640 * 200, "netio-agent: turn": 640 * 150, "guest: turn": 640}),
		counted("nftables", 64*10000, nil),
	})
	r.alone()
	for topology, want := range map[string]float64{"netio": 350, "nftables": 2300} {
		if got := r[topology]["udp4_alone"]; math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: %v, want %v", topology, got, want)
		}
	}
	if _, ok := r["direct"]["udp4_alone"]; ok {
		t.Error("direct forwards")
	}
}

func TestJudge(t *testing.T) {
	r := results{
		"netio":  {"tcp_total": 90, "tcp_gbits": 8, "udp4_syscalls": 0, "udp4_switches": 3},
		"routed": {"tcp_total": 100, "tcp_gbits": 10},
	}
	got := map[string]bool{}
	for _, o := range r.judge() {
		got[o.Label] = o.Met
	}
	want := map[string]bool{
		"TCP instructions, of the router's": true, "TCP rate, of the router's": false,
		"system calls/1000000 packets": true, "context switches/1000000 packets": false,
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for label, met := range want {
		if got[label] != met {
			t.Errorf("%s: met %v", label, got[label])
		}
	}
}

func TestPrint(t *testing.T) {
	r := results{
		"netio":  {"tcp_total": 930, "tcp_copied": 0},
		"routed": {"tcp_total": 465},
	}
	var table, doc bytes.Buffer
	if err := printTable(&table, "6.1", "init_on_alloc=0", r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"465 (2.00)", "<= 1.00", "missed", "met"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	if err := printJSON(&doc, "6.1", "", r); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(doc.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Topologies["netio"]["tcp_total"] != 930 || len(back.Bars) != 2 {
		t.Errorf("got %+v", back)
	}
}
