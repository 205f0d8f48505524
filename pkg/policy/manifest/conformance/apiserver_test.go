// SPDX-License-Identifier: Apache-2.0

// Package conformance holds package manifest against an API server's own code. It
// stands apart because that code is large: the fuzzer would instrument it.
package conformance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/config/crd"
	"netio.dev/netio/pkg/policy/manifest"
	"sigs.k8s.io/yaml"
)

// apiServer does with an object what an API server does that has the CRD and
// gets it with strict field validation, by that server's own code.
type apiServer struct {
	kind      string
	schema    *structural.Structural
	validator validation.SchemaValidator
	rules     *cel.Validator
}

func newAPIServer(t testing.TB, crd []byte) *apiServer {
	t.Helper()
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(crd, &definition); err != nil {
		t.Fatal(err)
	}
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(definition.Spec.Versions[0].Schema.OpenAPIV3Schema, &internal, nil); err != nil {
		t.Fatal(err)
	}
	s := &apiServer{kind: definition.Spec.Names.Kind}
	var err error
	if s.schema, err = structural.NewStructural(&internal); err != nil {
		t.Fatal(err)
	}
	if s.validator, _, err = validation.NewSchemaValidator(&internal); err != nil {
		t.Fatal(err)
	}
	s.rules = cel.NewValidator(s.schema, true, celconfig.PerCallLimit)
	return s
}

// admit returns what is wrong with the object's form, and if nothing is, which
// rules it breaks, as "path: message". The object gets its defaults.
func (s *apiServer) admit(t testing.TB, object map[string]any) (form, rules []string) {
	t.Helper()
	for _, path := range pruning.PruneWithOptions(object, s.schema, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		form = append(form, "unknown field "+path)
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.schema)
	defaulting.Default(object, s.schema)
	for _, err := range validation.ValidateCustomResource(nil, object, s.validator) {
		form = append(form, err.Error())
	}
	for _, err := range listtype.ValidateListSetsAndMaps(nil, s.schema, object) {
		form = append(form, err.Error())
	}
	if len(form) > 0 {
		return form, nil
	}
	errs, left := s.rules.Validate(t.Context(), nil, s.schema, object, nil, celconfig.RuntimeCELCostBudget)
	if left < 0 {
		t.Fatal("rules cost more than the API server pays")
	}
	for _, err := range errs {
		rules = append(rules, err.Field+": "+err.Detail)
	}
	return nil, rules
}

// mistaken makes specs with mistakes in every field: at a rate, or a single one.
type mistaken struct {
	*rand.Rand
	cluster bool    // of a NetIOClusterPolicy
	grown   *bool   // a list is too long already; lists in it would be without end
	rate    float64 // of mistakes, for each choice; 0: a single one
	choice  *int    // counted down: the single mistake is made at 0
}

func (m mistaken) wrong() bool {
	if m.rate == 0 {
		*m.choice--
		return *m.choice == 0
	}
	return m.Float64() < m.rate
}

func choose[T any](m mistaken, right []T, wrong ...any) any {
	if m.wrong() && len(wrong) > 0 {
		return wrong[m.IntN(len(wrong))]
	}
	return right[m.IntN(len(right))]
}

