// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"netio.dev/netio/api/v1alpha1"
	agentconfig "netio.dev/netio/pkg/agent/config"
)

func TestLine(t *testing.T) {
	for _, c := range []struct {
		mark, title, result, want string
	}{
		{"✓", "a step", "well", "  ✓ a step" + strings.Repeat(" ", titleWidth-6) + "  well  (1.5 s)\n"},
		{"✗", "two lines", "first\nsecond\nthird\n", "  ✗ two lines" + strings.Repeat(" ", titleWidth-9) + "  first  (1.5 s)\n        second\n        third\n"},
		{"✓", strings.Repeat("x", titleWidth+3), "", "  ✓ " + strings.Repeat("x", titleWidth+3) + "    (1.5 s)\n"},
	} {
		if got := line(c.mark, c.title, c.result, 1500*time.Millisecond); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestStepsAfterAnInterruptDoNotRun(t *testing.T) {
	var out bytes.Buffer
	d := &demo{out: &out}
	ctx, cancel := context.WithCancel(context.Background())
	fails := errors.New("fails")
	if err := d.do(ctx, step{"fails", func(context.Context) (string, error) { return "", fails }}); !errors.Is(err, fails) {
		t.Errorf("got %v", err)
	}
	if got := out.String(); !strings.Contains(got, "✗ fails") {
		t.Errorf("printed %q", got)
	}
	// What fails because of the interrupt is not shown as a failure.
	out.Reset()
	err := d.do(ctx, step{"is interrupted", func(context.Context) (string, error) { cancel(); return "", fails }})
	if !errors.Is(err, errInterrupted) || out.Len() > 0 {
		t.Errorf("got %v, printed %q", err, out.String())
	}
	err = d.do(ctx, step{"never", func(context.Context) (string, error) { t.Error("ran"); return "", nil }})
	if !errors.Is(err, errInterrupted) {
		t.Errorf("got %v", err)
	}
	if err := d.cleanStep("cleans", func() (string, error) { return "", nil }); err != nil {
		t.Errorf("clean: %v", err)
	}
}

// The demo's files are what the agent expects.
func TestManifestAndConfig(t *testing.T) {
	var policy v1alpha1.NetIOPolicy
	if err := yaml.UnmarshalStrict([]byte(webPolicy), &policy); err != nil {
		t.Error(err)
	}
	config, err := agentconfig.Parse("agent.yaml", []byte(agentConfigText()))
	if err != nil {
		t.Fatal(err)
	}
	if config.RunDir != runDir || config.StateDir != stateDir || !config.Masquerade || len(config.PodCIDRs) != 2 {
		t.Errorf("read as %+v", config)
	}
}

func TestNetwork(t *testing.T) {
	list, err := network(&pod{name: web})
	if err != nil {
		t.Fatal(err)
	}
	if list.Name != "netio" || list.CNIVersion != "1.1.0" || len(list.Plugins) != 1 || list.Plugins[0].Network.Type != "netio-cni" {
		t.Errorf("read as %+v", list)
	}
	if got := string(list.Plugins[0].Bytes); !strings.Contains(got, `"labels":[{"key":"app","value":"web"}]`) {
		t.Errorf("no label in %s", got)
	}
}

func TestHostStateChanges(t *testing.T) {
	before := hostState{"a", "b", "c"}
	if got := before.changes(hostState{"c", "a", "b"}); len(got) != 0 {
		t.Errorf("another order: %v", got)
	}
	if got, want := before.changes(hostState{"a", "c", "d"}), []string{"- b", "+ d"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAddress(t *testing.T) {
	if got := address(hostAddrs, true); got != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("IPv6: %v", got)
	}
	if got := address(hostAddrs[:1], true); got.IsValid() {
		t.Errorf("IPv6 where there is none: %v", got)
	}
}
