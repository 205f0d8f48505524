// SPDX-License-Identifier: Apache-2.0

// Package metrics serves what the agent and its forwarder count, for Prometheus,
// and whether the node is healthy.
//
//	                      ┌── forwarder: Status, ListDrops, ListPorts
//	GET /metrics ── Collector ── agent: pools, pods, policies, problems
//	                      └── Recorder: durations, as they happen
//	GET /healthz, /readyz
//
// What can be asked for is asked for when it is scraped, and kept nowhere. A
// forwarder that is away, or too slow, costs its own metrics only.
//
// Names and units go by the conventions of Prometheus
// (https://prometheus.io/docs/practices/naming/); docs/metrics.md lists them. How many
// time series there are does not depend on the number of pods, unless
// Options.PerPod asks for that.
package metrics
