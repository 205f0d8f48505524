// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/manifest"
)

// TestGuide reads the examples of the policy guide, and those that it says are
// refused, with what it says about them.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	for _, m := range regexp.MustCompile("(?ms)^```yaml( refused)?\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?").FindAllStringSubmatch(string(guide), -1) {
		refused, example, said := m[1] != "", m[2], m[3]
		set, problems := manifest.Parse("web.yaml", []byte(example))
		if refused {
			bad++
			var got strings.Builder
			for _, p := range problems {
				fmt.Fprintln(&got, p.Error())
			}
			if got.String() != said {
				t.Errorf("the guide says\n%s\nwe say\n%s", said, &got)
			}
			continue
		}
		good++
		if len(problems) > 0 || len(set.Policies)+len(set.ClusterPolicies) == 0 {
			t.Errorf("%d policies, problems %v in\n%s", len(set.Policies), problems, example)
		}
		if r := policy.Compile(policy.State{Policies: set.Policies, ClusterPolicies: set.ClusterPolicies}); len(r.Problems) > 0 {
			t.Errorf("problems %v in\n%s", r.Problems, example)
		}
	}
	if good < 5 || bad < 1 {
		t.Errorf("found only %d examples and %d refused ones", good, bad)
	}
}
