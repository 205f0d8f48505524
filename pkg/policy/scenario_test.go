// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/oracle"
	"sigs.k8s.io/yaml"
)

// The scenarios' world:
//
//	shop: web 10.0.0.1, fd00::1 · db 10.0.0.2 · bare 10.0.0.3 (no labels)
//	bank (env=prod): web 10.0.0.11 · db 10.0.0.12, remote
//	service accounts: front of web, store of db
//	host 192.0.2.1, as a node 198.51.100.1 (disk=ssd) · other node 198.51.100.2 (disk=hdd)
//	API server 198.51.100.2, its service 10.96.0.1 · world 203.0.113.1
func scenarioState(t *testing.T, policies string) policy.State {
	t.Helper()
	address := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	endpoint := func(id, namespace, app string, remote bool, addresses ...string) policy.Endpoint {
		e := policy.Endpoint{ID: id, Namespace: namespace, Name: id, Labels: map[string]string{"app": app}, Remote: remote}
		if app == "" {
			e.Labels = nil
		}
		for _, a := range addresses {
			e.Addresses = append(e.Addresses, netip.MustParseAddr(a))
		}
		return e
	}
	s := policy.State{
		Endpoints: []policy.Endpoint{
			endpoint("web", "shop", "web", false, "10.0.0.1", "fd00::1"),
			endpoint("db", "shop", "db", false, "10.0.0.2"),
			endpoint("bare", "shop", "", false, "10.0.0.3"),
			endpoint("bank-web", "bank", "web", false, "10.0.0.11"),
			endpoint("bank-db", "bank", "db", true, "10.0.0.12"),
		},
		Namespaces: map[string]map[string]string{"bank": {"env": "prod"}},
		Node: policy.Node{
			HostAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			PodNetworks:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
			Nodes: []policy.ClusterNode{
				{Labels: map[string]string{"disk": "ssd"}, Addresses: address("198.51.100.1")},
				{Remote: true, Labels: map[string]string{"disk": "hdd"}, Addresses: address("198.51.100.2")},
			},
			APIServer: append(address("198.51.100.2"), address("10.96.0.1")...),
		},
	}
	for i, e := range s.Endpoints {
		s.Endpoints[i].ServiceAccount = map[string]string{"web": "front", "db": "store"}[e.Labels["app"]]
	}
	for i, document := range strings.Split(policies, "---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		p := &v1alpha1.NetIOPolicy{}
		if err := yaml.UnmarshalStrict([]byte(document), &p.Spec); err != nil {
			t.Fatal(err)
		}
		p.Namespace, p.Name = "shop", fmt.Sprintf("p%d", i)
		s.Policies = append(s.Policies, p)
	}
	return s
}

var scenarioAddresses = map[string]string{
	"web": "10.0.0.1", "web6": "fd00::1", "db": "10.0.0.2", "bare": "10.0.0.3", "bank-web": "10.0.0.11",
	"bank-db": "10.0.0.12", "free": "10.0.0.99", "host": "192.0.2.1", "node": "198.51.100.1", "other": "198.51.100.2", "service": "10.96.0.1", "world": "203.0.113.1", "world6": "2001:db8::1",
}

// parsePacket reads "web > db tcp/5432", "world > web icmp/8/0".
func parsePacket(t *testing.T, text string) oracle.Packet {
	t.Helper()
	var src, dst, what string
	if _, err := fmt.Sscanf(text, "%s > %s %s", &src, &dst, &what); err != nil {
		t.Fatalf("packet %q: %v", text, err)
	}
	p := oracle.Packet{Src: netip.MustParseAddr(scenarioAddresses[src]), Dst: netip.MustParseAddr(scenarioAddresses[dst])}
	protocol, rest, _ := strings.Cut(what, "/")
	var err error
	switch protocol {
	case "tcp", "udp", "sctp":
		p.Protocol = map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132}[protocol]
		_, err = fmt.Sscanf(rest, "%d", &p.DstPort)
	case "icmp", "icmp6":
		p.Protocol = map[string]uint8{"icmp": 1, "icmp6": 58}[protocol]
		_, err = fmt.Sscanf(rest, "%d/%d", &p.ICMPType, &p.ICMPCode)
	default:
		_, err = fmt.Sscanf(what, "%d", &p.Protocol)
	}
	if err != nil {
		t.Fatalf("packet %q: %v", text, err)
	}
	return p
}

