// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bufio"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// column of a table.
type column struct {
	title string
	right bool
	paint func(string) string // by the cell's text; nil: none
}

// left and right make columns that are aligned in this way.
func left(titles ...string) []column {
	cols := make([]column, len(titles))
	for i, t := range titles {
		cols[i].title = t
	}
	return cols
}

func right(titles ...string) []column {
	cols := left(titles...)
	for i := range cols {
		cols[i].right = true
	}
	return cols
}

// table is rows under titles; columns are as wide as what is in them. A cell
// may have several lines. An empty cell is shown as "-", so that fields can be
// counted.
type table struct {
	cols   []column
	rows   [][]string
	margin string // before each line
}

func newTable(cols ...[]column) *table {
	t := &table{}
	for _, c := range cols {
		t.cols = append(t.cols, c...)
	}
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.cols))
	titles := make([]string, len(t.cols))
	for i, c := range t.cols {
		titles[i] = c.title
		widths[i] = utf8.RuneCountInString(c.title)
	}
	rows := make([][][]string, len(t.rows))
	for r, cells := range t.rows {
		rows[r] = make([][]string, len(t.cols))
		for i := range t.cols {
			for line := range strings.SplitSeq(cells[i], "\n") {
				line = printable(line)
				if cells[i] == "" {
					line = "-"
				}
				rows[r][i] = append(rows[r][i], line)
				widths[i] = max(widths[i], utf8.RuneCountInString(line))
			}
		}
	}
	out := bufio.NewWriter(w)
	t.line(out, widths, titles, false)
	for _, row := range rows {
		lines := 0
		for _, cell := range row {
			lines = max(lines, len(cell))
		}
		for n := range lines {
			cells := make([]string, len(row))
			for i, cell := range row {
				if n < len(cell) {
					cells[i] = cell[n]
				}
			}
			t.line(out, widths, cells, true)
		}
	}
	return out.Flush()
}

func (t *table) line(out *bufio.Writer, widths []int, cells []string, paint bool) {
	last := len(cells) - 1
	for last > 0 && cells[last] == "" {
		last--
	}
	out.WriteString(t.margin)
	for i, cell := range cells[:last+1] {
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if paint && t.cols[i].paint != nil {
			cell = t.cols[i].paint(cell)
		}
		switch {
		case t.cols[i].right:
			out.WriteString(pad + cell)
		case i == last:
			out.WriteString(cell)
		default:
			out.WriteString(cell + pad)
		}
		if i < last {
			out.WriteString("   ")
		}
	}
	out.WriteByte('\n')
}

// printable replaces what a terminal might take for a command: names come from
// whoever may name things.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
