// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"netio.dev/netio/api/v1alpha1"
)

// selector is a label selector in canonical form: requirements that must all
// hold, sorted and without duplicates. Two selectors with one text are equal.
type selector struct {
	text         string // "*" if empty
	requirements []requirement
}

// everything is the selector that asks for nothing.
var everything = selector{text: "*"}

// requirement is a condition on one label: it is there (and its value is listed,
// if there are values), or not so (absent).
type requirement struct {
	text   string
	key    string
	absent bool
	values []string // sorted; none: any value
}

func (r *requirement) matches(labels map[string]string) bool {
	value, ok := labels[r.key]
	if len(r.values) > 0 {
		ok = ok && slices.Contains(r.values, value)
	}
	return ok != r.absent
}

func (s *selector) matches(labels map[string]string) bool {
	for i := range s.requirements {
		if !s.requirements[i].matches(labels) {
			return false
		}
	}
	return true
}

// indexKey returns the requirement that an index finds the selector by: one that
// only holds for labels with one of a few values. Nil: there is none.
func (s *selector) indexKey() *requirement {
	for i := range s.requirements {
		if r := &s.requirements[i]; !r.absent && len(r.values) > 0 {
			return r
		}
	}
	return nil
}

// parseSelector brings a selector into canonical form. It refuses what could
// make two different selectors look alike, and operators that it does not know.
func parseSelector(in *v1alpha1.LabelSelector) (selector, error) {
	var out selector
	for key, value := range in.MatchLabels {
		if err := out.add(key, v1alpha1.LabelIn, value); err != nil {
			return selector{}, fmt.Errorf("matchLabels: %w", err)
		}
	}
	for i, e := range in.MatchExpressions {
		if err := out.add(e.Key, e.Operator, e.Values...); err != nil {
			return selector{}, fmt.Errorf("matchExpressions[%d]: %w", i, err)
		}
	}
	byText := func(a, b requirement) int { return strings.Compare(a.text, b.text) }
	slices.SortFunc(out.requirements, byText)
	out.requirements = slices.CompactFunc(out.requirements, func(a, b requirement) bool { return a.text == b.text })

	texts := make([]string, len(out.requirements))
	for i, r := range out.requirements {
		texts[i] = r.text
	}
	out.text = strings.Join(texts, ",")
	if out.text == "" {
		out.text = "*"
	}
	return out, nil
}

func (s *selector) add(key string, operator v1alpha1.LabelOperator, values ...v1alpha1.LabelValue) error {
	if key == "" || strings.ContainsFunc(key, func(c rune) bool { return c != '/' && !labelRune(c) }) {
		return fmt.Errorf("label key %q: expected letters, digits, '-', '_', '.' and '/'", key)
	}
	r := requirement{key: key}
	for _, v := range values {
		if strings.ContainsFunc(string(v), func(c rune) bool { return !labelRune(c) }) {
			return fmt.Errorf("label value %q: expected letters, digits, '-', '_' and '.'", v)
		}
		r.values = append(r.values, string(v))
	}
	slices.Sort(r.values)
	r.values = slices.Compact(r.values)

	switch operator {
	case v1alpha1.LabelIn, v1alpha1.LabelNotIn:
		if len(r.values) == 0 {
			return fmt.Errorf("operator %s on label %s: expected values", operator, key)
		}
	case v1alpha1.LabelExists, v1alpha1.LabelDoesNotExist:
		if len(r.values) != 0 {
			return fmt.Errorf("operator %s on label %s: expected no values", operator, key)
		}
	default:
		return fmt.Errorf("operator %q on label %s: expected In, NotIn, Exists or DoesNotExist", operator, key)
	}
	r.absent = operator == v1alpha1.LabelNotIn || operator == v1alpha1.LabelDoesNotExist

	list := strings.Join(r.values, ",")
	switch {
	case len(r.values) == 0 && r.absent:
		r.text = "!" + key
	case len(r.values) == 0:
		r.text = key
	case len(r.values) == 1 && r.absent:
		r.text = key + "!=" + list
	case len(r.values) == 1:
		r.text = key + "=" + list
	case r.absent:
		r.text = key + " notin (" + list + ")"
	default:
		r.text = key + " in (" + list + ")"
	}
	s.requirements = append(s.requirements, r)
	return nil
}

func labelRune(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// selection picks pods: of one namespace, or of those whose labels match, and
// there by their own labels.
type selection struct {
	namespace  string
	namespaces *selector // nil: the one namespace
	pods       selector
}

// inNamespace is the selection of the pods of one namespace.
func inNamespace(namespace string, pods selector) selection {
	return selection{namespace: namespace, pods: pods}
}

// inNamespaces is the selection of the pods of namespaces with the labels. A
// selector that asks for nothing but one name is the same as that namespace.
func inNamespaces(namespaces, pods selector) selection {
	if rs := namespaces.requirements; len(rs) == 1 && rs[0].key == NamespaceNameLabel && !rs[0].absent && len(rs[0].values) == 1 {
		return inNamespace(rs[0].values[0], pods)
	}
	return selection{namespaces: &namespaces, pods: pods}
}

// scope names the namespaces of the selection: shop, {env=prod}. A name that no
// namespace can have is quoted, so that it never looks like a selector.
func (s *selection) scope() string {
	switch {
	case s.namespaces != nil:
		return "{" + s.namespaces.text + "}"
	case s.namespace == "" || strings.ContainsFunc(s.namespace, func(c rune) bool { return !labelRune(c) }):
		return strconv.Quote(s.namespace)
	}
	return s.namespace
}

// name is the address set's name: pods:shop/app=web, pods:{env=prod}/*.
func (s *selection) name() string {
	return setName("pods:" + s.scope() + "/" + s.pods.text)
}
