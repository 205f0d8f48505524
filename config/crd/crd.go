// SPDX-License-Identifier: Apache-2.0

// Package crd holds the custom resource definitions that are generated from
// api/ (make generate). They are the one definition of what a valid object is:
// the API server reads them, and so does package manifest.
package crd

import _ "embed"

// NetIOPolicy is the definition of NetIOPolicy, in YAML.
//
//go:embed netio.dev_netiopolicies.yaml
var NetIOPolicy []byte

// NetIOClusterPolicy is the definition of NetIOClusterPolicy, in YAML.
//
//go:embed netio.dev_netioclusterpolicies.yaml
var NetIOClusterPolicy []byte
