// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"fmt"
	"slices"
	"strings"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// Report is what a test has found.
type Report struct {
	Namespace string   `json:"namespace"`
	Nodes     []string `json:"nodes"`
	OK        int      `json:"ok"`
	Failed    int      `json:"failed"`
	Skipped   int      `json:"skipped"`
	// Ended is why the test ended before it was done.
	Ended string `json:"ended,omitempty"`
	// Conclusions are where it is broken, as far as the links together tell.
	Conclusions []string `json:"conclusions"`
	// Notes are what was not tested at all, and why.
	Notes []string `json:"notes"`
	Links []Result `json:"links"`
}

func (t *test) report() *Report {
	r := &Report{Namespace: t.namespace, Nodes: []string{}, Conclusions: append([]string{}, conclude(t.results)...), Notes: append([]string{}, t.notes...), Links: t.results}
	for i := range t.layout.members {
		r.Nodes = append(r.Nodes, t.layout.members[i].name)
	}
	for i := range t.results {
		switch t.results[i].State {
		case OK:
			r.OK++
		case Failed:
			r.Failed++
		case Skipped:
			r.Skipped++
		}
	}
	return r
}

// Row is the links of one kind.
type Row struct {
	Kind                Kind
	By                  string // in words
	OK, Failed, Skipped int
}

// Rows has one for each kind of which there are links.
func (r *Report) Rows() []Row {
	var rows []Row
	for _, kind := range kinds {
		row := Row{Kind: kind}
		var by, families []string
		add := func(list *[]string, s string) {
			if !slices.Contains(*list, s) {
				*list = append(*list, s)
			}
		}
		for i := range r.Links {
			l := &r.Links[i]
			if l.Kind != kind {
				continue
			}
			switch l.State {
			case OK:
				row.OK++
			case Failed:
				row.Failed++
			case Skipped:
				row.Skipped++
			}
			if l.By != "" {
				add(&by, words(l.By))
			}
			if l.Family != 0 {
				add(&families, fmt.Sprintf("IPv%d", l.Family))
			}
		}
		if row.OK+row.Failed+row.Skipped > 0 {
			row.By = strings.Join(append(families, by...), ", ")
			rows = append(rows, row)
		}
	}
	return rows
}

// words are how a question is asked, shorter than a link has them.
func words(by probe.How) string {
	switch by {
	case probe.Bulk:
		return fmt.Sprintf("%d KiB", probe.BulkSize>>10)
	case probe.Open:
		return "TCP"
	case probe.Lookup:
		return "DNS"
	case probe.Echo:
		return "ICMP echo"
	}
	return string(by)
}

// Reasons are why links were skipped, each with how many of which kinds.
func (r *Report) Reasons() []string {
	type group struct {
		kind Kind
		why  string
	}
	number := map[group]int{}
	var order []group
	for i := range r.Links {
		if l := &r.Links[i]; l.State == Skipped {
			g := group{l.Kind, l.Why}
			if number[g]++; number[g] == 1 {
				order = append(order, g)
			}
		}
	}
	var list []string
	for _, g := range order {
		list = append(list, fmt.Sprintf("%s (%d): %s", g.kind, number[g], g.why))
	}
	return list
}
