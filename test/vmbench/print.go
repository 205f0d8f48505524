// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

func printTable(out io.Writer, kernel, boot string, r results) error {
	fmt.Fprintf(out, "Linux %s, emulated, mitigations=off %s; pod to pod\n\n", kernel, boot)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\tunit")
	for _, t := range r.chosen() {
		fmt.Fprintf(table, "\t%s", t)
	}
	fmt.Fprintln(table)
	for _, m := range metrics {
		row := m.label + "\t" + m.unit
		known := false
		for _, t := range r.chosen() {
			if v, ok := r[t][m.key]; ok {
				known = true
				row += "\t" + number(v)
				if own, ok := r[subject][m.key]; ok && t != subject && v != 0 {
					row += fmt.Sprintf(" (%.2f)", own/v)
				}
			} else {
				row += "\t-"
			}
		}
		if known {
			fmt.Fprintln(table, row)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nIn brackets: %s's ratio to it.\n\n", subject)
	for _, o := range r.judge() {
		sign, verdict := "<=", "missed"
		if o.Least {
			sign = ">="
		}
		if o.Met {
			verdict = "met"
		}
		fmt.Fprintf(table, "%s\t%s\t%s %s\t%s\n", o.Label, number(o.Value), sign, number(o.Bar), verdict)
	}
	return table.Flush()
}

// number with three digits that count, or more before the point.
func number(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// report is the JSON output.
type report struct {
	Kernel     string    `json:"kernel"`
	Boot       string    `json:"boot"` // parameters of the kernel
	Topologies results   `json:"topologies"`
	Bars       []outcome `json:"bars"`
}

func printJSON(out io.Writer, kernel, boot string, r results) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report{kernel, boot, r, r.judge()})
}
