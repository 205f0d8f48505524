// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"strings"
	"testing"

	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/oracle"
)

// TestClusterNetworkPolicy says in words and verdicts what the API means; the oracle
// and the tables must both agree. Policies are k0, k1 and so on.
func TestClusterNetworkPolicy(t *testing.T) {
	for _, test := range []struct {
		name                       string
		kubernetes, own, namespace string
		problem                    string
		want                       string
	}{
		{
			name: "the first rule that matches decides, Deny or not",
			kubernetes: `
tier: Admin
priority: 10
subject: {namespaces: {}}
ingress:
- {name: web, action: Accept, from: [{pods: {podSelector: {matchLabels: {app: web}}}}]}
- {name: shop, action: Deny, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}]}
- {action: Pass, from: [{namespaces: {}}]}
- {name: never, action: Deny, from: [{namespaces: {}}]}
`,
			namespace: "{podSelector: {matchLabels: {app: db}}}",
			want: `
				web > db tcp/1: allow by ClusterNetworkPolicy:k0/web
				bank-web > db tcp/1: allow by ClusterNetworkPolicy:k0/web
				bare > db tcp/1: deny by ClusterNetworkPolicy:k0/shop
				bank-db > db tcp/1: deny
				bank-db > bare tcp/1: allow
				world > bare tcp/1: allow
				host > bare tcp/1: allow`,
		}, {
			name: "lower priority first; Baseline where no policy of a namespace covers the direction",
			kubernetes: `
{tier: Baseline, priority: 20, subject: {namespaces: {}}, egress: [{name: none, action: Deny, to: [{networks: [0.0.0.0/0]}]}]}
---
{tier: Baseline, priority: 10, subject: {pods: {podSelector: {matchLabels: {app: web}}}}, egress: [{name: net, action: Accept, to: [{networks: [203.0.113.99/24]}]}]}
`,
			namespace: "{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{action: Allow, to: [{entity: world}]}]}",
			want: `
				web > world tcp/1: allow by ClusterNetworkPolicy:k1/net
				bank-web > bank-db tcp/1: deny by ClusterNetworkPolicy:k0/none
				bare > world tcp/1: deny by ClusterNetworkPolicy:k0/none
				web6 > world6 tcp/1: allow
				db > world tcp/1: allow by p0/egress[0]
				db > host tcp/1: deny`,
		}, {
			name:       "at one priority NetIOClusterPolicies come first",
			kubernetes: "{tier: Admin, priority: 500, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}",
			own:        "{tier: Admin, ingress: [{name: one, action: Allow, ports: [{port: 1}]}]}\n---\n{tier: Admin, priority: 501, ingress: [{action: Allow}]}",
			want: `
				web > db tcp/1: allow by NetIOClusterPolicy:c0/one
				web > db tcp/2: deny by ClusterNetworkPolicy:k0/ingress[0]
				world > db tcp/2: allow by NetIOClusterPolicy:c1/ingress[0]`,
		}, {
			name: "protocols, ranges, and ports by name",
			kubernetes: `
tier: Admin
priority: 0
subject: {namespaces: {}}
ingress:
- action: Deny
  from: [{namespaces: {}}]
  protocols:
  - tcp: {destinationPort: {number: 80}}
  - udp: {destinationPort: {range: {start: 50, end: 53}}}
  - sctp: {destinationPort: {number: 9}}
  - destinationNamedPort: admin
`,
			want: `
				web > db tcp/80: deny by ClusterNetworkPolicy:k0/ingress[0]
				web > db udp/80: allow
				web > db udp/53: deny by ClusterNetworkPolicy:k0/ingress[0]
				web > db sctp/9: deny by ClusterNetworkPolicy:k0/ingress[0]
				web > db tcp/8080: deny by ClusterNetworkPolicy:k0/ingress[0]
				web > bare tcp/8080: allow
				web > db icmp/8/0: allow`,
		}, {
			name: "a rule that is not understood closes: Accept does not match, another one denies everything",
			kubernetes: `
tier: Admin
priority: 0
subject: {pods: {podSelector: {matchLabels: {app: web}}}}
egress:
- {name: named, action: Accept, to: [{domainNames: [example.com]}, {networks: [203.0.113.0/24]}]}
- {name: known, action: Accept, to: [{networks: [10.0.0.0/24]}]}
- {name: nodes, action: Accept, to: [{nodes: {matchLabels: {disk: hdd}}}]}
- {name: newer, action: Pass, to: [{}], protocols: [{tcp: {destinationPort: {number: 80}}}]}
`,
			problem: "spec.egress[0].to[0]: domainNames are not supported",
			want: `
				web > world tcp/80: deny by ClusterNetworkPolicy:k0/newer
				web > db tcp/1: allow by ClusterNetworkPolicy:k0/known
				web > host udp/1: deny by ClusterNetworkPolicy:k0/newer
				web > other tcp/1: allow by ClusterNetworkPolicy:k0/nodes
				bare > world tcp/80: allow`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := scenarioState(t, test.namespace)
			if test.own != "" {
				s = clusterState(t, test.own, test.namespace)
			}
			s.Endpoints[1].Ports = []policy.Port{{Name: "admin", Protocol: "TCP", Number: 8080}}
			for i, document := range strings.Split(test.kubernetes, "---\n") {
				p := &networkapi.ClusterNetworkPolicy{}
				p.Name = fmt.Sprint("k", i)
				decode(t, document, &p.Spec)
				s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, p)
			}
			r := policy.Compile(s)
			if test.problem == "" && len(r.Problems) > 0 || test.problem != "" && (len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0].Err.Error(), test.problem)) {
				t.Fatalf("problems %v, want %q", r.Problems, test.problem)
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

// TestClusterNetworkPolicyNotUnderstood: where the whole policy is not, each of its
// rules is closed, for all pods if it is the subject.
func TestClusterNetworkPolicyNotUnderstood(t *testing.T) {
	for _, test := range []struct{ name, spec, field string }{
		{"tier", "{tier: Root, subject: {namespaces: {}}, ", "spec.tier"},
		{"priority", "{tier: Admin, priority: 1001, subject: {namespaces: {}}, ", "spec.priority"},
		{"subject", "{tier: Admin, subject: {}, ", "spec.subject"},
		{"two subjects", "{tier: Admin, subject: {namespaces: {}, pods: {}}, ", "spec.subject"},
		{"namespaces of the subject", "{tier: Admin, subject: {namespaces: {matchExpressions: [{key: a, operator: in}]}}, ", "spec.subject"},
		{"a label that only NetIO gives", "{tier: Admin, subject: {pods: {podSelector: {matchLabels: {port/TCP/http: '80'}}}}, ", "spec.subject"},
		{"pods of the subject", "{tier: Admin, subject: {pods: {podSelector: {matchLabels: {'a b': c}}}}, ", "spec.subject"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for action, allowed := range map[string]bool{"Accept": true, "Deny": false, "Pass": false, "Skip": false} {
				p := &networkapi.ClusterNetworkPolicy{}
				p.Name = "k"
				decode(t, test.spec+"ingress: [{action: "+action+", from: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}]}", &p.Spec)
				s := scenarioState(t, "")
				s.Endpoints[0].Ports = []policy.Port{{Name: "http", Protocol: "TCP", Number: 80}}
				s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, p)
				r := policy.Compile(s)
				if len(r.Problems) != 1 || r.Problems[0].Policy != "ClusterNetworkPolicy:k" || !strings.HasPrefix(r.Problems[0].Err.Error(), test.field) {
					t.Fatalf("%s: problems %v, want one that names %s", action, r.Problems, test.field)
				}
				if v := evaluate(t, r, "web", true, parsePacket(t, "world > web tcp/1")); v.Allowed != allowed {
					t.Errorf("%s: %+v", action, v)
				}
			}
		})
	}
}
