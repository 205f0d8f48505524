// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// emitter turns the forwarder's answers into metrics.
type emitter chan<- prometheus.Metric

func (e emitter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (e emitter) counter(d *prometheus.Desc, v uint64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (e emitter) status(st *dataplanev1.StatusResponse) {
	e.gauge(forwarderInfo, 1, st.GetVersion(), st.GetDevice(), st.GetAbiVersion())
	e.gauge(startTime, time.Duration(st.GetStartedUnixNano()).Seconds())
	e.counter(restarts, uint64(st.GetRestarts()))
	e.gauge(restartGap, time.Duration(st.GetLastRestartGapNano()).Seconds())
	e.gauge(revision, float64(st.GetRevision()))
	e.gauge(connections, float64(st.GetConnections()))
	e.gauge(connectionsMax, float64(st.GetConnectionsMax()))
	e.gauge(nbufs, float64(st.GetNbufs()))
	e.gauge(nbufsFree, float64(st.GetNbufsFree()))
	for _, l := range st.GetLanes() {
		lane := strconv.FormatUint(uint64(l.GetLane()), 10)
		e.counter(packets, l.GetRxPackets(), lane, "rx")
		e.counter(packets, l.GetTxPackets(), lane, "tx")
		e.counter(bytes, l.GetRxBytes(), lane, "rx")
		e.counter(bytes, l.GetTxBytes(), lane, "tx")
		e.counter(slowPath, l.GetSlowPath(), lane)
		e.counter(vectors, l.GetVectors(), lane)
		e.counter(polls, l.GetPolls(), lane)
		e.counter(sleeps, l.GetSleeps(), lane)
		e.counter(kicks, l.GetKicks(), lane)
		e.counter(syscalls, l.GetSyscalls(), lane)
		e.counter(badEntries, l.GetBadEntries(), lane)
		e.counter(copied, l.GetPayloadCopied(), lane)
	}
}

// drops adds up over ports.
func (e emitter) drops(list []*dataplanev1.DropCount) {
	sums := map[string]uint64{}
	for _, d := range list {
		sums[d.GetReason()] += d.GetPackets()
	}
	for reason, n := range sums {
		e.counter(drops, n, reason)
	}
}

// ports adds up over the ports of a kind. Only what is now is added up: a sum of
// counters would fall when a port goes.
func (e emitter) ports(list []*dataplanev1.PortStatus) {
	type held struct{ connections, nbufs, queue, parked uint64 }
	states := map[[2]string]int{}
	sums := map[string]held{}
	for _, p := range list {
		kind := strings.ToLower(p.GetConfig().GetKind().String())
		state := "down"
		switch {
		case p.GetError() != "":
			state = "error"
		case p.GetUp():
			state = "up"
		}
		states[[2]string{kind, state}]++
		h := sums[kind]
		h.connections += uint64(p.GetConnections())
		h.nbufs += uint64(p.GetNbufs())
		h.queue += uint64(p.GetQueueBytes())
		h.parked += uint64(p.GetParkedBytes())
		sums[kind] = h
	}
	for labels, n := range states {
		e.gauge(ports, float64(n), labels[0], labels[1])
	}
	for kind, h := range sums {
		e.gauge(portConnections, float64(h.connections), kind)
		e.gauge(portNbufs, float64(h.nbufs), kind)
		e.gauge(portQueueBytes, float64(h.queue), kind)
		e.gauge(portParkedBytes, float64(h.parked), kind)
	}
}

// pods emits what each port of a pod counts.
func (e emitter) pods(list []*dataplanev1.PortStatus) {
	for _, p := range list {
		c := p.GetConfig()
		if c.GetKind() != dataplanev1.Port_POD {
			continue
		}
		name, namespace, pod := c.GetName(), c.GetTags()["namespace"], c.GetTags()["pod"]
		e.counter(podPackets, p.GetRxPackets(), name, namespace, pod, "rx")
		e.counter(podPackets, p.GetTxPackets(), name, namespace, pod, "tx")
		e.counter(podBytes, p.GetRxBytes(), name, namespace, pod, "rx")
		e.counter(podBytes, p.GetTxBytes(), name, namespace, pod, "tx")
		e.counter(podDrops, p.GetDrops(), name, namespace, pod)
		e.gauge(podConnections, float64(p.GetConnections()), name, namespace, pod)
	}
}
