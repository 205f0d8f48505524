// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"netio.dev/netio/pkg/policy"
	"sigs.k8s.io/yaml"
)

// FuzzParse reads anything. What is accepted, the compiler understands, and it
// reads the same when it is written and read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(manifestOf("web", "db=7")))
	f.Add([]byte(manifestOf("web", "bad")))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: [{apiVersion: netio.dev/v1alpha1, kind: NetIOPolicy, metadata: {name: a}, spec: &s {podSelector: {}}}, {apiVersion: netio.dev/v1alpha1, kind: NetIOPolicy, metadata: {name: b}, spec: *s}]"))
	seeds, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range seeds {
		data, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, problems := parse("f", data)
		if len(problems) > 0 && len(objects) > 0 {
			t.Fatalf("objects of a file with problems: %v", problems)
		}
		for _, p := range problems {
			if p.Message == "" || p.Line < 0 {
				t.Errorf("problem %+v", p)
			}
		}
		state := policy.State{}
		for _, o := range objects {
			var one any = o.policy
			if o.policy == nil {
				one = o.clusterPolicy
				state.ClusterPolicies = append(state.ClusterPolicies, o.clusterPolicy)
			} else {
				state.Policies = append(state.Policies, o.policy)
			}
			state.Endpoints = append(state.Endpoints, policy.Endpoint{ID: "e/" + o.id.Namespace, Namespace: o.id.Namespace})

			written, err := yaml.Marshal(one)
			if err != nil {
				t.Fatal(err)
			}
			again, problems := parse("f", written)
			if len(problems) > 0 {
				t.Fatalf("written again: %v\n%s", problems, written)
			}
			if diff := cmp.Diff([]any{o.policy, o.clusterPolicy}, []any{again[0].policy, again[0].clusterPolicy}); diff != "" {
				t.Errorf("written and read again (-first +again):\n%s", diff)
			}
		}
		if r := policy.Compile(state); len(r.Problems) > 0 {
			t.Errorf("the compiler does not understand: %v", r.Problems)
		}
	})
}
