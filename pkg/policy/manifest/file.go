// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"netio.dev/netio/api/v1alpha1"
)

// maxFileSize is how large a file may be, in bytes.
const maxFileSize = 4 << 20

// object is a policy and where it is.
type object struct {
	id   ID
	file string // path
	line int
	// The one of its kind.
	policy        *v1alpha1.NetIOPolicy
	clusterPolicy *v1alpha1.NetIOClusterPolicy
}

// parse reads the objects of a file. They count only if there are no problems.
func parse(file string, data []byte) ([]object, []Problem) {
	r := &reader{file: file}
	if !utf8.Valid(data) {
		r.problem(&yaml.Node{Line: invalidLine(data)}, nil, "is not text in UTF-8: save the file in that encoding")
		return nil, r.problems
	}
	var objects []object
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, message := syntaxError(err)
			r.problem(&yaml.Node{Line: line}, nil, "%s: not YAML; look for wrong indentation, a missing quote or bracket in this line or the one after it", message)
			break
		}
		if len(document.Content) == 0 {
			continue
		}
		root := document.Content[0]
		if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
			continue // nothing, or comments
		}
		objects = append(objects, r.document(root, nil)...)
	}
	first := map[ID]int{}
	for _, o := range objects {
		if line, twice := first[o.id]; twice {
			r.object = o.id.String()
			r.problem(&yaml.Node{Line: o.line}, field.NewPath("metadata", "name"),
				"is in this file twice, here and in line %d: rename or remove one", line)
			continue
		}
		first[o.id] = o.line
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return objects, nil
}

func invalidLine(data []byte) int {
	line := 1
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		if c == utf8.RuneError && size == 1 {
			break
		}
		if c == '\n' {
			line++
		}
		data = data[size:]
	}
	return line
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxError splits an error of the YAML parser, which gives no line for the
// first one.
func syntaxError(err error) (line int, message string) {
	m := yamlError.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	if m == nil {
		return 0, err.Error()
	}
	line = 1
	if n, err := strconv.Atoi(m[1]); err == nil {
		line = n
	}
	return line, m[2]
}

// document reads an object or a list of them. The path is where it stands in a
// list.
func (r *reader) document(n *yaml.Node, path *field.Path) []object {
	r.object = ""
	if n = r.follow(n, path); n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.problem(n, path, "is %s: expected an object, with apiVersion, kind, metadata and spec", describe(n))
		return nil
	}
	version, versionOK := r.header(n, path, "apiVersion")
	name, nameOK := r.header(n, path, "kind")
	if !versionOK || !nameOK {
		return nil
	}
	group := v1alpha1.GroupVersion.String()
	element, isList := strings.CutSuffix(name, kindList)
	switch {
	case version == group && kindNamed(name) != nil:
		return r.policy(n, kindNamed(name), path)
	case path == nil && isList && (version == group && kindNamed(element) != nil || version == "v1" && element == ""):
		return r.list(n)
	default:
		r.problem(child(n, "kind"), path, "is %s of %s: only %s of %s is read here (also in a List); move other objects to another directory",
			quote(name), quote(version), kindNames, group)
		return nil
	}
}

// header reads apiVersion or kind.
func (r *reader) header(n *yaml.Node, path *field.Path, name string) (string, bool) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key, value := n.Content[i], n.Content[i+1]; key.Value == name {
			if value.Kind == yaml.ScalarNode && value.ShortTag() == "!!str" {
				return value.Value, true
			}
			r.problem(value, path.Child(name), "is %s: expected text, as in apiVersion: %s, kind: %s", describe(value), v1alpha1.GroupVersion, kinds[0].name)
			return "", false
		}
	}
	r.problem(n, path.Child(name), "is missing: expected apiVersion: %s and kind: %s", v1alpha1.GroupVersion, kindNames)
	return "", false
}

func (r *reader) list(n *yaml.Node) []object {
	var objects []object
	keys, values := r.entries(n, nil)
	for i, key := range keys {
		switch path := field.NewPath(key.Value); key.Value {
		case "apiVersion", "kind", "metadata":
		case "items":
			items := r.follow(values[i], path)
			if items == nil || items.Kind != yaml.SequenceNode {
				r.problem(values[i], path, "is %s: expected a list of objects", describe(values[i]))
				continue
			}
			for j, item := range items.Content {
				objects = append(objects, r.document(item, path.Index(j))...)
				r.object = ""
			}
		default:
			r.problem(key, path, "is not a field%s", suggest(key.Value, []string{"apiVersion", "kind", "metadata", "items"}))
		}
	}
	return objects
}

