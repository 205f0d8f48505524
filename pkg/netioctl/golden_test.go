// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

var update = flag.Bool("update", false, "write the golden files, and the examples of docs/netioctl.md, anew")

func sampleEvents() []*dataplanev1.Event {
	at := fakeNow.UnixNano()
	return []*dataplanev1.Event{
		{
			TimeUnixNano: at + 1_500, Verdict: "allow", Rule: "default/web/ingress[0]", InPort: "knet12c0", OutPort: "knet7f3a", Length: 60,
			Tuple: &dataplanev1.Tuple{Src: "10.42.0.5", Dst: "10.42.0.7", Protocol: 6, SrcPort: 40112, DstPort: 8080},
		},
		{
			TimeUnixNano: at + 2_000_000, Verdict: "deny", Reason: "policy-ingress", Rule: "isolation by default/web", InPort: "knet12c0", OutPort: "knet7f3a", Length: 80,
			Tuple: &dataplanev1.Tuple{Src: "fd00:42::5", Dst: "fd00:42::7", Protocol: 6, SrcPort: 40113, DstPort: 22},
		},
		{
			TimeUnixNano: at + 3_000_000, Verdict: "drop", Reason: "ttl-expired", InPort: "knet12c0", Length: 84, Lost: 1_200,
			Tuple: &dataplanev1.Tuple{Src: "10.42.0.5", Dst: "10.42.0.7", Protocol: 1, SrcPort: 9, DstPort: 8 << 8},
		},
		{
			TimeUnixNano: at + 4_000_000, Verdict: "audit", Rule: "isolation by default/trace", InPort: "knet12c0", OutPort: "host", Length: 1_000,
			Tuple: &dataplanev1.Tuple{Src: "10.42.0.5", Dst: "192.0.2.1", Protocol: 17, SrcPort: 5000, DstPort: 53},
		},
		{TimeUnixNano: at + 5_000_000, Lost: 1},
	}
}

// goldenForwarder ends its streams, so that commands that follow them end too.
func goldenForwarder() *fakeForwarder {
	return &fakeForwarder{events: sampleEvents(), packets: samplePackets(), end: status.Error(codes.Unavailable, "shutting down")}
}

// examples are command lines whose output is in testdata.
var examples = []struct {
	name string
	args string
	code int
}{
	{"status", "status", exitOK},
	{"status-json", "status -o json", exitOK},
	{"ports", "ports", exitOK},
	{"ports-short", "ports web host", exitOK},
	{"ports-some", "ports default/web host", exitOK},
	{"ports-wide", "ports --wide", exitOK},
	{"ports-yaml", "ports default/web -o yaml", exitOK},
	{"flows", "flows", exitOK},
	{"flows-limit", "flows --limit 1 --sort idle", exitOK},
	{"flows-json", "flows --limit 1 -o json", exitOK},
	{"drops", "drops", exitOK},
	{"drops-port", "drops default/client", exitOK},
	{"drops-none", "drops host", exitOK},
	{"drops-yaml", "drops client -o yaml", exitOK},
	{"explain-deny", "policy explain default/client default/web:80", exitDenied},
	{"explain-allow", "policy explain default/client default/web:8080", exitOK},
	{"explain-icmp", "policy explain client [fd00:42::7]:icmp", exitDenied},
	{"explain-json", "policy explain 10.42.0.5 10.42.0.7:8080/udp -o json", exitOK},
	{"trace", "trace default/client default/web:8080", exitOK},
	{"trace-deny", "trace default/client default/web:80", exitDenied},
	{"trace-spoofed", "trace default/client default/web:8080 --from 10.42.0.66", exitDenied},
	{"trace-too-big", "trace default/client default/web:8080 --length 1500", exitDenied},
	{"trace-world", "trace default/client world:443", exitOK},
	{"trace-tunnel", "trace default/client 10.43.0.9:80", exitOK},
	{"trace-neighbour", "trace default/client 10.44.0.9:80", exitOK},
	{"trace-json", "trace default/client default/web:8080 -o json", exitOK},
	{"policy-list", "policy list", exitOK},
	{"policy-show", "policy show default/web", exitOK},
	{"policy-show-unknown", "policy show nobody", exitError},
	{"monitor", "monitor --count 4", exitOK},
	{"monitor-json", "monitor --count 2 -o json", exitOK},
	{"monitor-yaml", "monitor --count 1 -o yaml", exitOK},
	{"capture", "capture default/web --count 8", exitOK},
	{"capture-json", "capture default/web --count 1 -o json", exitOK},
	{"endpoints", "endpoints", exitOK},
	{"endpoints-some", "endpoints web -n default", exitOK},
	{"endpoints-yaml", "endpoints staging/web -o yaml", exitOK},
	{"config", "config", exitOK},
	{"version", "version", exitOK},
	{"version-json", "version -o json", exitOK},
	{"no-command", "prots", exitUsage},
	{"no-policy-command", "policy explian", exitUsage},
}

