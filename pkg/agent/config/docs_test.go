// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The guide's examples are valid, and its table has every field.
func TestGuide(t *testing.T) {
	data, err := os.ReadFile("../../../docs/standalone.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := string(data)
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(guide, -1)
	if len(examples) < 2 {
		t.Errorf("%d examples", len(examples))
	}
	for _, e := range examples {
		if _, err := Parse("docs/standalone.md", []byte(e[1])); err != nil {
			t.Errorf("%v in\n%s", err, e[1])
		}
	}
	// A wrong field's message lists the right ones.
	for _, wrong := range []string{"x: 1", "connections: {x: 1}", "connections: {timeouts: {x: 1}}", "installCNI: {x: 1}", "metrics: {x: 1}"} {
		_, err := Parse("c.yaml", []byte("podCIDRs: [10.0.0.0/24]\n"+wrong))
		_, list, ok := strings.Cut(err.Error(), "the fields here are ")
		if !ok {
			t.Fatal(err)
		}
		for field := range strings.SplitSeq(list, ", ") {
			if !strings.Contains(guide, "`"+field+"`") && !strings.Contains(guide, "."+field+"`") && field != "connections" {
				t.Errorf("the guide does not have %s", field)
			}
		}
	}
}
