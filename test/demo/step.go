// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// step does something and says in a few words what came of it. Further lines
// of that are shown below.
type step struct {
	title string
	do    func(context.Context) (string, error)
}

// titleWidth aligns the results; titles are at most that long.
const titleWidth = 42

// do runs a step and prints its line.
func (d *demo) do(ctx context.Context, s step) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	began := time.Now()
	result, err := s.do(ctx)
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	mark := "✓"
	if err != nil {
		mark, result = "✗", err.Error()
	}
	fmt.Fprint(d.out, line(mark, s.title, result, time.Since(began)))
	return err
}

func line(mark, title, result string, took time.Duration) string {
	first, rest, _ := strings.Cut(strings.TrimRight(result, "\n"), "\n")
	pad := strings.Repeat(" ", max(0, titleWidth-utf8.RuneCountInString(title)))
	s := fmt.Sprintf("  %s %s%s  %s  (%.1f s)\n", mark, title, pad, first, took.Seconds())
	if rest != "" {
		for l := range strings.SplitSeq(rest, "\n") {
			s += strings.TrimRight("        "+l, " ") + "\n"
		}
	}
	return s
}

// cleanStep runs a step of the removal, which no signal interrupts.
func (d *demo) cleanStep(title string, do func() (string, error)) error {
	return d.do(context.Background(), step{title, func(context.Context) (string, error) { return do() }})
}
