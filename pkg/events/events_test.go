// SPDX-License-Identifier: Apache-2.0

package events

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
)

// TestGuide: docs/kubernetes.md explains all reasons, and no other ones.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Events\n")
	if !ok {
		t.Fatal("there is no section Events")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var got, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\|").FindAllStringSubmatch(section, -1) {
		got = append(got, row[1])
	}
	for _, reason := range All {
		want = append(want, string(reason))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the guide has %v, expected %v", got, want)
	}
}

// TestTell: Events are few, and short enough for the API.
func TestTell(t *testing.T) {
	fake := events.NewFakeRecorder(1000)
	r := New(fake)
	node := &corev1.Node{}
	r.Tell(node, NodeNotReady, "Watch", strings.Repeat("é", 5000))
	if got := <-fake.Events; !strings.HasPrefix(got, "Warning NetIONotReady é") || len(got) > maxNote+len("Warning NetIONotReady ") {
		t.Errorf("%d bytes: %.60s", len(got), got)
	}
	for range 500 {
		r.Tell(node, NodeReady, "Watch", "100% ready")
	}
	if got := <-fake.Events; got != "Normal NetIOReady 100% ready" {
		t.Error(got)
	}
	if n := len(fake.Events); n > burst {
		t.Errorf("%d Events at once", n)
	}
}
