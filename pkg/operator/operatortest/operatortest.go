// SPDX-License-Identifier: Apache-2.0

// Package operatortest runs an operator in tests of its controllers.
package operatortest

import (
	"context"
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/pkg/operator"
)

// Namespace is the operator's in tests: one that every cluster has.
const Namespace = "kube-system"

// Start runs an operator with one controller until stop, which waits for its end and
// reports its error. watched is as in operator.Options.
func Start(t testing.TB, config *rest.Config, c operator.Controller, watched map[client.Object]cache.ByObject) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- operator.Run(ctx, operator.Options{Config: config, Namespace: Namespace, Controllers: []operator.Controller{c}, Watched: watched})
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
