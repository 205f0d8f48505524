// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"netio.dev/netio/pkg/agent/forwarder"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/ipam"
	"netio.dev/netio/pkg/policy"
)

// Options say where the numbers come from. All functions may be called
// concurrently.
type Options struct {
	Version string
	// Forwarder is asked for at most ForwarderTime.
	Forwarder dataplanev1.ObservationClient
	// PerPod adds time series for each pod.
	PerPod bool

	Status    func() forwarder.Status
	Pools     func() ([]ipam.PoolUsage, error)
	Endpoints func() int
	Policies  func() int
	// Problems counts what is wrong now, by the part that found it.
	Problems func() map[string]int
}

// ForwarderTime bounds how long a scrape waits for the forwarder: less than the
// 10 s that Prometheus gives a scrape.
const ForwarderTime = 3 * time.Second

// Collector is a prometheus.Collector. It may be used concurrently.
type Collector struct{ Options }

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector makes a collector of what o tells.
func NewCollector(o Options) *Collector { return &Collector{o} }

// Describe implements prometheus.Collector. It describes nothing, which tells
// Prometheus that the metrics differ from scrape to scrape.
func (*Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	c.agent(emitter(out))
	c.forwarder(emitter(out))
}

// agent emits what the agent knows itself.
func (c *Collector) agent(out emitter) {
	s := c.Status()
	out.gauge(buildInfo, 1, c.Version, runtime.Version())
	out.gauge(inForce, truth(s.InForce))
	out.gauge(endpoints, float64(c.Endpoints()))
	out.gauge(policies, float64(c.Policies()))
	invalid := 0
	for _, p := range s.Problems {
		if p.Reason != policy.NoEffect {
			invalid++
		}
	}
	out.gauge(policiesInvalid, float64(invalid))
	for part, n := range c.Problems() {
		out.gauge(problems, float64(n), part)
	}
	pools, err := c.Pools()
	if err != nil {
		out <- prometheus.NewInvalidMetric(poolSize, err)
		return
	}
	for _, p := range pools {
		name := p.Pool.String()
		out.gauge(poolSize, float64(p.Size), name)
		out.gauge(poolUsed, float64(p.Used), name)
		out.gauge(poolCooling, float64(p.Cooling), name)
	}
}

// forwarder emits what the forwarder tells, all of it or nothing: half of it would
// look as if the rest had gone.
func (c *Collector) forwarder(out emitter) {
	ctx, cancel := context.WithTimeout(context.Background(), ForwarderTime)
	defer cancel()
	st, err := c.Forwarder.Status(ctx, &dataplanev1.StatusRequest{})
	var dropped *dataplanev1.ListDropsResponse
	if err == nil {
		dropped, err = c.Forwarder.ListDrops(ctx, &dataplanev1.ListDropsRequest{})
	}
	var list *dataplanev1.ListPortsResponse
	if err == nil {
		list, err = c.Forwarder.ListPorts(ctx, &dataplanev1.ListPortsRequest{})
	}
	out.gauge(up, truth(err == nil))
	if err != nil {
		return
	}
	out.status(st)
	out.drops(dropped.GetDrops())
	out.ports(list.GetPorts())
	if c.PerPod {
		out.pods(list.GetPorts())
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
