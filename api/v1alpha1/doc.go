// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the Kubernetes objects of NetIO, group netio.dev.
//
// The same objects serve a cluster, where the API server validates them by the
// schema that is generated from this package (config/crd), and a host without
// Kubernetes, where package manifest reads them from files and holds them
// against the same schema.
//
// +kubebuilder:object:generate=true
// +groupName=netio.dev
package v1alpha1
