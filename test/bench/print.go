// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// quiet is how many CPUs may be busy for numbers to mean something.
const quiet = 0.1

// printTable writes medians and, with more than one round, their range, then
// the ratios.
func printTable(out io.Writer, run description, topologies []string, r *results) error {
	fmt.Fprintf(out, "%d CPUs (%s), Linux %s; %d rounds of %v, topologies in turn; median (min-max)\n\n",
		run.CPUs, run.CPU, run.Kernel, run.Rounds, run.Duration)
	if run.Busy > quiet {
		fmt.Fprintf(out, "Beware: %.1f CPUs were busy with something else before the run.\n\n", run.Busy)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\tunit")
	for _, t := range topologies {
		fmt.Fprintf(table, "\t%s", t)
	}
	fmt.Fprintln(table)
	for _, m := range metrics {
		row := fmt.Sprintf("%s\t%s", m.label, m.unit)
		known := false
		for _, t := range topologies {
			s, ok := r.get(t, m.key)
			row += "\t"
			if !ok {
				row += "-"
				continue
			}
			known = true
			row += number(s.Median)
			if len(s.Rounds) > 1 {
				row += fmt.Sprintf(" (%s-%s)", number(s.Min), number(s.Max))
			}
		}
		if known {
			fmt.Fprintln(table, row)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return printRatios(out, topologies, r)
}

func printRatios(out io.Writer, topologies []string, r *results) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\nratio of %s to", subject)
	for _, t := range topologies {
		if t != subject {
			fmt.Fprintf(table, "\t%s", t)
		}
	}
	fmt.Fprintf(table, "\tbar (to %s)\n", baseline)
	any := false
	for _, m := range metrics {
		row := m.label
		known := false
		for _, t := range topologies {
			if t == subject {
				continue
			}
			row += "\t"
			if s, ok := r.ratio(t, m.key); ok {
				known = true
				row += fmt.Sprintf("%.2f", s.Median)
			} else {
				row += "-"
			}
		}
		if s, ok := r.ratio(baseline, m.key); ok && m.bar != 0 {
			sign := "<="
			if m.atLeast {
				sign = ">="
			}
			row += fmt.Sprintf("\t%s %.2f: %s", sign, m.bar, m.verdict(s.Median))
		}
		if known {
			any = true
			fmt.Fprintln(table, row)
		}
	}
	if !any {
		return nil
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// number with three digits that count.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// report is the JSON output.
type report struct {
	description
	Metrics []metricReport `json:"metrics"`
}

type metricReport struct {
	Key    string             `json:"key"`
	Label  string             `json:"label"`
	Unit   string             `json:"unit"`
	Values map[string]summary `json:"values"` // by topology
	Ratios map[string]summary `json:"ratios"` // of NetIO to the topology
	Bar    float64            `json:"bar,omitempty"`
	// Verdict on the ratio to the routed topology: "met" or "missed".
	Verdict string `json:"verdict,omitempty"`
}

func printJSON(out io.Writer, run description, topologies []string, r *results) error {
	doc := report{description: run}
	group := ""
	for _, m := range metrics {
		label := m.label
		if label[0] == ' ' {
			label = group + "," + label[1:]
		} else {
			group = label
		}
		row := metricReport{Key: m.key, Label: label, Unit: m.unit, Bar: m.bar, Values: map[string]summary{}, Ratios: map[string]summary{}}
		for _, t := range topologies {
			if s, ok := r.get(t, m.key); ok {
				row.Values[t] = s
			}
			if s, ok := r.ratio(t, m.key); ok && t != subject {
				row.Ratios[t] = s
			}
		}
		if s, ok := row.Ratios[baseline]; ok {
			row.Verdict = m.verdict(s.Median)
		}
		if len(row.Values) > 0 {
			doc.Metrics = append(doc.Metrics, row)
		}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(doc); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
