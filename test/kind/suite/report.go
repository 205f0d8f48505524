// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// report is a JUnit report, as Ginkgo writes it.
type report struct {
	Specs []spec `xml:"testsuite>testcase"`
}

// spec is one of the suite, or what is done before and after all.
type spec struct {
	Name    string   `xml:"name,attr"`
	Seconds float64  `xml:"time,attr"`
	Skipped *reason  `xml:"skipped"`
	Failure []reason `xml:"failure"`
	Error   []reason `xml:"error"`
}

// reason is that of a skip, in Message, or of a failure, whose Text begins with
// it.
type reason struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// outcome of a spec.
type outcome int

const (
	// passedOver was not to be run.
	passedOver outcome = iota
	passed
	// skipped itself, when it saw what cluster it was in.
	skipped
	failed
)

// What Ginkgo says of a spec that was not to be run, and before the reason that a
// spec gives.
const (
	notChosen  = "skipped"
	skipPrefix = "skipped - "
)

// specPrefix is what the names of specs begin with, and no others.
const specPrefix = "[It] "

func (s spec) outcome() outcome {
	switch {
	case len(s.Failure) > 0 || len(s.Error) > 0:
		return failed
	case s.Skipped != nil && s.Skipped.Message == notChosen:
		return passedOver
	case s.Skipped != nil:
		return skipped
	case !strings.HasPrefix(s.Name, specPrefix):
		return passedOver
	}
	return passed
}

// because is the reason of a failure or skip, in a line.
func (s spec) because() string {
	reasons := append(s.Failure, s.Error...)
	if s.Skipped != nil {
		reasons = append(reasons, *s.Skipped)
	}
	for _, r := range reasons {
		first, _, _ := strings.Cut(strings.TrimSpace(r.Message+r.Text), "\n")
		return strings.TrimPrefix(first, skipPrefix)
	}
	return ""
}

func readReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the suite's report: %w", err)
	}
	r := new(report)
	if err := xml.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read the suite's report %s: %w", path, err)
	}
	return r, nil
}

func (r *report) count(of outcome) int {
	n := 0
	for _, s := range r.Specs {
		if s.outcome() == of {
			n++
		}
	}
	return n
}

// print the summary: numbers, and what did not pass.
func (r *report) print(to io.Writer) {
	for _, group := range []struct {
		outcome outcome
		title   string
	}{{skipped, "SKIPPED"}, {failed, "FAILED"}} {
		for _, s := range r.Specs {
			if s.outcome() == group.outcome {
				took := time.Duration(s.Seconds * float64(time.Second)).Round(time.Second)
				fmt.Fprintf(to, "%s (%v) %s\n\t%s\n", group.title, took, strings.TrimPrefix(s.Name, specPrefix), s.because())
			}
		}
	}
	fmt.Fprintf(to, "%d passed, %d failed, %d skipped themselves\n", r.count(passed), r.count(failed), r.count(skipped))
}