// fill sets fields, some of them left out, and now and then one that is unknown.
func (m mistaken) fill(fields map[string]func() any, required ...string) map[string]any {
	out := map[string]any{}
	for _, name := range slices.Sorted(keysOf(fields)) {
		if keep := slices.Contains(required, name) != m.wrong() || m.IntN(3) == 0; keep {
			out[name] = fields[name]()
		}
	}
	if m.wrong() && m.IntN(4) == 0 {
		out["unknown"] = "x"
	}
	return out
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (m mistaken) list(atLeast, atMost int, element func() any) any {
	n := atLeast + m.IntN(atMost-atLeast+1)
	if m.wrong() {
		switch m.IntN(4) {
		case 0:
			n = 0
		case 1:
			return "a"
		case 2:
			return map[string]any{}
		}
	}
	out := []any{}
	for range n {
		out = append(out, element())
	}
	if m.wrong() && n > 0 && !*m.grown {
		*m.grown = true
		for len(out) < 70 {
			out = append(out, out[m.IntN(n)])
		}
	}
	return out
}

var long = strings.Repeat("a", 400)

func (m mistaken) labelValue() any {
	return choose(m, []string{"web", "db", "", "a.b_c-D", "1"}, "a b", "-a", "a-", long, long[:63], long[:64], int64(1), true, "ä", "a\n", []any{})
}

func (m mistaken) labelKey() string {
	return fmt.Sprint(choose(m, []string{"app", "example.com/role", "kubernetes.io/metadata.name", "A_b.c"},
		"", "a b", "/a", "a/", "a/b/c", "Example.com/a", "-a", "a/-b", long[:63], long[:64], "x/"+long[:63], "x/"+long[:64],
		long[:253]+"/a", long[:317], long[:315]+"/a", long[:316]+"/a", "a\n", "ä", "a..b/c"))
}

func (m mistaken) selector() any {
	if m.wrong() {
		return []any{}
	}
	return m.fill(map[string]func() any{
		"matchLabels": func() any {
			out := map[string]any{}
			for range m.IntN(3) {
				out[m.labelKey()] = m.labelValue()
			}
			if m.wrong() {
				for i := range 33 {
					out[fmt.Sprint("k", i)] = "v"
				}
			}
			return out
		},
		"matchExpressions": func() any {
			return m.list(0, 2, func() any {
				operator := choose(m, []string{"In", "NotIn", "Exists", "DoesNotExist"}, "in", "", int64(3))
				required := []string{"key", "operator"}
				if operator == "In" || operator == "NotIn" {
					required = append(required, "values")
				}
				e := m.fill(map[string]func() any{
					"key":      func() any { return m.labelKey() },
					"operator": func() any { return operator },
					"values":   func() any { return m.list(1, 3, m.labelValue) },
				}, required...)
				if len(required) == 2 && !m.wrong() {
					delete(e, "values")
				}
				return e
			})
		},
	})
}

func (m mistaken) serviceAccounts() any {
	return m.list(1, 2, func() any {
		return choose(m, []string{"web", "a.b-c", "1"}, "", "A", "a_b", "-a", "a.", "a..b", long, long[:253], long[:254], int64(1), "a\n", true)
	})
}

func (m mistaken) prefix() any {
	return choose(m, []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "2001:db8::/32", "2001:DB8:1::/48", "::/0"},
		"", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "010.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:0:0/96", "fe80::1%eth0/64", "2001:db8::1/32",
		"10.0.0.0/08", "10.0.0.0/-1", "a/b", int64(7), strings.Repeat("0", 44), " 10.0.0.0/8", "::10.0.0.0/104", "10.0.0.0/8\n")
}

func (m mistaken) peer() any {
	all := map[string]func() any{
		"podSelector": m.selector, "namespaceSelector": m.selector, "serviceAccounts": m.serviceAccounts, "nodeSelector": m.selector, "cidr": m.prefix,
		"except": func() any { return m.list(1, 2, m.prefix) },
		"entity": func() any {
			return choose(m, []string{"host", "world", "all", "cluster", "remote-node", "kube-apiserver"}, "", "Host", "moon", true)
		},
	}
	fields := map[string]func() any{}
	kind := [][]string{{"podSelector"}, {"namespaceSelector"}, {"podSelector", "namespaceSelector"}, {"serviceAccounts"}, {"podSelector", "serviceAccounts"}, {"nodeSelector"}, {"cidr"}, {"cidr", "except"}, {"entity"}}
	for _, name := range kind[m.IntN(len(kind))] {
		fields[name] = all[name]
	}
	if m.wrong() {
		return m.fill(all)
	}
	return m.fill(fields, slices.Collect(keysOf(fields))...)
}

func (m mistaken) rule(peers string) any {
	return m.fill(map[string]func() any{
		"name": func() any {
			return choose(m, []string{"a", "b", "a-1"}, "", "A", "-a", "a-", "a_b", long[:63], long[:64], "a\n", int64(1))
		},
		"action": func() any {
			if m.cluster {
				return choose(m, []string{"Allow", "Deny", "Pass"}, "pass", "Accept", "", int64(1))
			}
			return choose(m, []string{"Allow", "Deny"}, "allow", "Pass", "", int64(1))
		},
		"log": func() any { return choose(m, []bool{true, false}, "true", int64(1)) },
		peers: func() any { return m.list(1, 2, m.peer) },
		"ports": func() any {
			return m.list(1, 2, func() any {
				number := func() any {
					return choose(m, []int64{1, 80, 443, 65535}, int64(0), int64(-1), int64(65536), int64(math.MaxInt64), "80", true)
				}
				port := m.fill(map[string]func() any{
					"protocol": func() any { return choose(m, []string{"TCP", "UDP", "SCTP"}, "tcp", "", "ICMP") },
					"port":     number, "endPort": number,
				})
				if !m.wrong() && port["port"] == nil {
					delete(port, "endPort")
				}
				return port
			})
		},
		"icmp": func() any {
			return m.list(1, 2, func() any {
				number := func() any { return choose(m, []int64{0, 8, 255}, int64(-1), int64(256), "8") }
				return m.fill(map[string]func() any{
					"family": func() any { return choose(m, []string{"IPv4", "IPv6"}, "ipv4", "") },
					"type":   number, "code": number,
				}, "family")
			})
		},
	}, "action")
}

