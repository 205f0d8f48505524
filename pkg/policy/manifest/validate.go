// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxNodes bounds the values of a file, with aliases followed. An alias repeats a
// part of the file, and may do so within what is repeated: a short file can stand
// for more than memory holds. (Depth is bounded by the schema.)
const maxNodes = 200_000

// reader turns the nodes of a file into values and holds them against a schema.
type reader struct {
	file     string
	object   string // that is being read
	nodes    int
	problems []Problem
	// unsound counts the problems that leave a value without the right type or
	// bounds: rules must not see such a value.
	unsound int
}

func (r *reader) problem(at *yaml.Node, path *field.Path, format string, args ...any) {
	p := Problem{File: r.file, Object: r.object, Message: fmt.Sprintf(format, args...)}
	if at != nil {
		p.Line, p.Column = at.Line, at.Column
	}
	if path != nil {
		p.Field = path.String()
	}
	r.problems = append(r.problems, p)
}

// value returns what a node says, by the schema: a map[string]any, []any,
// string, int64 or bool; nil if it says something else, which is a problem then.
func (r *reader) value(n *yaml.Node, s *schema, path *field.Path) any {
	n = r.follow(n, path)
	if n == nil {
		r.unsound++
		return nil
	}
	before := r.unsound
	var v any
	switch s.kind {
	case "object":
		v = r.mapping(n, s, path)
	case "array":
		v = r.sequence(n, s, path)
	case "string":
		v = r.text(n, s, path)
	case "integer":
		v = r.number(n, s, path)
	case "boolean":
		v = r.boolean(n, s, path)
	}
	if r.unsound > before {
		return v
	}
	for _, rule := range s.rules {
		if !rule.holds(v) {
			at, where := n, path
			if rule.field != "" {
				where = path.Child(rule.field)
				if given := child(n, rule.field); given != nil {
					at = given
				}
			}
			shown := ""
			if text, ok := v.(string); ok {
				shown = quote(text) + ": "
			}
			r.problem(at, where, "%s%s", shown, rule.message)
		}
	}
	return v
}

// follow returns the node that an alias stands for, nil if that goes too far.
func (r *reader) follow(n *yaml.Node, path *field.Path) *yaml.Node {
	r.nodes++
	switch {
	case r.nodes == maxNodes+1:
		r.problem(n, path, "the file has more than %d values with its aliases followed: split it", maxNodes)
		return nil
	case r.nodes > maxNodes:
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// unfit reports a node that is not what the schema asks for.
func (r *reader) unfit(n *yaml.Node, s *schema, path *field.Path, expected string) {
	r.unsound++
	if n.ShortTag() == "!!null" && n.Kind == yaml.ScalarNode {
		r.problem(n, path, "has no value: expected %s%s; give it one, or remove the line", expected, meaning(s))
		return
	}
	r.problem(n, path, "is %s: expected %s%s", describe(n), expected, meaning(s))
}

func meaning(s *schema) string {
	if s.description == "" {
		return ""
	}
	return " (" + s.description + ")"
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return "the text " + quote(n.Value)
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the truth value " + n.Value
	case "!!null":
		return "nothing"
	}
	return quote(n.Value) + " of type " + n.ShortTag()
}

// quote quotes text for a message, the beginning of it if it is long.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		end := most
		for !utf8.RuneStart(text[end]) {
			end--
		}
		return strconv.Quote(text[:end]) + "..."
	}
	return strconv.Quote(text)
}

// entries returns the keys and values of a map; what is wrong with the keys is
// reported.
func (r *reader) entries(n *yaml.Node, path *field.Path) (keys, values []*yaml.Node) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.ShortTag() == "!!merge":
			r.unsound++
			r.problem(key, path, "merge keys (<<) are not supported: write the fields out, or use an alias for a whole value")
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			r.unsound++
			r.problem(key, path, "a key must be text: put quotes around %s", describe(key))
		case first[key.Value] > 0:
			r.unsound++
			r.problem(key, path.Child(key.Value), "is given twice, here and in line %d: remove one", first[key.Value])
		default:
			first[key.Value] = key.Line
			keys, values = append(keys, key), append(values, n.Content[i+1])
		}
	}
	return keys, values
}

// child returns the key of a field of a map, nil if it has none.
func child(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i]
			}
		}
	}
	return nil
}

