// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"strings"
)

// Problem is a mistake in a file, or a directory or file that cannot be read.
type Problem struct {
	File   string // path
	Line   int    // from 1; 0: the file as a whole
	Column int    // from 1; 0: the line as a whole
	Object string // "NetIOPolicy shop/web"; "": not known, or not about one
	Field  string // path in the object: spec.ingress[0].from[1].cidr; ""
	// Message is what is wrong, what was expected and what to do.
	Message string
	Effect  Effect
}

// Effect is what a problem means for the objects of its file, or of its
// directory.
type Effect string

const (
	None    Effect = ""
	Kept    Effect = "the last good version stays in force"
	Dropped Effect = "nothing of it is in force"
)

// Error returns the problem in one line.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	b.WriteString(": ")
	for _, part := range []string{p.Object, p.Field} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(p.Message)
	if p.Effect != None {
		fmt.Fprintf(&b, " (%s)", p.Effect)
	}
	return b.String()
}
