// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// Recorder measures what the agent does. Its methods may be called concurrently.
type Recorder struct {
	cni    *prometheus.HistogramVec
	policy prometheus.Histogram
}

var _ prometheus.Collector = (*Recorder)(nil)

// NewRecorder makes a recorder that has seen nothing.
func NewRecorder() *Recorder {
	return &Recorder{
		// An ADD takes milliseconds; kubelet gives it minutes.
		cni: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: cniDurationName, Help: cniDurationHelp,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"operation", "result"}),
		policy: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: policyLatencyName, Help: policyLatencyHelp,
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
}

// Describe implements prometheus.Collector.
func (r *Recorder) Describe(out chan<- *prometheus.Desc) {
	r.cni.Describe(out)
	r.policy.Describe(out)
}

// Collect implements prometheus.Collector.
func (r *Recorder) Collect(out chan<- prometheus.Metric) {
	r.cni.Collect(out)
	r.policy.Collect(out)
}

// PolicyInForce records that a change came into force which took d.
func (r *Recorder) PolicyInForce(d time.Duration) { r.policy.Observe(d.Seconds()) }

// operations are the calls that are measured.
var operations = map[string]string{
	agentv1.CNI_Add_FullMethodName: "add",
	agentv1.CNI_Del_FullMethodName: "del",
}

// Interceptor measures the CNI calls of a gRPC server.
func (r *Recorder) Interceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	operation, ok := operations[info.FullMethod]
	if !ok {
		return handle(ctx, req)
	}
	begun := time.Now()
	resp, err := handle(ctx, req)
	result := "ok"
	if err != nil {
		result = "error"
	}
	r.cni.WithLabelValues(operation, result).Observe(time.Since(begun).Seconds())
	return resp, err
}
