// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"netio.dev/netio/pkg/policy"
)

const head = `apiVersion: netio.dev/v1alpha1
kind: NetIOPolicy
metadata: {name: web, namespace: shop}
`

// TestMistakes: the place, what is wrong and what to do. A line of want is
// line:column, object and field, and a part of the message.
func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		name string
		file string
		want []string
	}{
		{"tab", "a:\n\t- x\n", []string{`2: |found character that cannot start any token: not YAML`}},
		{"bracket", "# a\n---\nb: [\n", []string{`3: |not YAML; look for`}},
		{"not UTF-8", "a: 1\nb: \"\xff\"\n", []string{`2: |is not text in UTF-8`}},
		{"scalar", "hello\n", []string{`1:1: |is the text "hello": expected an object`}},
		{"list at top", "- a\n", []string{`1:1: |is a list: expected an object`}},
		{"empty map", "{}\n", []string{
			`1:1: apiVersion: |is missing: expected apiVersion: netio.dev/v1alpha1 and kind: NetIOPolicy`,
			`1:1: kind: |is missing`,
		}},
		{"other kind", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n", []string{
			`2:1: |is "NetworkPolicy" of "networking.k8s.io/v1": only NetIOPolicy or NetIOClusterPolicy of netio.dev/v1alpha1 is read here`,
		}},
		{"other version", "apiVersion: netio.dev/v9\nkind: NetIOPolicy\n", []string{`2:1: |is "NetIOPolicy" of "netio.dev/v9"`}},
		{"kind is a number", "apiVersion: netio.dev/v1alpha1\nkind: 3\n", []string{`2:7: kind: |is the number 3: expected text`}},
		{"no metadata, no spec", "apiVersion: netio.dev/v1alpha1\nkind: NetIOPolicy\n", []string{
			`1:1: metadata: |is missing: expected metadata with a name`,
			`1:1: spec: |is missing: expected spec with a podSelector`,
		}},
		{"no name", "apiVersion: netio.dev/v1alpha1\nkind: NetIOPolicy\nmetadata:\n  namespace: shop\nspec: {podSelector: {}}\n", []string{
			`4:3: metadata.name: |is missing: expected a name`,
		}},
		{"empty name", "apiVersion: netio.dev/v1alpha1\nkind: NetIOPolicy\nmetadata:\n  labels: {a: b}\n  name: ''\nspec: {podSelector: {}}\n", []string{
			`5:3: metadata.name: |is missing: expected a name`,
		}},
		{"bad names", "apiVersion: netio.dev/v1alpha1\nkind: NetIOPolicy\nmetadata: {name: Web_1, namespace: a.b}\nspec: {podSelector: {}}\n", []string{
			`3:12: metadata.name: |is "Web_1": expected lower-case letters`,
			`3:25: metadata.namespace: |is "a.b": expected lower-case letters, digits and '-'`,
		}},
		{"unknown metadata", "apiVersion: netio.dev/v1alpha1\nkind: NetIOPolicy\nmetadata: {nam: web}\nspec: {podSelector: {}}\n", []string{
			`3:12: metadata.nam: |is not a field; did you mean name?`,
		}},
		{"status", head + "spec: {podSelector: {}}\nstatus: {}\n", []string{
			`5:1: NetIOPolicy shop/web: status: |is not a field: expected one of apiVersion, kind, metadata, spec`,
		}},
		{"misspelt fields", head + "spec:\n  podSelektor: {}\n  podSelector: {}\n  ingres: []\n  colour: red\n", []string{
			`5:3: NetIOPolicy shop/web: spec.podSelektor: |is not a field; did you mean podSelector?`,
			`7:3: NetIOPolicy shop/web: spec.ingres: |is not a field; did you mean ingress?`,
			`8:3: NetIOPolicy shop/web: spec.colour: |is not a field: expected one of audit, egress, ingress, podSelector, policyTypes, priority`,
		}},
		{"no pod selector", head + "spec: {}\n", []string{
			`4:7: NetIOPolicy shop/web: spec.podSelector: |is missing (podSelector picks the pods`,
		}},
		{"wrong types", head + "spec:\n  priority: high\n  podSelector: []\n  audit: 1\n  ingress: {}\n", []string{
			`5:13: NetIOPolicy shop/web: spec.priority: |is the text "high": expected a number from 0 to 1000 (priority orders the rules`,
			`6:16: NetIOPolicy shop/web: spec.podSelector: |is a list: expected a map`,
			`7:10: NetIOPolicy shop/web: spec.audit: |is the number 1: expected true or false`,
			`8:12: NetIOPolicy shop/web: spec.ingress: |is a map: expected a list`,
		}},
		{"no value", head + "spec:\n  podSelector: {}\n  ingress:\n", []string{
			`6:11: NetIOPolicy shop/web: spec.ingress: |has no value: expected a list`,
		}},
		{"truth in YAML 1.1", head + "spec:\n  podSelector: {matchLabels: {a: yes, b: \"yes\", c: true}}\n  audit: yes\n", []string{
			`5:34: NetIOPolicy shop/web: spec.podSelector.matchLabels[a]: |is a truth value "yes" to YAML: expected text (LabelValue is the value of a label: letters`,
			`5:52: NetIOPolicy shop/web: spec.podSelector.matchLabels[c]: |is the truth value true to YAML: expected text`,
			`6:10: NetIOPolicy shop/web: spec.audit: |is the text "yes": expected true or false`,
		}},
		{"numbers as labels", head + "spec:\n  podSelector: {matchLabels: {a: 1.10}}\n", []string{
			`5:34: NetIOPolicy shop/web: spec.podSelector.matchLabels[a]: |is the number 1.10 to YAML: expected text (LabelValue is the value of a label`,
		}},
		{"numbers that are not plain", head + "spec:\n  podSelector: {}\n  priority: 0x10\n", []string{
			`6:13: NetIOPolicy shop/web: spec.priority: |is 0x10: expected a plain decimal number`,
		}},
		{"numbers out of bounds", head + "spec:\n  podSelector: {}\n  priority: 1001\n  ingress: [{action: Allow, ports: [{port: 0}, {port: 99999999999999999999}]}]\n", []string{
			`6:13: NetIOPolicy shop/web: spec.priority: |is 1001: expected a number from 0 to 1000`,
			`7:44: NetIOPolicy shop/web: spec.ingress[0].ports[0].port: |is 0: expected a number from 1 to 65535`,
			`7:55: NetIOPolicy shop/web: spec.ingress[0].ports[1].port: |is the number 99999999999999999999: expected a number from 1 to 65535`,
		}},
		{"given twice", head + "spec:\n  podSelector: {}\n  podSelector: {}\n", []string{
			`6:3: NetIOPolicy shop/web: spec.podSelector: |is given twice, here and in line 5: remove one`,
		}},
		{"merge key", head + "spec:\n  <<: {audit: true}\n  podSelector: {}\n", []string{
			`5:3: NetIOPolicy shop/web: spec: |merge keys (<<) are not supported`,
		}},
		{"key is no text", head + "spec:\n  podSelector: {matchLabels: {1: a}}\n", []string{
			`5:31: NetIOPolicy shop/web: spec.podSelector.matchLabels: |a key must be text: put quotes around the number 1`,
		}},
		{"own tag", head + "spec: {podSelector: {matchLabels: {a: !x b}}}\n", []string{
			`4:39: NetIOPolicy shop/web: spec.podSelector.matchLabels[a]: |is "b" of type !x: expected text`,
		}},
		{"action", head + "spec: {podSelector: {}, ingress: [{action: allow}, {}, {action: Permit}]}\n", []string{
			`4:44: NetIOPolicy shop/web: spec.ingress[0].action: |is "allow": expected one of Allow, Deny; did you mean Allow?`,
			`4:52: NetIOPolicy shop/web: spec.ingress[1].action: |is missing (action is what becomes of the packets`,
			`4:65: NetIOPolicy shop/web: spec.ingress[2].action: |is "Permit": expected one of Allow, Deny`,
		}},
		{"label expressions", head + `spec:
  podSelector:
    matchLabels: {'-x': a, b: 'a b'}
    matchExpressions:
    - {key: app, operator: In}
    - {key: app, operator: Exists, values: [a]}
    - {key: 'a/b/c', operator: Exists}
    - {key: app, operator: in, values: []}
`, []string{
			`6:31: NetIOPolicy shop/web: spec.podSelector.matchLabels[b]: |"a b" does not match ^((`,
			`8:7: NetIOPolicy shop/web: spec.podSelector.matchExpressions[0].values: |must list at least one value for In and NotIn; to ask`,
			`9:36: NetIOPolicy shop/web: spec.podSelector.matchExpressions[1].values: |must be left out for Exists and DoesNotExist`,
			`10:13: NetIOPolicy shop/web: spec.podSelector.matchExpressions[2].key: |"a/b/c" does not match`,
			`11:28: NetIOPolicy shop/web: spec.podSelector.matchExpressions[3].operator: |is "in": expected one of In, NotIn, Exists, DoesNotExist; did you mean In?`,
		}},
		{"label keys", head + "spec:\n  podSelector:\n    matchLabels: {'-x': a}\n", []string{
			`6:18: NetIOPolicy shop/web: spec.podSelector.matchLabels: |must have label keys, like app or example.com/role`,
		}},
		{"prefixes", head + `spec:
  podSelector: {}
  egress:
  - action: Allow
    to:
    - cidr: 10.0.0/8
    - cidr: 10.0.0.1/8
    - cidr: "::ffff:10.0.0.0/104"
    - {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}
    - {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}
    - {podSelector: {}, except: [11.0.0.0/16]}
    - {cidr: 10.0.0.0/8, except: []}
`, []string{
			`9:13: NetIOPolicy shop/web: spec.egress[0].to[0].cidr: |"10.0.0/8": must be an address prefix in CIDR notation`,
			`10:13: NetIOPolicy shop/web: spec.egress[0].to[1].cidr: |"10.0.0.1/8": must have no address bits set after the prefix length`,
			`11:13: NetIOPolicy shop/web: spec.egress[0].to[2].cidr: |"::ffff:10.0.0.0/104": must be an address prefix`,
			`12:26: NetIOPolicy shop/web: spec.egress[0].to[3].except: |must lie within cidr and be smaller than it`,
			`13:26: NetIOPolicy shop/web: spec.egress[0].to[4].except: |must lie within cidr and be smaller than it`,
			`14:25: NetIOPolicy shop/web: spec.egress[0].to[5].except: |needs cidr`,
			`15:34: NetIOPolicy shop/web: spec.egress[0].to[6].except: |has 0 entries: expected at least 1; to leave it out, remove the field`,
		}},
		{"peers", head + `spec:
  podSelector: {}
  ingress:
  - action: Deny
    from: [{}, {cidr: 10.0.0.0/8, entity: world}, {entity: moon}]
  - action: Deny
    from: []
`, []string{
			`8:12: NetIOPolicy shop/web: spec.ingress[0].from[0]: |must be exactly one of: pods (podSelector, namespaceSelector, serviceAccounts), nodeSelector, cidr, entity`,
			`8:16: NetIOPolicy shop/web: spec.ingress[0].from[1]: |must be exactly one of`,
			`8:60: NetIOPolicy shop/web: spec.ingress[0].from[2].entity: |is "moon": expected one of host, remote-node, cluster, kube-apiserver, world, all`,
			`10:11: NetIOPolicy shop/web: spec.ingress[1].from: |has 0 entries`,
		}},
		{"ports and icmp", head + `spec:
  podSelector: {}
  ingress:
  - action: Allow
    ports: [{endPort: 9}, {port: 9, endPort: 8}, {protocol: tcp, port: 1}, {port: "80"}]
    icmp: [{family: IPv4, code: 1}, {type: 8}, {family: IPv6, type: 256}]
`, []string{
			`8:14: NetIOPolicy shop/web: spec.ingress[0].ports[0].endPort: |needs port`,
			`8:37: NetIOPolicy shop/web: spec.ingress[0].ports[1].endPort: |must not be less than port`,
			`8:61: NetIOPolicy shop/web: spec.ingress[0].ports[2].protocol: |is "tcp": expected one of TCP, UDP, SCTP; did you mean TCP?`,
			`8:83: NetIOPolicy shop/web: spec.ingress[0].ports[3].port: |is the text "80": expected a number from 1 to 65535`,
			`9:27: NetIOPolicy shop/web: spec.ingress[0].icmp[0].code: |needs type`,
			`9:37: NetIOPolicy shop/web: spec.ingress[0].icmp[1].family: |is missing`,
			`9:69: NetIOPolicy shop/web: spec.ingress[0].icmp[2].type: |is 256: expected a number from 0 to 255`,
		}},
		{"directions", head + "spec:\n  podSelector: {}\n  policyTypes: [Egress, Egress]\n", []string{
			`6:25: NetIOPolicy shop/web: spec.policyTypes[1]: |is in the list twice`,
		}},
		{"rules without direction", head + "spec:\n  podSelector: {}\n  policyTypes: [Egress]\n  ingress: []\n", []string{
			`6:3: NetIOPolicy shop/web: spec.policyTypes: |must list Ingress, since there are ingress rules`,
		}},
		{"rule names", head + "spec:\n  podSelector: {}\n  ingress: [{name: a, action: Allow}, {name: a, action: Deny}]\n  egress: [{name: A_1, action: Allow}]\n", []string{
			`7:19: NetIOPolicy shop/web: spec.egress[0].name: |"A_1": must be lower-case letters`,
			`6:12: NetIOPolicy shop/web: spec.ingress: |must not use a rule name twice`,
		}},
		{"twice in the file", head + "spec: {podSelector: {}}\n---\n# again\n" + head + "spec: {podSelector: {}}\n", []string{
			`7: NetIOPolicy shop/web: metadata.name: |is in this file twice, here and in line 1`,
		}},
		{"third document", head + "spec: {podSelector: {}}\n---\n# nothing here\n---\n" + strings.Replace(head, "web", "api", 1) + "spec: {podSelector: {}, audit: 3}\n", []string{
			`11:32: NetIOPolicy shop/api: spec.audit: |is the number 3`,
		}},
		{"in a list", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: netio.dev/v1alpha1\n  kind: NetIOPolicy\n  metadata: {name: a}\n  spec: {}\n- {}\n- apiVersion: v1\n  kind: List\nextra: 1\n", []string{
			`7:9: NetIOPolicy default/a: items[0].spec.podSelector: |is missing`,
			`8:3: items[1].apiVersion: |is missing`,
			`8:3: items[1].kind: |is missing`,
			`10:3: items[2]: |is "List" of "v1": only NetIOPolicy or`,
			`11:1: extra: |is not a field`,
		}},
		{"items is no list", "apiVersion: v1\nkind: List\nitems:\n", []string{`3:7: items: |is nothing: expected a list of objects`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects, problems := parse("f", []byte(test.file))
			if len(objects) != 0 {
				t.Errorf("objects of a bad file: %v", objects)
			}
			var got []string
			for _, p := range problems {
				got = append(got, strings.TrimPrefix(p.Error(), "f:"))
			}
			for _, want := range test.want {
				place, message, _ := strings.Cut(want, "|")
				i := slices.IndexFunc(got, func(g string) bool { return strings.HasPrefix(g, place) && strings.Contains(g[len(place):], message) })
				if i < 0 {
					t.Errorf("missing: %s", want)
					continue
				}
				got = slices.Delete(got, i, i+1)
			}
			for _, g := range got {
				t.Errorf("more:    %s", g)
			}
		})
	}
}

func TestAliasesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "spec:\n  podSelector: {}\n  ingress:\n")
	line := "  - &r {action: Allow, from: [&p {podSelector: &s {matchExpressions: [&e {key: a, operator: In, values: [&v a" + strings.Repeat(", *v", 60) + "]}" +
		strings.Repeat(", *e", 60) + "]}}" + strings.Repeat(", *p", 60) + "]}\n"
	b.WriteString(line)
	for range 60 {
		b.WriteString("  - *r\n")
	}
	objects, problems := parse("f", []byte(b.String()))
	if len(objects) != 0 || len(problems) == 0 || len(problems) > 100 || !strings.Contains(fmt.Sprint(problems), "with its aliases followed") {
		t.Errorf("%d objects, %d problems", len(objects), len(problems))
	}
}

// TestClusterPolicy: the kind that belongs to no namespace.
func TestClusterPolicy(t *testing.T) {
	const head = "apiVersion: netio.dev/v1alpha1\nkind: NetIOClusterPolicy\n"
	objects, problems := parse("f", []byte(head+"metadata: {name: a}\nspec: {}\n---\napiVersion: netio.dev/v1alpha1\nkind: NetIOClusterPolicyList\nitems:\n"+
		"- {apiVersion: netio.dev/v1alpha1, kind: NetIOClusterPolicy, metadata: {name: b}, spec: {tier: Admin, ingress: [{action: Pass}]}}\n"+
		"---\n"+strings.Replace(head, "Cluster", "", 1)+"metadata: {name: a}\nspec: {podSelector: {}}\n"))
	if len(problems) > 0 || len(objects) != 3 {
		t.Fatalf("%d objects, problems %v", len(objects), problems)
	}
	if o := objects[0]; o.id.String() != "NetIOClusterPolicy a" || o.clusterPolicy.Spec.Tier != "Normal" || *o.clusterPolicy.Spec.Priority != 500 {
		t.Errorf("%s: %+v", o.id, o.clusterPolicy)
	}
	for text, want := range map[string]string{
		"metadata: {name: a, namespace: shop}\nspec: {}":                                "f:3:21: metadata.namespace: must be left out: a NetIOClusterPolicy belongs to no namespace",
		"metadata: {name: a}":                                                           "f:1:1: NetIOClusterPolicy a: spec: is missing: expected spec with a tier and rules",
		"metadata: {name: a}\nspec: {tier: Baseline, policyTypes: [Ingress]}":           "f:4:24: NetIOClusterPolicy a: spec.policyTypes: must be left out in the tiers Admin and Baseline",
		"metadata: {name: a}\nspec: {tier: Root}":                                       `f:4:14: NetIOClusterPolicy a: spec.tier: is "Root": expected one of Admin, Normal, Baseline`,
		"metadata: {name: a}\nspec: {ingress: [{action: Skip}]}":                        `f:4:27: NetIOClusterPolicy a: spec.ingress[0].action: is "Skip": expected one of Allow, Deny, Pass`,
		"metadata: {name: a}\nspec: {}\n---\n" + head + "metadata: {name: a}\nspec: {}": "f:6: NetIOClusterPolicy a: metadata.name: is in this file twice",
	} {
		_, problems := parse("f", []byte(head+text+"\n"))
		if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", text, problems, want)
		}
	}
	if _, problems := parse("f", []byte(strings.Replace(head, "Cluster", "", 1)+"metadata: {name: a}\nspec: {podSelector: {}, ingress: [{action: Pass}]}\n")); len(problems) != 1 ||
		!strings.Contains(problems[0].Message, "expected one of Allow, Deny") {
		t.Errorf("Pass in a NetIOPolicy: %v", problems)
	}
}

