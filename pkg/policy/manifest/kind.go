// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/types"
	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/config/crd"
)

// kind is a kind of objects that is read.
type kind struct {
	name       string
	namespaced bool
	spec       string // what is expected of it where there is none
	schema     func() *schema
	// decode makes an object of its JSON.
	decode func(o *object, data []byte) error
}

var kinds = []kind{
	{
		name: "NetIOPolicy", namespaced: true, spec: "spec with a podSelector",
		schema: schemaOf(crd.NetIOPolicy),
		decode: func(o *object, data []byte) error {
			o.policy = &v1alpha1.NetIOPolicy{}
			return json.Unmarshal(data, o.policy)
		},
	},
	{
		name: "NetIOClusterPolicy", spec: "spec with a tier and rules",
		schema: schemaOf(crd.NetIOClusterPolicy),
		decode: func(o *object, data []byte) error {
			o.clusterPolicy = &v1alpha1.NetIOClusterPolicy{}
			return json.Unmarshal(data, o.clusterPolicy)
		},
	},
}

// kindNames are the kinds, for people.
const kindNames = "NetIOPolicy or NetIOClusterPolicy"

// kindList is a list of objects of any kind, of version v1.
const kindList = "List"

// kindNamed is nil where there is none.
func kindNamed(name string) *kind {
	for i := range kinds {
		if kinds[i].name == name {
			return &kinds[i]
		}
	}
	return nil
}

// ID is what objects differ in.
type ID struct {
	Kind string
	types.NamespacedName
}

// String names the object as problems do: NetIOPolicy shop/web.
func (id ID) String() string {
	if id.Namespace == "" {
		return id.Kind + " " + id.Name
	}
	return id.Kind + " " + id.NamespacedName.String()
}
