// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// schema is the part of a CRD's schema that our definitions make use of; see
// newSchema for what that is.
type schema struct {
	kind        string // object, array, string, integer, boolean
	description string // its first sentence
	properties  map[string]*schema
	required    []string
	values      *schema // of a map
	items       *schema
	set         bool // a list without duplicates
	enum        []string
	pattern     *regexp.Regexp
	minimum     *int64
	maximum     *int64
	minLength   *int64 // of a string, a list, a map
	maxLength   *int64
	fallback    any // default
	rules       []rule
}

// rule is a CEL rule and its twin in Go.
type rule struct {
	field   string // that it is about, below the value: "except"; "": the value
	message string
	holds   func(value any) bool
}

// schemaOf gives the schema of a definition, made when it is first needed. It is
// built from what is generated at build time, and a test builds it too.
func schemaOf(crd []byte) func() *schema {
	return sync.OnceValue(func() *schema {
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(crd, &definition); err != nil {
			panic(fmt.Sprintf("manifest: definition: %v", err))
		}
		object := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
		delete(object.Properties, "status") // a cluster's: nobody writes that of a file
		s, err := newSchema(object)
		if err != nil {
			panic(fmt.Sprintf("manifest: schema of %s: %v", definition.Spec.Names.Kind, err))
		}
		return s
	})
}

// newSchema translates a schema. It refuses what it does not know: a bound that
// is not enforced here would let files in that an API server refuses.
func newSchema(in *apiextensionsv1.JSONSchemaProps) (*schema, error) {
	s := &schema{
		kind: in.Type, description: firstSentence(in.Description), required: in.Required,
	}
	rest := in.DeepCopy()
	rest.Type, rest.Description, rest.Required = "", "", nil

	var err error
	for name, property := range in.Properties {
		if s.properties == nil {
			s.properties = make(map[string]*schema)
		}
		if s.properties[name], err = newSchema(&property); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if in.AdditionalProperties != nil && in.AdditionalProperties.Schema != nil {
		if s.values, err = newSchema(in.AdditionalProperties.Schema); err != nil {
			return nil, fmt.Errorf("values: %w", err)
		}
	}
	if in.Items != nil && in.Items.Schema != nil {
		if s.items, err = newSchema(in.Items.Schema); err != nil {
			return nil, fmt.Errorf("items: %w", err)
		}
	}
	rest.Properties, rest.AdditionalProperties, rest.Items = nil, nil, nil

	if s.pattern, err = regexp.Compile(in.Pattern); err != nil {
		return nil, err
	}
	if in.Pattern == "" {
		s.pattern = nil
	}
	for _, value := range in.Enum {
		var text string
		if err := json.Unmarshal(value.Raw, &text); err != nil {
			return nil, fmt.Errorf("enum: %w", err)
		}
		s.enum = append(s.enum, text)
	}
	if in.Default != nil {
		if err := json.Unmarshal(in.Default.Raw, &s.fallback); err != nil {
			return nil, fmt.Errorf("default: %w", err)
		}
		if number, ok := s.fallback.(float64); ok {
			s.fallback = int64(number)
		}
	}
	rest.Pattern, rest.Enum, rest.Default = "", nil, nil

	switch {
	case in.Type == "integer" && (in.Format == "int32" || in.Format == ""):
		s.minimum, s.maximum = integer(in.Minimum), integer(in.Maximum)
		if s.minimum == nil || s.maximum == nil {
			return nil, fmt.Errorf("an integer without minimum and maximum is not supported")
		}
		rest.Format, rest.Minimum, rest.Maximum = "", nil, nil
	case in.Type == "string":
		s.minLength, s.maxLength = in.MinLength, in.MaxLength
		rest.MinLength, rest.MaxLength = nil, nil
	case in.Type == "array":
		s.minLength, s.maxLength = in.MinItems, in.MaxItems
		rest.MinItems, rest.MaxItems = nil, nil
		s.set = in.XListType != nil && *in.XListType == "set"
		if s.set || in.XListType != nil && *in.XListType == "atomic" {
			rest.XListType = nil
		}
	case in.Type == "object":
		s.minLength, s.maxLength = in.MinProperties, in.MaxProperties
		rest.MinProperties, rest.MaxProperties = nil, nil
		rest.XMapType = nil // how changes are merged; says nothing about values
	}

	for _, r := range in.XValidations {
		holds, ok := twins[r.Rule]
		if !ok {
			return nil, fmt.Errorf("rule %q has no twin in Go", r.Rule)
		}
		s.rules = append(s.rules, rule{strings.TrimPrefix(r.FieldPath, "."), r.Message, holds})
		if r.MessageExpression != "" {
			return nil, fmt.Errorf("rule %q has a message expression, which is not supported", r.Rule)
		}
	}
	rest.XValidations = nil

	if left, _ := json.Marshal(rest); string(left) != "{}" {
		return nil, fmt.Errorf("type %q: not supported: %s", in.Type, left)
	}
	if !slices.Contains([]string{"object", "array", "string", "integer", "boolean"}, in.Type) {
		return nil, fmt.Errorf("type %q is not supported", in.Type)
	}
	return s, nil
}

func integer(f *float64) *int64 {
	if f == nil {
		return nil
	}
	return new(int64(*f))
}

// firstSentence returns the first sentence of a description, in one line.
func firstSentence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	sentence, _, _ := strings.Cut(text, ". ")
	return strings.TrimSuffix(sentence, ".")
}