func TestGolden(t *testing.T) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			b := newBed(t, goldenForwarder(), true)
			if code := b.do(t, strings.Fields(e.args)...); code != e.code {
				t.Errorf("exit code %d, want %d", code, e.code)
			}
			golden(t, e.name, e.args, b)
		})
	}
}

// What needs no agent works without one.
func TestGoldenWithoutAgent(t *testing.T) {
	for _, e := range []struct {
		name string
		args string
		code int
	}{
		{"no-agent-status", "status", exitOK},
		{"no-agent-status-yaml", "status -o yaml", exitOK},
		{"no-agent-version", "version", exitOK},
		{"no-agent-explain", "policy explain client default/web:8080", exitOK},
		{"no-agent-explain-unknown", "policy explain nobody web:80", exitError},
		{"no-agent-endpoints", "endpoints", exitError},
		{"no-agent-ports", "ports web", exitOK},
	} {
		t.Run(e.name, func(t *testing.T) {
			b := newBed(t, goldenForwarder(), false)
			if code := b.do(t, strings.Fields(e.args)...); code != e.code {
				t.Errorf("exit code %d, want %d", code, e.code)
			}
			golden(t, e.name, e.args, b)
		})
	}
}

// golden compares what a command has written with a file in testdata.
func golden(t *testing.T, name, args string, b *bed) {
	t.Helper()
	got := "$ netioctl " + args + "\n" + b.out.String()
	if s := b.errOut.String(); s != "" {
		got += "--- standard error\n" + s
	}
	got = strings.ReplaceAll(got, b.dir, DefaultRunDir)
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update makes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("output differs from %s (-want +got); if that is meant, go test -update:\n%s", path, diff)
	}
}

// The examples of the manual are what netioctl really prints.
func TestManual(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "netioctl.md")
	manual, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```console\n\\$ netioctl ([^\n]*)\n(.*?)```")
	n := 0
	got := block.ReplaceAllStringFunc(string(manual), func(s string) string {
		n++
		args := block.FindStringSubmatch(s)[1]
		b := newBed(t, goldenForwarder(), true)
		b.do(t, strings.Fields(strings.ReplaceAll(args, "'", ""))...)
		return "```console\n$ netioctl " + args + "\n" + b.out.String() + b.errOut.String() + "```"
	})
	if n == 0 {
		t.Error("the manual has no examples")
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(manual), got); diff != "" {
		t.Errorf("examples differ (-manual +netioctl); if that is meant, go test -update:\n%s", diff)
	}
}

// Every command is in the manual, and every flag.
func TestManualIsComplete(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "netioctl.md"))
	if errors.Is(err, os.ErrNotExist) {
		t.Fatal("docs/netioctl.md is missing")
	}
	for _, name := range commandsAndFlags(newApp("", nil, nil).rootCommand()) {
		if !strings.Contains(string(manual), name) {
			t.Errorf("the manual does not mention %q", name)
		}
	}
}
