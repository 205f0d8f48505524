// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/oracle"
)

// clusterState is scenarioState with policies of the cluster: c0, c1 and so on.
func clusterState(t *testing.T, cluster, policies string) policy.State {
	t.Helper()
	s := scenarioState(t, policies)
	for i, document := range strings.Split(cluster, "---\n") {
		p := &v1alpha1.NetIOClusterPolicy{}
		p.Name = fmt.Sprint("c", i)
		decode(t, document, &p.Spec)
		s.ClusterPolicies = append(s.ClusterPolicies, p)
	}
	return s
}

// TestClusterPolicy says in words and verdicts what the tiers mean; the oracle and
// the tables must both agree.
func TestClusterPolicy(t *testing.T) {
	for _, test := range []struct {
		name              string
		cluster, policies string
		want              string
	}{
		{
			name:    "without selectors it is for every pod, by the tier Normal",
			cluster: "{ingress: [{action: Allow, from: [{podSelector: {matchLabels: {app: web}}}]}]}",
			want: `
				web > db tcp/1: allow by NetIOClusterPolicy:c0/ingress[0]
				bank-web > db tcp/1: allow by NetIOClusterPolicy:c0/ingress[0]
				bank-db > db tcp/1: deny
				world > bank-web tcp/1: deny
				web > world tcp/1: allow`,
		}, {
			name:    "podSelector picks pods of all namespaces, namespaceSelector of some",
			cluster: "{podSelector: {matchLabels: {app: web}}}\n---\n{namespaceSelector: {matchLabels: {env: prod}}, policyTypes: [Egress]}",
			want: `
				world > web tcp/1: deny
				world > bank-web tcp/1: deny
				world > db tcp/1: allow
				db > world tcp/1: allow
				bank-web > world tcp/1: deny`,
		}, {
			name:     "Admin decides before the policies of namespaces, and closes nothing",
			cluster:  "{tier: Admin, ingress: [{name: scan, action: Allow, from: [{cidr: 203.0.113.0/24}], ports: [{port: 1}]}, {name: db, action: Deny, from: [{podSelector: {matchLabels: {app: db}}}]}]}",
			policies: "{podSelector: {matchLabels: {app: web}}, priority: 0, ingress: [{action: Deny, ports: [{port: 1}]}, {action: Allow, from: [{podSelector: {}}]}]}",
			want: `
				world > web tcp/1: allow by NetIOClusterPolicy:c0/scan
				world > web tcp/2: deny
				db > web tcp/2: deny by NetIOClusterPolicy:c0/db
				bare > web tcp/2: allow by p0/ingress[1]
				bare > db tcp/2: allow`,
		}, {
			name:    "Pass leaves it to the next tier, whatever else its own says",
			cluster: "{tier: Admin, priority: 10, ingress: [{action: Pass, log: true, from: [{podSelector: {matchLabels: {app: web}}}]}]}\n---\n{tier: Admin, ingress: [{name: none, action: Deny}]}",
			want: `
				web > db tcp/1: allow logged
				bare > db tcp/1: deny by NetIOClusterPolicy:c1/none`,
		}, {
			name:    "at one priority Deny comes before Allow, and Allow before Pass",
			cluster: "{tier: Admin, ingress: [{name: pass, action: Pass}, {name: allow, action: Allow, ports: [{port: 1}, {port: 2}]}, {name: deny, action: Deny, ports: [{port: 1}]}]}\n---\n{tier: Baseline, ingress: [{name: rest, action: Deny}]}",
			want: `
				world > web tcp/1: deny by NetIOClusterPolicy:c0/deny
				world > web tcp/2: allow by NetIOClusterPolicy:c0/allow
				world > web tcp/3: deny by NetIOClusterPolicy:c1/rest`,
		}, {
			name:     "Baseline decides where no policy of a namespace covers the direction",
			cluster:  "{tier: Baseline, ingress: [{name: own, action: Allow, from: [{podSelector: {matchLabels: {app: web}}}]}, {name: rest, action: Deny, from: [{cidr: 0.0.0.0/0}]}], egress: [{name: out, action: Deny, to: [{entity: world}]}]}",
			policies: "{podSelector: {matchLabels: {app: db}}, ingress: [{action: Allow, from: [{entity: world}]}]}",
			want: `
				world > bare tcp/1: deny by NetIOClusterPolicy:c0/rest
				world > db tcp/1: allow by p0/ingress[0]
				bare > db tcp/1: deny
				host > db tcp/1: deny
				db > world tcp/1: deny by NetIOClusterPolicy:c0/out
				world6 > web6 tcp/1: allow`,
		}, {
			name:     "Pass in the tier Normal leaves to Baseline what is covered; what that does not decide about stays closed",
			cluster:  "{ingress: [{action: Pass, from: [{entity: world}], ports: [{port: 1}, {port: 2}]}]}\n---\n{tier: Baseline, ingress: [{name: one, action: Allow, ports: [{port: 1}, {port: 3}]}]}",
			policies: "{podSelector: {}, priority: 501, ingress: [{name: late, action: Allow, ports: [{port: 2}, {port: 4}]}]}",
			want: `
				world > web tcp/1: allow by NetIOClusterPolicy:c1/one
				world > web tcp/2: deny
				world > web tcp/3: deny
				world > web tcp/4: allow by p0/late`,
		}, {
			name:     "audit in Admin decides nothing",
			cluster:  "{tier: Admin, audit: true, ingress: [{action: Deny, ports: [{port: 1}]}, {action: Allow, ports: [{port: 2}]}]}",
			policies: "{podSelector: {}, ingress: [{action: Allow, ports: [{port: 1}]}]}",
			want: `
				world > web tcp/1: audit by p0/ingress[0]
				world > web tcp/2: deny`,
		}, {
			name:     "a policy in audit mode keeps nothing from Baseline, and reports what it would close",
			cluster:  "{tier: Baseline, ingress: [{name: all, action: Allow, ports: [{port: 1}]}]}",
			policies: "{podSelector: {}, audit: true, ingress: [{action: Allow, ports: [{port: 2}]}]}",
			want: `
				world > web tcp/1: audit by NetIOClusterPolicy:c0/all
				world > web tcp/2: allow
				world > web tcp/3: audit`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := clusterState(t, test.cluster, test.policies)
			r := policy.Compile(s)
			if len(r.Problems) > 0 {
				t.Fatal(r.Problems)
			}
			for line := range strings.Lines(test.want) {
				text, want, ok := strings.Cut(strings.TrimSpace(line), ": ")
				if !ok {
					continue
				}
				p := parsePacket(t, text)
				if got := inWords(oracle.Allowed(s, p)); got != want {
					t.Errorf("oracle: %s: got %q, want %q", text, got, want)
				}
				if got := inWords(allowedByTables(t, s, r, p)); got != want {
					t.Errorf("tables: %s: got %q, want %q", text, got, want)
				}
			}
		})
	}
}

