// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// format is how output is written; a pflag.Value.
type format int

const (
	formatTable format = iota
	formatJSON
	formatYAML
)

var formats = [...]string{formatTable: "table", formatJSON: "json", formatYAML: "yaml"}

func (f *format) String() string { return formats[*f] }
func (f *format) Type() string   { return "format" }

func (f *format) Set(s string) error {
	i := slices.Index(formats[:], s)
	if i < 0 {
		return fmt.Errorf("expected %s", strings.Join(formats[:], ", "))
	}
	*f = format(i)
	return nil
}

// marshal gives a message's JSON in the canonical mapping of protocol buffers,
// with the fields that hold their default. protojson varies its white space on
// purpose, so it is taken out.
func marshal(m proto.Message) (json.RawMessage, error) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return out.Bytes(), nil
}

// print writes a message as the output format says; table is called for tables.
func (a *app) print(m proto.Message, table func(io.Writer) error) error {
	if a.format == formatTable {
		return table(a.out)
	}
	b, err := marshal(m)
	if err != nil {
		return err
	}
	return a.printJSON(b)
}

// printJSON writes one document, as indented JSON or as YAML.
func (a *app) printJSON(doc json.RawMessage) error {
	if a.format == formatYAML {
		b, err := yaml.JSONToYAML(doc)
		if err != nil {
			return fmt.Errorf("encode answer as YAML: %w", err)
		}
		_, err = a.out.Write(b)
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, doc, "", "  "); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(a.out)
	return err
}

// printOne writes one message of an endless stream: a line of JSON, or a YAML
// document.
func (a *app) printOne(m proto.Message) error {
	b, err := marshal(m)
	if err != nil {
		return err
	}
	if a.format == formatYAML {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("encode answer as YAML: %w", err)
		}
		b = append([]byte("---\n"), b...)
	} else {
		b = append(b, '\n')
	}
	_, err = a.out.Write(b)
	return err
}