func (m mistaken) spec() any {
	fields := map[string]func() any{
		"priority": func() any {
			return choose(m, []int64{0, 500, 1000}, int64(-1), int64(1001), "1", true, int64(math.MinInt64))
		},
		"podSelector":     m.selector,
		"serviceAccounts": m.serviceAccounts,
		"policyTypes": func() any {
			return m.list(1, 2, func() any { return choose(m, []string{"Ingress", "Egress"}, "ingress", "", int64(1)) })
		},
		"audit":   func() any { return choose(m, []bool{true, false}, "false", int64(0)) },
		"ingress": func() any { return m.list(0, 2, func() any { return m.rule("from") }) },
		"egress":  func() any { return m.list(0, 2, func() any { return m.rule("to") }) },
	}
	if !m.cluster {
		return m.fill(fields, "podSelector")
	}
	fields["namespaceSelector"] = m.selector
	fields["tier"] = func() any { return choose(m, []string{"Admin", "Normal", "Baseline"}, "admin", "", int64(1)) }
	return m.fill(fields)
}

// refusal is why an object was refused: its form, or the rules that it breaks.
type refusal struct {
	form, rules []string
}

// compare gives an object to both. It expects the same answer, and where rules
// are broken, the same ones at the same places in the same words.
func (s *apiServer) compare(t *testing.T, object map[string]any) refusal {
	t.Helper()
	data, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	set, problems := manifest.Parse("f", data)
	var r refusal
	switch r.form, r.rules = s.admit(t, object); {
	case len(r.form) > 0:
		if len(problems) == 0 {
			t.Fatalf("the API server refuses, we do not:\n%s\n%s", strings.Join(r.form, "\n"), data)
		}
	case len(r.rules) > 0:
		var got []string
		for _, p := range problems {
			message := p.Message
			// CEL's errors show the value apart from the message.
			if i := strings.LastIndex(message, "\": must "); strings.HasPrefix(message, `"`) && i > 0 {
				message = message[i+len("\": "):]
			}
			got = append(got, p.Field+": "+message)
		}
		slices.Sort(got)
		slices.Sort(r.rules)
		if !slices.Equal(got, r.rules) {
			t.Fatalf("broken rules:\nwe say\n%s\nthe API server says\n%s\n%s", strings.Join(got, "\n"), strings.Join(r.rules, "\n"), data)
		}
	default:
		if len(problems) > 0 {
			t.Fatalf("the API server accepts, we do not:\n%v\n%s", problems, data)
		}
		// And with the same defaults.
		spec, err := yaml.Marshal(object["spec"])
		if err != nil {
			t.Fatal(err)
		}
		want, got := any(&v1alpha1.NetIOClusterPolicySpec{}), any(nil)
		if s.kind == "NetIOPolicy" {
			want, got = &v1alpha1.NetIOPolicySpec{}, &set.Policies[0].Spec
		} else {
			got = &set.ClusterPolicies[0].Spec
		}
		if err := yaml.Unmarshal(spec, want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s\n%s", diff, data)
		}
	}
	return r
}

func (s *apiServer) object(spec any) map[string]any {
	return map[string]any{
		"apiVersion": "netio.dev/v1alpha1", "kind": s.kind, "metadata": map[string]any{"name": "a"}, "spec": spec,
	}
}