// TestClusterPolicyNotUnderstood: what the schema would refuse fails closed, in its
// own tier.
func TestClusterPolicyNotUnderstood(t *testing.T) {
	for _, test := range []struct{ name, spec, field string }{
		{"tier", "{tier: Root, ingress: [{action: Allow}]}", "spec.tier"},
		{"pod selector", "{tier: Admin, podSelector: {matchLabels: {'': a}}, ingress: [{action: Allow}]}", "spec.podSelector"},
		{"namespace selector", "{tier: Admin, namespaceSelector: {matchLabels: {'': a}}, ingress: [{action: Allow}]}", "spec.namespaceSelector"},
		{"action", "{tier: Admin, ingress: [{action: Skip}]}", "spec.ingress[0].action"},
		{"policy types", "{tier: Admin, policyTypes: [Ingress], ingress: [{action: Allow}]}", "spec.policyTypes"},
		{"priority", "{tier: Admin, priority: 1001, ingress: [{action: Allow}]}", "spec.priority"},
		{"peer", "{tier: Admin, ingress: [{action: Allow, from: [{}]}]}", "spec.ingress[0].from[0]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := clusterState(t, test.spec, "{podSelector: {}, ingress: [{action: Allow}]}")
			r := policy.Compile(s)
			if len(r.Problems) != 1 || r.Problems[0].Policy != "NetIOClusterPolicy:c0" || !strings.Contains(r.Problems[0].Err.Error(), test.field) {
				t.Fatalf("problems %v, want one that names %s", r.Problems, test.field)
			}
			p := parsePacket(t, "world > web tcp/1")
			if v := evaluate(t, r, "web", true, p); v.Allowed {
				t.Errorf("open: %+v", v)
			}
			s.ClusterPolicies[0].Spec.Audit = true
			if v := evaluate(t, policy.Compile(s), "web", true, p); !v.Allowed || !v.Audited {
				t.Errorf("in audit mode: %+v", v)
			}
		})
	}
}

// TestBaselineComesAndGoes: the rules that stand for isolation are there only while
// there is a policy of the tier Baseline, so that the others stay as they were.
func TestBaselineComesAndGoes(t *testing.T) {
	s := clusterState(t, "{tier: Baseline, podSelector: {matchLabels: {app: web}}, ingress: [{action: Deny}]}", "podSelector: {}")
	with := policy.Compile(s)
	if got := with.Policies[1].Ingress; len(got) != 1 || got[0].Name != "(isolation)" {
		t.Errorf("rules %v", got)
	}
	c := policy.NewCompiler()
	setAll(c, s)
	c.DeleteClusterPolicy("c0")
	s.ClusterPolicies = nil
	without := c.Result()
	equal(t, "without Baseline", policy.Compile(s), without)
	if i := slices.IndexFunc(without.Endpoints, func(e policy.EndpointPolicies) bool { return len(e.Policies) > 1 }); i >= 0 || len(without.Policies[0].Ingress) != 0 {
		t.Errorf("policies %v, endpoints %v", without.Policies, without.Endpoints)
	}
}
