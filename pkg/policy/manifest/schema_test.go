// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"netio.dev/netio/config/crd"
	"sigs.k8s.io/yaml"
)

// TestEveryTwinIsUsed: a rule that left the schema must take its twin along. (A
// rule without a twin keeps the schema from being built.)
func TestEveryTwinIsUsed(t *testing.T) {
	used := map[string]bool{}
	var visit func(s *apiextensionsv1.JSONSchemaProps)
	visit = func(s *apiextensionsv1.JSONSchemaProps) {
		for _, r := range s.XValidations {
			used[r.Rule] = true
		}
		for _, p := range s.Properties {
			visit(&p)
		}
		if s.Items != nil {
			visit(s.Items.Schema)
		}
		if s.AdditionalProperties != nil {
			visit(s.AdditionalProperties.Schema)
		}
	}
	for _, k := range kinds {
		k.schema()
	}
	for _, data := range [][]byte{crd.NetIOPolicy, crd.NetIOClusterPolicy} {
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(data, &definition); err != nil {
			t.Fatal(err)
		}
		visit(definition.Spec.Versions[0].Schema.OpenAPIV3Schema)
	}
	for rule := range twins {
		if !used[rule] {
			t.Errorf("the schema has no rule %q", rule)
		}
	}
}

// TestUnsupportedSchema: what is not enforced here must not go unnoticed.
func TestUnsupportedSchema(t *testing.T) {
	for schema, want := range map[string]string{
		`{type: string, format: date}`:                                                              "format",
		`{type: string, x-kubernetes-validations: [{rule: 'self != ""'}]}`:                          "has no twin in Go",
		`{type: string, x-kubernetes-validations: [{rule: isCIDR(self), messageExpression: self}]}`: "message expression",
		`{type: string, nullable: true}`:                                                            "nullable",
		`{type: string, pattern: '('}`:                                                              "missing closing )",
		`{type: integer, minimum: 1}`:                                                               "without minimum and maximum",
		`{type: integer, format: int64, minimum: 1, maximum: 2}`:                                    "int64",
		`{type: integer, minimum: 1, maximum: 2, exclusiveMaximum: true}`:                           "exclusiveMaximum",
		`{type: number}`:            `type "number" is not supported`,
		`{anyOf: [{type: string}]}`: "anyOf",
		`{type: array, items: {type: array, uniqueItems: true}}`:   "items: type \"array\": not supported",
		`{type: array, x-kubernetes-list-type: map}`:               "x-kubernetes-list-type",
		`{type: object, properties: {a: {type: string, not: {}}}}`: "a: type \"string\": not supported",
		`{type: object, additionalProperties: {type: number}}`:     "values: type",
		`{type: string, enum: [1]}`:                                "enum",
	} {
		var in apiextensionsv1.JSONSchemaProps
		if err := yaml.UnmarshalStrict([]byte(schema), &in); err != nil {
			t.Fatalf("%s: %v", schema, err)
		}
		if _, err := newSchema(&in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %q", schema, err, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ingres", "ingress", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 2}} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("%q to %q: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
