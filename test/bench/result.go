// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// baseline is the topology that bars are relative to, and subject is whose
// ratios are told.
const (
	baseline = "routed"
	subject  = "netio"
)

// results hold every value: by topology, metric and round.
type results struct {
	rounds int
	of     map[string]map[string][]float64
}

func newResults() *results { return &results{of: map[string]map[string][]float64{}} }

// add notes what a phase of the round (from 0) measured of a topology.
func (r *results) add(round int, topology string, v values) {
	r.rounds = max(r.rounds, round+1)
	if r.of[topology] == nil {
		r.of[topology] = map[string][]float64{}
	}
	for key, value := range v {
		list := r.of[topology][key]
		for len(list) < round {
			list = append(list, math.NaN())
		}
		r.of[topology][key] = append(list, value)
	}
}

// summary of the rounds of one value.
type summary struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

// summarize is false without any value.
func summarize(list []float64) (summary, bool) {
	known := slices.DeleteFunc(slices.Clone(list), math.IsNaN)
	if len(known) == 0 {
		return summary{}, false
	}
	sorted := slices.Sorted(slices.Values(known))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return summary{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1], Rounds: known}, true
}

// get summarizes a metric of a topology.
func (r *results) get(topology, key string) (summary, bool) { return summarize(r.of[topology][key]) }

// ratio summarizes the rounds' ratios of the subject to another topology. What
// disturbs a machine for a while disturbs both of a round.
func (r *results) ratio(to, key string) (summary, bool) {
	a, b := r.of[subject][key], r.of[to][key]
	var list []float64
	for i := range min(len(a), len(b)) {
		if ratio := a[i] / b[i]; !math.IsNaN(ratio) && !math.IsInf(ratio, 0) {
			list = append(list, ratio)
		}
	}
	return summarize(list)
}

// verdict tells whether a ratio meets the metric's bar; "" without one.
func (m metric) verdict(ratio float64) string {
	switch {
	case m.bar == 0:
		return ""
	case m.atLeast && ratio >= m.bar, !m.atLeast && ratio <= m.bar:
		return "met"
	default:
		return "missed"
	}
}