// TestRandomObjects refuses and accepts what the API server does.
func TestRandomObjects(t *testing.T) {
	servers := []*apiServer{newAPIServer(t, crd.NetIOPolicy), newAPIServer(t, crd.NetIOClusterPolicy)}
	accepted, form, rules := 0, 0, 0
	for seed := range uint64(1000) {
		random := rand.New(rand.NewPCG(seed, 3))
		m := mistaken{random, seed%8 >= 4, new(false), []float64{0, 0, 0.03, 0.15}[seed%4], new(random.IntN(150))}
		server := servers[seed%8/4]
		switch r := server.compare(t, server.object(m.spec())); {
		case len(r.form) > 0:
			form++
		case len(r.rules) > 0:
			rules++
		default:
			accepted++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d accepted, %d refused by form, %d by rules", accepted, form, rules)
	if min(accepted, form, rules) < 30 {
		t.Errorf("the cases are not varied enough: %d accepted, %d refused by form, %d by rules", accepted, form, rules)
	}
}

// TestEveryRule breaks each rule of the schema at least once.
func TestEveryRule(t *testing.T) {
	for kind, crd := range map[string][]byte{"NetIOPolicy": crd.NetIOPolicy, "NetIOClusterPolicy": crd.NetIOClusterPolicy} {
		t.Run(kind, func(t *testing.T) { breakEveryRule(t, newAPIServer(t, crd)) })
	}
}

func breakEveryRule(t *testing.T, server *apiServer) {
	broken := map[string]bool{}
	specs := []string{
		"{podSelector: {}, policyTypes: [Egress], ingress: [{action: Allow}]}",
		"{podSelector: {}, policyTypes: [Ingress], egress: []}",
		"{podSelector: {}, ingress: [{name: a, action: Allow}, {name: a, action: Deny}]}",
		"{podSelector: {}, egress: [{name: a, action: Allow}, {action: Deny}, {name: a, action: Deny}]}",
		"{podSelector: {}, egress: [{name: -a, action: Allow}]}",
		"{podSelector: {}, ingress: [{action: Allow, from: [{}, {cidr: 10.0.0.0/8, entity: all}]}]}",
		"{podSelector: {}, ingress: [{action: Allow, from: [{entity: host, except: [10.0.0.0/8]}]}]}",
		"{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8, 10.0.0.0/9]}]}]}",
		"{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.0/8, except: ['::/16']}]}]}",
		"{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.0/16, except: [10.0.0.0/8]}]}]}",
		"{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.0}, {cidr: 10.0.0.1/8}, {cidr: '::ffff:10.0.0.0/104'}]}]}",
		"{podSelector: {}, ingress: [{action: Allow, from: [{cidr: 10.0.0.0/8, except: [10.0.0, 10.1.1.1/16]}]}]}",
		"{podSelector: {}, ingress: [{action: Allow, ports: [{endPort: 1}, {port: 2, endPort: 1}, {port: 1, endPort: 1}]}]}",
		"{podSelector: {}, ingress: [{action: Allow, icmp: [{family: IPv4, code: 1}]}]}",
		"{podSelector: {matchLabels: {-a: b}}}",
		"{podSelector: {matchExpressions: [{key: a, operator: In}, {key: a, operator: NotIn, values: []}, {key: a, operator: Exists, values: [b]}]}}",
		"{podSelector: {matchExpressions: [{key: a, operator: DoesNotExist, values: ['']}, {key: a, operator: Exists, values: []}]}}",
	}
	if server.kind == "NetIOClusterPolicy" {
		specs = append(specs, "{tier: Baseline, policyTypes: [Ingress]}", "{tier: Admin, policyTypes: [Ingress], ingress: [{action: Pass}]}")
	}
	for _, spec := range specs {
		var v any
		if err := yaml.Unmarshal([]byte(spec), &v); err != nil {
			t.Fatal(err)
		}
		// As the API server decodes numbers.
		r := server.compare(t, runtime.DeepCopyJSON(integers(server.object(v)).(map[string]any)))
		if len(r.rules) == 0 {
			t.Errorf("breaks no rule: %s: %v", spec, r.form)
		}
		for _, rule := range r.rules {
			_, message, _ := strings.Cut(rule, ": ")
			broken[message] = true
		}
	}
	messages := map[string]bool{}
	collect(server.schema, messages)
	for message := range messages {
		if !broken[message] {
			t.Errorf("no case for the rule: %s", message)
		}
	}
}

// integers turns the numbers of a value into int64.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	}
	return v
}

// collect finds the messages of all rules of a schema.
func collect(s *structural.Structural, messages map[string]bool) {
	for _, r := range s.XValidations {
		messages[r.Message] = true
	}
	if s.Items != nil {
		collect(s.Items, messages)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		collect(s.AdditionalProperties.Structural, messages)
	}
	for _, p := range s.Properties {
		collect(&p, messages)
	}
}