func (r *reader) policy(n *yaml.Node, k *kind, path *field.Path) []object {
	before := len(r.problems)
	keys, values := r.entries(n, path)
	fields := map[string]*yaml.Node{}
	for i, key := range keys {
		fields[key.Value] = values[i]
	}
	o := object{file: r.file, line: n.Line}
	whole := map[string]any{"apiVersion": v1alpha1.GroupVersion.String(), "kind": k.name}
	if metadata := fields["metadata"]; metadata == nil {
		r.problem(n, path.Child("metadata"), "is missing: expected metadata with a name")
	} else {
		whole["metadata"], o.id = r.metadata(metadata, k, path.Child("metadata"))
	}
	if o.id.Name != "" {
		r.object = o.id.String()
	}
	for _, key := range keys {
		if known := []string{"apiVersion", "kind", "metadata", "spec"}; !slices.Contains(known, key.Value) {
			r.problem(key, path.Child(key.Value), "is not a field%s", suggest(key.Value, known))
		}
	}
	if spec := fields["spec"]; spec == nil {
		r.problem(n, path.Child("spec"), "is missing: expected %s", k.spec)
	} else {
		whole["spec"] = r.value(spec, k.schema().properties["spec"], path.Child("spec"))
	}
	if len(r.problems) > before {
		return nil
	}
	data, err := json.Marshal(whole)
	if err == nil {
		err = k.decode(&o, data)
	}
	if err != nil {
		// The schema has let everything through that this could stumble on.
		r.problem(n, path, "cannot be decoded: %v", err)
		return nil
	}
	return []object{o}
}

// metadataSchema is what people write in metadata.
var metadataSchema = &schema{kind: "object", properties: map[string]*schema{
	"name":        {kind: "string"},
	"namespace":   {kind: "string"},
	"labels":      {kind: "object", values: &schema{kind: "string"}},
	"annotations": {kind: "object", values: &schema{kind: "string"}},
}}

// fromServer are the fields that an API server adds: files that were exported
// from one have them. They mean nothing here.
var fromServer = map[string]bool{
	"creationTimestamp": true, "deletionGracePeriodSeconds": true, "deletionTimestamp": true, "finalizers": true,
	"generation": true, "managedFields": true, "ownerReferences": true, "resourceVersion": true, "selfLink": true, "uid": true,
}

func (r *reader) metadata(n *yaml.Node, k *kind, path *field.Path) (map[string]any, ID) {
	if n = r.follow(n, path); n == nil {
		return nil, ID{}
	}
	known := *n
	if n.Kind == yaml.MappingNode {
		known.Content = nil
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !fromServer[n.Content[i].Value] {
				known.Content = append(known.Content, n.Content[i], n.Content[i+1])
			}
		}
	}
	before := len(r.problems)
	out, _ := r.value(&known, metadataSchema, path).(map[string]any)
	name, _ := out["name"].(string)
	namespace, given := out["namespace"].(string)
	if len(r.problems) > before {
		return nil, ID{}
	}
	if !given && k.namespaced {
		namespace = "default"
		out["namespace"] = namespace
	}
	at := func(field string) *yaml.Node {
		if c := child(n, field); c != nil {
			return c
		}
		return n
	}
	if name == "" {
		r.problem(at("name"), path.Child("name"), "is missing: expected a name of its own for each %s%s", k.name, map[bool]string{true: " of the namespace"}[k.namespaced])
	} else if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		r.problem(at("name"), path.Child("name"), "is %s: expected lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253", quote(name))
	}
	if !k.namespaced {
		if given {
			r.problem(at("namespace"), path.Child("namespace"), "must be left out: a %s belongs to no namespace; to select pods of some use spec.namespaceSelector", k.name)
		}
	} else if errs := validation.IsDNS1123Label(namespace); len(errs) > 0 {
		r.problem(at("namespace"), path.Child("namespace"), "is %s: expected lower-case letters, digits and '-', beginning and ending with a letter or digit, at most 63", quote(namespace))
	}
	if len(r.problems) > before {
		return nil, ID{}
	}
	return out, ID{k.name, types.NamespacedName{Namespace: namespace, Name: name}}
}
