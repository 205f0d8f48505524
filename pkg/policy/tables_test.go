// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/policy"
)

// names returns the names of the address sets.
func names(r policy.Result) []string {
	var out []string
	for _, s := range r.AddressSets {
		out = append(out, s.Name)
	}
	return out
}

func TestEqualPeersShareASet(t *testing.T) {
	for _, test := range []struct {
		name  string
		peers []string // of one rule each
		want  []string
	}{
		{"labels in any order, written in either way",
			[]string{
				"podSelector: {matchLabels: {app: web, tier: front}}",
				"podSelector: {matchLabels: {tier: front}, matchExpressions: [{key: app, operator: In, values: [web]}]}",
				"podSelector: {matchExpressions: [{key: tier, operator: In, values: [front, front]}, {key: app, operator: In, values: [web]}]}",
			},
			[]string{"pods:shop/app=web,tier=front"}},
		{"values in any order",
			[]string{
				"podSelector: {matchExpressions: [{key: app, operator: In, values: [b, a]}, {key: app, operator: NotIn, values: [d, c]}]}",
				"podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [c, d, c]}, {key: app, operator: In, values: [a, b]}]}",
			},
			[]string{"pods:shop/app in (a,b),app notin (c,d)"}},
		{"one namespace by its name or as the policy's own",
			[]string{
				"podSelector: {}",
				"namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}",
				"{podSelector: {}, namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [shop]}]}}",
			},
			[]string{"pods:shop/*"}},
		{"what differs does not",
			[]string{
				"podSelector: {matchExpressions: [{key: app, operator: Exists}]}",
				"podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}",
				"podSelector: {matchLabels: {app: ''}}",
				"podSelector: {matchExpressions: [{key: app, operator: NotIn, values: ['']}]}",
				"namespaceSelector: {matchExpressions: [{key: app, operator: Exists}]}",
				"namespaceSelector: {}",
				"namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}",
			},
			[]string{
				"pods:bank/*", "pods:shop/!app", "pods:shop/app", "pods:shop/app!=", "pods:shop/app=",
				"pods:{*}/*", "pods:{app}/*",
			}},
		{"prefixes and entities",
			[]string{
				"cidr: 10.0.0.0/8", "{cidr: 10.0.0.0/8, except: [10.2.0.0/16, 10.1.0.0/16]}",
				"{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}",
				"cidr: 2001:DB8:0:0::/64", "cidr: 2001:db8::/64", "entity: host", "entity: world", "entity: all",
				"entity: cluster", "entity: remote-node", "entity: kube-apiserver",
				"nodeSelector: {}", "nodeSelector: {matchLabels: {disk: ssd}}", "nodeSelector: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}",
			},
			[]string{
				"cidr:10.0.0.0/8", "cidr:10.0.0.0/8 except 10.1.0.0/16,10.2.0.0/16", "cidr:2001:db8::/64",
				"entity:cluster", "entity:host", "entity:kube-apiserver", "entity:remote-node", "entity:world", "nodes:*", "nodes:disk=ssd",
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := "podSelector: {}\ningress:\n"
			for _, p := range test.peers {
				if !strings.HasPrefix(p, "{") {
					p = "{" + p + "}"
				}
				spec += "- {action: Allow, from: [" + p + "]}\n"
			}
			if got := names(policy.Compile(scenarioState(t, spec))); !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestLongSelectorsHaveShortDistinctNames(t *testing.T) {
	var rules []v1alpha1.IngressRule
	for i := range 2 {
		e := v1alpha1.LabelExpression{Key: "app", Operator: v1alpha1.LabelIn}
		for j := range 60 {
			e.Values = append(e.Values, v1alpha1.LabelValue(fmt.Sprintf("value-%03d", j)))
		}
		e.Values[59] = v1alpha1.LabelValue(fmt.Sprintf("last-%d", i))
		rules = append(rules, v1alpha1.IngressRule{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{
			{PodSelector: &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelExpression{e}}},
		}})
	}
	s := scenarioState(t, "podSelector: {}")
	s.Policies[0].Spec.Ingress = rules
	got := names(policy.Compile(s))
	if len(got) != 2 || got[0] == got[1] || len(got[0]) > 200 || !strings.HasPrefix(got[0], "pods:shop/app in (") {
		t.Errorf("names %q", got)
	}
}

// TestPodsComeAndGo: pods change address sets and their own policies, not rules.
func TestPodsComeAndGo(t *testing.T) {
	s := scenarioState(t, `
podSelector: {matchLabels: {app: db}}
ingress: [{action: Allow, from: [{podSelector: {matchLabels: {app: web}}}]}]
`)
	c := policy.NewCompiler()
	setAll(c, s)
	old := c.Result()

	web2 := policy.Endpoint{ID: "web2", Namespace: "shop", Labels: map[string]string{"app": "web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}}
	c.SetEndpoint(web2)
	added := c.Result()
	d := policy.Diff(old, added)
	if len(d.Policies)+len(d.DeletePolicies)+len(d.DeleteAddressSets)+len(d.DeleteEndpoints) != 0 || len(d.AddressSets) != 1 || len(d.Endpoints) != 1 {
		t.Fatalf("a pod came: %+v", d)
	}
	if got := d.AddressSets[0]; got.Name != "pods:shop/app=web" || !slices.Equal(got.Prefixes, []string{"10.0.0.1/32", "10.0.0.5/32", "fd00::1/128"}) {
		t.Errorf("address set %v", got)
	}

	web2.Remote = true
	c.SetEndpoint(web2)
	if d := policy.Diff(added, c.Result()); !slices.Equal(d.DeleteEndpoints, []string{"web2"}) || len(d.AddressSets) != 0 {
		t.Errorf("a pod became remote: %+v", d)
	}
	c.DeleteEndpoint("web2")
	back := c.Result()
	if d := policy.Diff(old, back); !d.Empty() {
		t.Errorf("a pod came and went: %+v", d)
	}
	for i := range old.Policies {
		if old.Policies[i] != back.Policies[i] {
			t.Errorf("policy %s was made anew", old.Policies[i].Name)
		}
	}
}

// TestAddressWithTwoOwners: the next owner of an address may come before the
// last one is gone.
func TestAddressWithTwoOwners(t *testing.T) {
	s := scenarioState(t, "{podSelector: {}, ingress: [{action: Allow, from: [{podSelector: {matchLabels: {app: web}}}]}]}")
	c := policy.NewCompiler()
	setAll(c, s)
	before := c.Result()
	c.SetEndpoint(policy.Endpoint{ID: "next", Namespace: "shop", Remote: true, Labels: map[string]string{"app": "web"}, Addresses: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}})
	if d := policy.Diff(before, c.Result()); !d.Empty() {
		t.Errorf("second owner: %+v", d)
	}
	c.DeleteEndpoint("web")
	i := slices.IndexFunc(c.Result().AddressSets, func(s *dataplanev1.AddressSet) bool { return s.Name == "pods:shop/app=web" })
	if got := c.Result().AddressSets[i].Prefixes; !slices.Equal(got, []string{"10.0.0.1/32"}) {
		t.Errorf("after the first owner left: %q", got)
	}
}

// TestOnlyWhatIsNeeded: policies that select no local endpoint, and their sets,
// are not in the tables.
func TestOnlyWhatIsNeeded(t *testing.T) {
	s := scenarioState(t, `
podSelector: {matchLabels: {app: ghost}}
ingress: [{action: Allow, from: [{cidr: 10.0.0.0/8}]}]
`)
	r := policy.Compile(s)
	if len(r.Policies)+len(r.AddressSets) != 0 || len(r.Endpoints) != 4 {
		t.Fatalf("nobody has the policy: %+v", r)
	}
	s.Endpoints[2].Labels = map[string]string{"app": "ghost"}
	r = policy.Compile(s)
	if len(r.Policies) != 1 || r.Policies[0].Name != "shop/p0" || len(r.AddressSets) != 1 {
		t.Fatalf("one has the policy: %+v", r)
	}
	if got, ok := r.PoliciesOf("bare"); !ok || !slices.Equal(got, []string{"shop/p0"}) {
		t.Errorf("policies of the endpoint: %q, %v", got, ok)
	}
	if got, ok := r.PoliciesOf("bank-db"); ok {
		t.Errorf("remote endpoint is in the tables: %q", got)
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	for seed := range uint64(200) {
		s := random(seed).state()
		want := policy.Compile(s)
		r := rand.New(rand.NewPCG(seed, 2))
		r.Shuffle(len(s.Endpoints), func(i, j int) { s.Endpoints[i], s.Endpoints[j] = s.Endpoints[j], s.Endpoints[i] })
		r.Shuffle(len(s.Policies), func(i, j int) { s.Policies[i], s.Policies[j] = s.Policies[j], s.Policies[i] })
		equal(t, "shuffled", want, policy.Compile(s))
	}
}

// TestNotUnderstood: what the schema would refuse fails closed.
func TestNotUnderstood(t *testing.T) {
	for _, test := range []struct {
		name  string
		spec  string
		field string // that the problem names
		who   string // endpoint that must be closed
	}{
		{"operator", "podSelector: {matchExpressions: [{key: app, operator: Like, values: [web]}]}", "spec.podSelector", "bare"},
		{"label key", "podSelector: {matchLabels: {'a,b': web}}", "spec.podSelector", "bare"},
		{"label value", "podSelector: {matchLabels: {app: 'a)'}}", "spec.podSelector", "bare"},
		{"In without values", "podSelector: {matchExpressions: [{key: app, operator: In}]}", "spec.podSelector", "bare"},
		{"Exists with values", "podSelector: {matchExpressions: [{key: app, operator: Exists, values: [a]}]}", "spec.podSelector", "bare"},
		{"direction", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Sideways]}", "spec.policyTypes[0]", "web"},
		{"rules without direction", "{podSelector: {}, policyTypes: [Egress], ingress: [{action: Allow}]}", "spec.policyTypes", "web"},
		{"priority", "{podSelector: {}, priority: 1001}", "spec.priority", "web"},
		{"negative priority", "{podSelector: {}, priority: -1}", "spec.priority", "web"},
		{"action", "{podSelector: {}, ingress: [{action: Pass}]}", "spec.ingress[0].action", "web"},
		{"no action", "{podSelector: {}, ingress: [{}]}", "spec.ingress[0].action", "web"},
		{"rule names", "{podSelector: {}, ingress: [{name: a, action: Allow}, {name: a, action: Allow}]}", "rule name", "web"},
		{"empty peer", "{podSelector: {}, ingress: [{action: Allow, from: [{}]}]}", "spec.ingress[0].from[0]", "web"},
		{"two peers in one", "{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.0/8, entity: host}]}]}", "spec.ingress[0].from[0]", "web"},
		{"cidr", "{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0/8}]}]}", "spec.ingress[0].from[0]", "web"},
		{"bits after the prefix", "{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.1/8}]}]}", "spec.ingress[0].from[0]", "web"},
		{"except", "{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.0/8, except: [x]}]}]}", "spec.ingress[0].from[0]", "web"},
		{"except alone", "{podSelector: {}, ingress: [{action: Allow, from: [{podSelector: {}, except: [10.0.0.0/8]}]}]}", "spec.ingress[0].from[0]", "web"},
		{"entity", "{podSelector: {}, ingress: [{action: Allow, from: [{entity: moon}]}]}", "spec.ingress[0].from[0]", "web"},
		{"pod selector of a peer", "{podSelector: {}, egress: [{action: Allow, to: [{podSelector: {matchLabels: {'': a}}}]}]}", "spec.egress[0].to[0]", "web"},
		{"namespace selector", "{podSelector: {}, ingress: [{action: Allow, from: [{namespaceSelector: {matchLabels: {'': a}}}]}]}", "spec.ingress[0].from[0]", "web"},
		{"protocol", "{podSelector: {}, ingress: [{action: Allow, ports: [{protocol: DCCP}]}]}", "spec.ingress[0]", "web"},
		{"port", "{podSelector: {}, ingress: [{action: Allow, ports: [{port: 65536}]}]}", "spec.ingress[0]", "web"},
		{"endPort alone", "{podSelector: {}, ingress: [{action: Allow, ports: [{endPort: 9}]}]}", "spec.ingress[0]", "web"},
		{"range", "{podSelector: {}, ingress: [{action: Allow, ports: [{port: 9, endPort: 8}]}]}", "spec.ingress[0]", "web"},
		{"family", "{podSelector: {}, ingress: [{action: Allow, icmp: [{family: IPv5}]}]}", "spec.ingress[0]", "web"},
		{"code without type", "{podSelector: {}, ingress: [{action: Allow, icmp: [{family: IPv4, code: 1}]}]}", "spec.ingress[0]", "web"},
		{"icmp type", "{podSelector: {}, ingress: [{action: Allow, icmp: [{family: IPv4, type: 256}]}]}", "spec.ingress[0]", "web"},
	} {
		t.Run(test.name, func(t *testing.T) {
			allowAll := "\n---\n{podSelector: {}, ingress: [{action: Allow}], egress: [{action: Allow}]}"
			s := scenarioState(t, test.spec+allowAll)
			r := policy.Compile(s)
			if len(r.Problems) != 1 || r.Problems[0].Policy != "shop/p0" || !strings.Contains(r.Problems[0].Err.Error(), test.field) {
				t.Fatalf("problems %v, want one that names %s", r.Problems, test.field)
			}
			p := parsePacket(t, "world > db tcp/1")
			if v := evaluate(t, r, test.who, true, p); v.Allowed {
				t.Errorf("open: %+v", v)
			}
			if v := evaluate(t, r, "bank-web", true, p); !v.Allowed {
				t.Errorf("another namespace is closed: %+v", v)
			}

			s.Policies[0].Spec.Audit = true
			if v := evaluate(t, policy.Compile(s), test.who, true, p); !v.Allowed || !v.Audited {
				t.Errorf("in audit mode: %+v", v)
			}

			// Mended, nothing of it is left.
			c := policy.NewCompiler()
			setAll(c, s)
			mended := s.Policies[0].DeepCopy()
			mended.Spec = v1alpha1.NetIOPolicySpec{PodSelector: v1alpha1.LabelSelector{}, Ingress: []v1alpha1.IngressRule{{Action: v1alpha1.ActionAllow}}}
			c.SetPolicy(mended)
			if r := c.Result(); len(r.Problems) != 0 || !evaluate(t, r, test.who, true, p).Allowed {
				t.Errorf("after mending: %v", r.Problems)
			}
		})
	}
}