func (r *reader) mapping(n *yaml.Node, s *schema, path *field.Path) any {
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		r.unfit(n, s, path, "a map")
		return nil
	}
	out := map[string]any{}
	keys, values := r.entries(n, path)
	for i, key := range keys {
		name := key.Value
		switch property := s.properties[name]; {
		case s.values != nil:
			out[name] = r.value(values[i], s.values, path.Key(name))
		case property != nil:
			out[name] = r.value(values[i], property, path.Child(name))
		default:
			r.unsound++
			r.problem(key, path.Child(name), "is not a field%s", suggest(name, slices.Collect(maps.Keys(s.properties))))
		}
	}
	for _, name := range s.required {
		if child(n, name) == nil {
			r.unsound++
			r.problem(n, path.Child(name), "is missing%s", meaning(s.properties[name]))
		}
	}
	for name, property := range s.properties {
		if _, given := out[name]; !given && property.fallback != nil && child(n, name) == nil {
			out[name] = property.fallback
		}
	}
	r.length(n, s, path, len(out), "entries")
	return out
}

func (r *reader) sequence(n *yaml.Node, s *schema, path *field.Path) any {
	if n.Kind != yaml.SequenceNode || n.ShortTag() != "!!seq" {
		r.unfit(n, s, path, "a list")
		return nil
	}
	out := []any{}
	for i, element := range n.Content {
		v := r.value(element, s.items, path.Index(i))
		if s.set && v != nil && slices.Contains(out, v) {
			r.unsound++
			r.problem(element, path.Index(i), "is in the list twice: remove one")
		}
		out = append(out, v)
	}
	r.length(n, s, path, len(out), "entries")
	return out
}

func (r *reader) length(n *yaml.Node, s *schema, path *field.Path, length int, of string) {
	switch {
	case s.minLength != nil && int64(length) < *s.minLength:
		r.unsound++
		r.problem(n, path, "has %d %s: expected at least %d; to leave it out, remove the field", length, of, *s.minLength)
	case s.maxLength != nil && int64(length) > *s.maxLength:
		r.unsound++
		r.problem(n, path, "has %d %s: expected at most %d", length, of, *s.maxLength)
	}
}

// ambiguous is plain text that YAML 1.1, which Kubernetes' tools read, takes for a
// truth value.
var ambiguous = regexp.MustCompile(`^(yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$`)

func (r *reader) text(n *yaml.Node, s *schema, path *field.Path) any {
	tag := n.ShortTag()
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch {
	case n.Kind == yaml.ScalarNode && (tag == "!!int" || tag == "!!float" || tag == "!!bool") ||
		tag == "!!str" && plain && ambiguous.MatchString(n.Value):
		r.unsound++
		r.problem(n, path, "is %s to YAML: expected text%s; put it in quotes: %s", strings.Replace(describe(n), "the text", "a truth value", 1), meaning(s), strconv.Quote(n.Value))
		return nil
	case n.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!timestamp":
		r.unfit(n, s, path, "text")
		return nil
	}
	v := n.Value
	before := r.unsound
	r.length(n, s, path, utf8.RuneCountInString(v), "characters")
	if len(s.enum) > 0 && !slices.Contains(s.enum, v) {
		r.unsound++
		r.problem(n, path, "is %s: expected one of %s%s", quote(v), strings.Join(s.enum, ", "), suggestion(v, s.enum))
	}
	if r.unsound == before && s.pattern != nil && !s.pattern.MatchString(v) {
		r.unsound++
		r.problem(n, path, "%s does not match %s%s", quote(v), s.pattern, meaning(s))
	}
	return v
}

// decimal is how the numbers of a manifest are written. YAML has other ways, and
// its versions do not agree on them.
var decimal = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

func (r *reader) number(n *yaml.Node, s *schema, path *field.Path) any {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		r.unfit(n, s, path, fmt.Sprintf("a number from %d to %d", *s.minimum, *s.maximum))
		return nil
	}
	if !decimal.MatchString(n.Value) {
		r.unsound++
		r.problem(n, path, "is %s: expected a plain decimal number, without leading zeros or other signs", n.Value)
		return nil
	}
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil || v < *s.minimum || v > *s.maximum {
		r.unsound++
		r.problem(n, path, "is %s: expected a number from %d to %d", n.Value, *s.minimum, *s.maximum)
		return nil
	}
	return v
}

func (r *reader) boolean(n *yaml.Node, s *schema, path *field.Path) any {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Value != "true" && n.Value != "false" {
		r.unfit(n, s, path, "true or false")
		return nil
	}
	return n.Value == "true"
}

// suggest names the field that was probably meant, or all that there are.
func suggest(name string, known []string) string {
	if s := suggestion(name, known); s != "" {
		return s
	}
	slices.Sort(known)
	return ": expected one of " + strings.Join(known, ", ")
}

func suggestion(name string, known []string) string {
	best, distance := "", 3
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// editDistance is Levenshtein's: how many letters to change, add or remove.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
