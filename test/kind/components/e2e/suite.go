// SPDX-License-Identifier: Apache-2.0

// Package e2e is what the Kubernetes end-to-end suite is built of: its specs,
// which this file requires, and the programs that go.mod lists as tools: the
// runner, and what runs in the suite's pods.
//
// It is a module of its own, as test/kind/components/kube is, and another one
// than that: only who asks for the suite builds it.
package e2e

import _ "k8s.io/kubernetes/test/e2e"
