// SPDX-License-Identifier: Apache-2.0

// Command chart writes the schema of the chart's values: that of schema.yaml, with the
// spec of a NetIOCluster from its CRD, so that helm refuses what the API server would.
package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// The CRD that is read and the file that is written, from the top of the tree.
const (
	crdFile    = "config/crd/netio.dev_netioclusters.yaml"
	schemaFile = "charts/netio/values.schema.json"
)

//go:embed schema.yaml
var base []byte

// elsewhere are fields of the spec that are values of their own.
var elsewhere = []string{"image", "apiServer"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run() error {
	crd, err := os.ReadFile(crdFile)
	if err != nil {
		return fmt.Errorf("read the CRD: %w", err)
	}
	text, err := schema(crd)
	if err != nil {
		return err
	}
	if err := os.WriteFile(schemaFile, text, 0o644); err != nil {
		return fmt.Errorf("write the schema: %w", err)
	}
	return nil
}

// schema is that of the values.
func schema(crd []byte) ([]byte, error) {
	var values map[string]any
	if err := yaml.Unmarshal(base, &values); err != nil {
		return nil, fmt.Errorf("read schema.yaml: %w", err)
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema struct {
						Properties struct {
							Spec map[string]any `json:"spec"`
						} `json:"properties"`
					} `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(crd, &definition); err != nil {
		return nil, fmt.Errorf("read the CRD: %w", err)
	}
	if n := len(definition.Spec.Versions); n != 1 {
		return nil, fmt.Errorf("the CRD has %d versions, and the chart is of one", n)
	}
	network := definition.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties.Spec
	fields := network["properties"].(map[string]any)
	for _, name := range elsewhere {
		delete(fields, name)
	}
	delete(network, "required")
	plain(network)
	values["properties"].(map[string]any)["network"] = network
	text, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// plain makes JSON Schema of what Kubernetes has: no extensions, and objects have no
// other fields than those that are named.
func plain(schema map[string]any) {
	for key := range schema {
		if strings.HasPrefix(key, "x-kubernetes-") {
			delete(schema, key)
		}
	}
	if fields, ok := schema["properties"].(map[string]any); ok {
		schema["additionalProperties"] = false
		for _, f := range fields {
			plain(f.(map[string]any))
		}
	} else if values, ok := schema["additionalProperties"].(map[string]any); ok {
		plain(values)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		plain(items)
	}
}
