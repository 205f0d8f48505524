// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"netio.dev/netio/test/kind/cluster"
	"netio.dev/netio/test/kind/state"
)

func TestSkipList(t *testing.T) {
	expression, err := skipExpression("mine( too)?")
	if err != nil {
		t.Fatal(err)
	}
	e, err := regexp.Compile(expression)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"[sig-network] Services should work after restarting apiserver [Disruptive]": true,
		"[sig-network] KubeProxy should set TCP CLOSE_WAIT timeout [Privileged]":     true,
		"[sig-network] mine": true,
		"[sig-network] Services should serve a basic endpoint from pods [Conformance]":        false,
		"[sig-network] Netpol API should support creating NetworkPolicy API operations":       false,
		"[sig-network] [Feature:IPv6DualStack] should have at least one dual-stack node":      false,
		"[sig-network] Netpol NetworkPolicy should support allow-all [Feature:NetworkPolicy]": false,
	} {
		if got := e.MatchString(name); got != want {
			t.Errorf("%s: skipped %v", name, got)
		}
	}
}

func TestSkipListIsChecked(t *testing.T) {
	for name, text := range map[string]string{
		"no reason":       "- specs: x",
		"no expression":   "- because: x",
		"no such field":   "- {specs: x, because: y, reason: z}",
		"no expression 2": "- {specs: '(', because: y}",
	} {
		if _, err := skips([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReport(t *testing.T) {
	r, err := readReport("testdata/junit.xml")
	if err != nil {
		t.Fatal(err)
	}
	for of, want := range map[outcome]int{passed: 1, failed: 2, skipped: 1, passedOver: 2} {
		if got := r.count(of); got != want {
			t.Errorf("outcome %d: %d specs, want %d", of, got, want)
		}
	}
	var out strings.Builder
	r.print(&out)
	const want = `SKIPPED (0s) [sig-network] Services c
	not in this cluster
FAILED (1m1s) [sig-network] Services b
	[FAILED] timed out after 60 s:
FAILED (2s) [sig-network] Services d
	[PANICKED] Test Panicked
1 passed, 2 failed, 1 skipped themselves
`
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestFailureBeforeSpecsIsOne(t *testing.T) {
	s := spec{Name: "[SynchronizedBeforeSuite]", Failure: []reason{{Text: "no node is ready"}}}
	if s.outcome() != failed {
		t.Errorf("outcome %d", s.outcome())
	}
}

// TestArguments: what is for the runner comes before the program, what is for the
// suite behind the dashes.
func TestArguments(t *testing.T) {
	o := Options{Cluster: &cluster.Cluster{Dir: state.Dir("/c")}, Focus: "f", Procs: 2}
	args := o.arguments("s")
	program, dashes := slices.Index(args, "/c/bin/e2e.test"), slices.Index(args, "--")
	if args[0] != "/c/bin/ginkgo" || dashes != program+1 {
		t.Fatal(args)
	}
	for _, a := range []string{"--focus=f", "--skip=s", "--procs=2"} {
		if i := slices.Index(args, a); i < 0 || i > program {
			t.Errorf("%s in %v", a, args)
		}
	}
	if i := slices.Index(args, "--report-dir=/c/log/suite"); i < dashes {
		t.Errorf("report in %v", args)
	}
}
