// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// manifest reads the objects of a manifest, of whatever kinds.
func manifest(text []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		o := &unstructured.Unstructured{}
		err := d.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(o.Object) > 0 { // a document may be comments alone
			objects = append(objects, o)
		}
	}
}

// create makes the objects of a manifest; name is its own, for errors.
func (u *up) create(ctx context.Context, name string, text []byte) error {
	objects, err := manifest(text)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	c, err := client.New(u.config, client.Options{})
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	for _, o := range objects {
		if err := c.Create(ctx, o); err != nil {
			return fmt.Errorf("create %s %s of %s: %w", o.GetKind(), o.GetName(), name, err)
		}
	}
	return nil
}