func TestGoodFile(t *testing.T) {
	file := `# A comment.
---
apiVersion: netio.dev/v1alpha1
kind: NetIOPolicy
metadata:
  name: web
  creationTimestamp: null
  labels: {team: "1"}
spec:
  podSelector: &web {matchLabels: {app: web, "on": "off"}}
  ingress:
  - action: Allow
    from: [podSelector: *web, {cidr: "2001:db8::/32"}]
    ports: [{port: 80}]
---
---
{apiVersion: v1, kind: List, metadata: {}, items: [
  {apiVersion: netio.dev/v1alpha1, kind: NetIOPolicy, metadata: {name: a, namespace: shop}, spec: {podSelector: {}, priority: 0}}]}
---
apiVersion: netio.dev/v1alpha1
kind: NetIOPolicyList
items:
- apiVersion: netio.dev/v1alpha1
  kind: NetIOPolicy
  metadata: {name: b, namespace: shop}
  spec: {podSelector: {}, policyTypes: [Egress], audit: true}
`
	file = strings.Replace(file, "[podSelector: *web, ", "[{podSelector: *web}, ", 1)
	objects, problems := parse("f", []byte(file))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	state := policy.State{Endpoints: []policy.Endpoint{{ID: "a", Namespace: "default", Labels: map[string]string{"app": "web", "on": "off"}}, {ID: "b", Namespace: "shop"}}}
	for _, o := range objects {
		got = append(got, fmt.Sprintf("%s line %d priority %d", o.id.NamespacedName, o.line, *o.policy.Spec.Priority))
		state.Policies = append(state.Policies, o.policy)
	}
	want := []string{"default/web line 3 priority 500", "shop/a line 18 priority 0", "shop/b line 23 priority 500"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if p := objects[0].policy.Spec.Ingress[0].Ports[0]; p.Protocol != "TCP" || *p.Port != 80 {
		t.Errorf("port %+v", p)
	}
	r := policy.Compile(state)
	if len(r.Problems) != 0 || len(r.Policies) != 3 {
		t.Errorf("compiled: %+v", r)
	}
}