// TestScenarios says in words and verdicts what policies mean; the oracle and the
// tables must both agree.
func TestScenarios(t *testing.T) {
	for _, test := range []struct {
		name     string
		policies string // specs, in namespace shop
		want     string // lines of packet: verdict
	}{
		{
			name: "no policy leaves everything open",
			want: `
				web > db tcp/5432: allow
				world > web tcp/80: allow
				web > world 47: allow`,
		}, {
			name:     "a policy without rules closes ingress and leaves egress open",
			policies: "podSelector: {matchLabels: {app: web}}",
			want: `
				db > web tcp/80: deny
				world > web tcp/80: deny
				host > web icmp/8/0: deny
				web > db tcp/5432: allow
				world > db tcp/5432: allow
				world > bank-web tcp/80: allow`,
		}, {
			name:     "egress rules close egress as well as ingress",
			policies: "{podSelector: {matchLabels: {app: web}}, egress: [{action: Allow, to: [{podSelector: {matchLabels: {app: db}}}]}]}",
			want: `
				web > db tcp/5432: allow by p0/egress[0]
				web > bank-db tcp/5432: deny
				web > world tcp/443: deny
				db > web tcp/80: deny`,
		}, {
			name:     "policyTypes narrows to egress",
			policies: "{podSelector: {}, policyTypes: [Egress]}",
			want: `
				world > web tcp/80: allow
				web > world tcp/80: deny
				bank-web > bank-db tcp/80: allow`,
		}, {
			name:     "podSelector alone means the same namespace",
			policies: "{podSelector: {matchLabels: {app: db}}, ingress: [{action: Allow, from: [{podSelector: {matchLabels: {app: web}}}]}]}",
			want: `
				web > db tcp/5432: allow by p0/ingress[0]
				bank-web > db tcp/5432: deny
				bare > db tcp/5432: deny`,
		}, {
			name: "namespaceSelector alone means every pod of the namespaces, both together mean both",
			policies: `
podSelector: {matchLabels: {app: db}}
ingress:
- {name: prod, action: Allow, from: [{namespaceSelector: {matchLabels: {env: prod}}}], ports: [{port: 1}]}
- {name: prod-web, action: Allow, from: [{namespaceSelector: {matchLabels: {env: prod}}, podSelector: {matchLabels: {app: web}}}], ports: [{port: 2}]}
- {name: by-name, action: Allow, from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}], ports: [{port: 3}]}
- {name: any, action: Allow, from: [{namespaceSelector: {}}], ports: [{port: 4}]}
`,
			want: `
				bank-web > db tcp/1: allow by p0/prod
				bank-db > db tcp/1: allow by p0/prod
				web > db tcp/1: deny
				bank-web > db tcp/2: allow by p0/prod-web
				bank-db > db tcp/2: deny
				bare > db tcp/3: allow by p0/by-name
				bank-web > db tcp/3: deny
				bank-db > db tcp/4: allow by p0/any
				bare > db tcp/4: allow by p0/any
				world > db tcp/4: deny
				free > db tcp/4: deny`,
		}, {
			name: "ports are ranges, protocols, and TCP by default",
			policies: `
podSelector: {}
ingress:
- action: Allow
  ports: [{port: 80}, {port: 8000, endPort: 8010}, {protocol: UDP, port: 53}, {protocol: SCTP}]
`,
			want: `
				world > web tcp/80: allow by p0/ingress[0]
				world > web udp/80: deny
				world > web tcp/79: deny
				world > web tcp/7999: deny
				world > web tcp/8000: allow by p0/ingress[0]
				world > web tcp/8010: allow by p0/ingress[0]
				world > web tcp/8011: deny
				world > web udp/53: allow by p0/ingress[0]
				world > web tcp/53: deny
				world > web sctp/9: allow by p0/ingress[0]
				world > web icmp/8/0: deny
				world > web 47: deny`,
		}, {
			name:     "icmp by family, type and code",
			policies: "{podSelector: {}, ingress: [{action: Allow, icmp: [{family: IPv4, type: 8}, {family: IPv6, type: 1, code: 4}]}]}",
			want: `
				world > web icmp/8/0: allow by p0/ingress[0]
				world > web icmp/8/1: allow by p0/ingress[0]
				world > web icmp/13/0: deny
				world6 > web6 icmp6/8/0: deny
				world6 > web6 icmp6/1/4: allow by p0/ingress[0]
				world6 > web6 icmp6/1/3: deny
				world > web tcp/8: deny`,
		}, {
			name:     "a rule without ports is about every protocol",
			policies: "{podSelector: {}, ingress: [{action: Allow, from: [{entity: world}]}]}",
			want: `
				world > web 47: allow by p0/ingress[0]
				world > web icmp/8/0: allow by p0/ingress[0]
				world6 > web6 udp/1: allow by p0/ingress[0]`,
		}, {
			name: "entities: the world is neither host nor pod, in use or not",
			policies: `
podSelector: {}
ingress:
- {action: Allow, from: [{entity: world}], ports: [{port: 1}]}
- {action: Allow, from: [{entity: host}], ports: [{port: 2}]}
- {action: Allow, from: [{entity: all}], ports: [{port: 3}]}
`,
			want: `
				world > db tcp/1: allow by p0/ingress[0]
				host > db tcp/1: deny
				web > db tcp/1: deny
				web6 > db tcp/1: deny
				free > db tcp/1: deny
				host > db tcp/2: allow by p0/ingress[1]
				world > db tcp/2: deny
				free > db tcp/3: allow by p0/ingress[2]
				host > db tcp/3: allow by p0/ingress[2]`,
		}, {
			name: "entities of a cluster, and nodes by their labels",
			policies: `
podSelector: {}
ingress:
- {action: Allow, from: [{entity: cluster}], ports: [{port: 1}]}
- {action: Allow, from: [{entity: remote-node}], ports: [{port: 2}]}
- {action: Allow, from: [{entity: kube-apiserver}], ports: [{port: 3}]}
- {action: Allow, from: [{entity: world}], ports: [{port: 4}]}
- {action: Allow, from: [{nodeSelector: {matchLabels: {disk: ssd}}}], ports: [{port: 5}]}
- {action: Allow, from: [{nodeSelector: {}}], ports: [{port: 6}]}
`,
			want: `
				host > db tcp/1: allow by p0/ingress[0]
				node > db tcp/1: allow by p0/ingress[0]
				other > db tcp/1: allow by p0/ingress[0]
				web6 > db tcp/1: allow by p0/ingress[0]
				free > db tcp/1: allow by p0/ingress[0]
				world > db tcp/1: deny
				service > db tcp/1: deny
				other > db tcp/2: allow by p0/ingress[1]
				node > db tcp/2: deny
				host > db tcp/2: deny
				other > db tcp/3: allow by p0/ingress[2]
				service > db tcp/3: allow by p0/ingress[2]
				node > db tcp/3: deny
				world > db tcp/4: allow by p0/ingress[3]
				other > db tcp/4: deny
				node > db tcp/4: deny
				node > db tcp/5: allow by p0/ingress[4]
				host > db tcp/5: allow by p0/ingress[4]
				other > db tcp/5: deny
				other > db tcp/6: allow by p0/ingress[5]
				web > db tcp/6: deny`,
		}, {
			name:     "service accounts narrow who is selected, and who the peer is",
			policies: "{podSelector: {}, serviceAccounts: [store], ingress: [{action: Allow, from: [{serviceAccounts: [front], namespaceSelector: {}}], ports: [{port: 1}]}, {action: Allow, from: [{serviceAccounts: [front, store]}], ports: [{port: 2}]}]}",
			want: `
				web > db tcp/1: allow by p0/ingress[0]
				bank-web > db tcp/1: allow by p0/ingress[0]
				bare > db tcp/1: deny
				web > db tcp/2: allow by p0/ingress[1]
				bank-web > db tcp/2: deny
				bare > web tcp/1: allow`,
		}, {
			name:     "a prefix without its exceptions, pods' addresses too",
			policies: "{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.0/8, except: [10.0.0.2/32, 10.0.0.8/29]}]}]}",
			want: `
				web > bare tcp/1: allow by p0/ingress[0]
				db > bare tcp/1: deny
				bank-web > bare tcp/1: deny
				free > bare tcp/1: allow by p0/ingress[0]
				world > bare tcp/1: deny`,
		}, {
			name: "lower priority first, whichever policy has it",
			policies: `
priority: 100
podSelector: {matchLabels: {app: web}}
ingress: [{name: no-world, action: Deny, from: [{entity: world}]}]
---
podSelector: {matchLabels: {app: web}}
ingress: [{name: all, action: Allow}]
---
priority: 50
podSelector: {matchLabels: {app: web}}
ingress: [{name: ping, action: Allow, icmp: [{family: IPv4, type: 8}]}]
`,
			want: `
				world > web tcp/80: deny by p0/no-world
				world > web icmp/8/0: allow by p2/ping
				db > web tcp/80: allow by p1/all`,
		}, {
			name: "at the same priority Deny before Allow, whatever the order",
			policies: `
podSelector: {}
ingress: [{name: all, action: Allow}, {name: no-db, action: Deny, from: [{podSelector: {matchLabels: {app: db}}}]}]
`,
			want: `
				db > web tcp/80: deny by p0/no-db
				bare > web tcp/80: allow by p0/all`,
		}, {
			name: "both ends must allow",
			policies: `
podSelector: {matchLabels: {app: web}}
policyTypes: [Egress]
egress: [{name: out, action: Allow, to: [{podSelector: {}}]}]
---
podSelector: {matchLabels: {app: db}}
ingress: [{name: in, action: Allow, ports: [{port: 5432}]}]
`,
			want: `
				web > db tcp/5432: allow by p1/in
				web > db tcp/80: deny
				web > world tcp/5432: deny
				world > db tcp/5432: allow by p1/in`,
		}, {
			name:     "a selector that picks nobody allows nobody",
			policies: "{podSelector: {}, ingress: [{action: Allow, from: [{podSelector: {matchLabels: {app: ghost}}}]}]}",
			want: `
				web > db tcp/1: deny
				world > db tcp/1: deny`,
		}, {
			name: "audit reports what it would drop, and drops nothing",
			policies: `
audit: true
podSelector: {matchLabels: {app: web}}
ingress: [{name: from-db, action: Allow, from: [{podSelector: {matchLabels: {app: db}}}]}]
`,
			want: `
				db > web tcp/80: allow
				world > web tcp/80: audit`,
		}, {
			name: "audit opens nothing that another policy closes",
			policies: `
audit: true
priority: 1
podSelector: {matchLabels: {app: web}}
ingress: [{name: all, action: Allow}]
---
podSelector: {matchLabels: {app: web}}
`,
			want: `
				world > web tcp/80: deny`,
		}, {
			name: "a denial in audit hides no denial behind it, and reports what passes behind it",
			policies: `
audit: true
priority: 1
podSelector: {matchLabels: {app: web}}
ingress: [{name: none, action: Deny}]
---
podSelector: {matchLabels: {app: web}}
ingress: [{name: from-db, action: Allow, from: [{podSelector: {matchLabels: {app: db}}}], log: true}]
`,
			want: `
				db > web tcp/80: audit by p1/from-db logged
				world > web tcp/80: deny`,
		}, {
			name: "expressions: In, NotIn (also without the label), Exists, DoesNotExist",
			policies: `
podSelector: {matchLabels: {app: db}}
ingress:
- {action: Allow, ports: [{port: 1}], from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [web, db]}]}}]}
- {action: Allow, ports: [{port: 2}], from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}]}
- {action: Allow, ports: [{port: 3}], from: [{podSelector: {matchExpressions: [{key: app, operator: Exists}]}}]}
- {action: Allow, ports: [{port: 4}], from: [{podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}]}
`,
			want: `
				web > db tcp/1: allow by p0/ingress[0]
				bare > db tcp/1: deny
				web > db tcp/2: deny
				bare > db tcp/2: allow by p0/ingress[1]
				web > db tcp/3: allow by p0/ingress[2]
				bare > db tcp/3: deny
				web > db tcp/4: deny
				bare > db tcp/4: allow by p0/ingress[3]`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := scenarioState(t, test.policies)
			r := policy.Compile(s)
			if len(r.Problems) > 0 {
				t.Fatal(r.Problems)
			}
			for line := range strings.Lines(test.want) {
				line = strings.TrimSpace(line)
				if line == "" {
					continue
				}
				text, want, _ := strings.Cut(line, ": ")
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

// allowedByTables judges like oracle.Allowed, by the tables.
func allowedByTables(t *testing.T, s policy.State, r policy.Result, p oracle.Packet) oracle.Verdict {
	out := oracle.Verdict{Allowed: true}
	for _, ingress := range []bool{false, true} {
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				if e.Remote || a != map[bool]netip.Addr{false: p.Src, true: p.Dst}[ingress] {
					continue
				}
				v := evaluate(t, r, e.ID, ingress, p)
				if !v.Allowed {
					return v
				}
				out = oracle.Verdict{Allowed: true, Audited: out.Audited || v.Audited, Logged: out.Logged || v.Logged, Rule: cmp.Or(v.Rule, out.Rule)}
			}
		}
	}
	return out
}

func inWords(v oracle.Verdict) string {
	out := "deny"
	if v.Allowed {
		out = "allow"
	}
	if v.Audited {
		out = "audit"
	}
	if v.Rule != "" {
		out += " by " + v.Rule
	}
	if v.Logged {
		out += " logged"
	}
	return out
}
