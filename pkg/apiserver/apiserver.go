// SPDX-License-Identifier: Apache-2.0

// Package apiserver finds the API server of a cluster.
package apiserver

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNoCluster: nothing says which cluster is meant.
var ErrNoCluster = errors.New("not in a pod of a cluster: say --kubeconfig FILE")

// Flags say which cluster.
type Flags struct{ kubeconfig string }

// Add declares the flags.
func (k *Flags) Add(f *pflag.FlagSet) {
	f.StringVar(&k.kubeconfig, "kubeconfig", "", "`FILE` that tells how to reach the API server; without it, as a pod does by its service account")
}

// Config tells how to reach the API server. Error: ErrNoCluster.
func (k *Flags) Config() (*rest.Config, error) {
	if k.kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", k.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w", err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, ErrNoCluster
	}
	if err != nil {
		return nil, fmt.Errorf("reach the API server as a pod: %w", err)
	}
	return config, nil
}
