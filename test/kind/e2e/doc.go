// SPDX-License-Identifier: Apache-2.0

// Package e2e tests NetIO as the network of a real cluster: make cluster-up, then
// make cluster-e2e. Without a cluster its tests do not run.
package e2e
