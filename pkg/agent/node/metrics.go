// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"

	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/metrics"
)

// serveMetrics answers Prometheus and health checks until ctx ends.
func (a *agent) serveMetrics(ctx context.Context, m *config.Metrics) {
	collector := metrics.NewCollector(metrics.Options{
		Version: a.Version, Forwarder: a.keeper.Observation(), PerPod: m.PerPod,
		Status: a.keeper.Status, Pools: a.leases.Usage, Problems: a.problems.Counts,
		Endpoints: func() int { return len(a.manager.List()) },
		Policies:  func() int { return int(a.policies.Load()) },
	})
	ready := func() error { return cmp.Or(a.ready(), a.degraded()) }
	metrics.Serve(ctx, m.Address, metrics.NewHandler(ready, collector, a.recorder), func(err error) { a.problems.Report("metrics", err) })
}
