// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"netio.dev/netio/pkg/agent/atomicfile"
)

// StateBegun is that of an outcome's file while the delivery is under way.
const StateBegun State = "Begun"

// maxAttempts is how often a delivery is begun that never ends: it may be killed for
// want of memory, as a compiler is, and a node is to come up nevertheless.
const maxAttempts = 3

// outcomeMax bounds the file of an outcome, in bytes.
const outcomeMax = 64 << 10

// Begin notes in an outcome's file that a delivery begins. With the attempt after the last one it
// writes that as the outcome, and returns it: nothing is to be tried any more. An error is that of
// writing.
func Begin(file string, o Outcome) (*Outcome, error) {
	if was, err := ReadOutcome(file); err == nil && was.State == StateBegun {
		o.Attempts = was.Attempts
	}
	o.Attempts++
	o.State, o.Time = StateBegun, time.Now().UTC().Truncate(time.Second)
	if o.Attempts <= maxAttempts {
		return nil, o.Write(file)
	}
	o.Attempts, o.State = 0, StateMissing
	o.Problem = problem(Interrupted, "raise kernelModule.resources.limits.memory if there is one; kubectl describe of the node's netio-agent pod says why the container ended",
		"the delivery was ended %d times before it was done, as for want of memory", maxAttempts)
	return &o, o.Write(file)
}

// Write writes the outcome to a file, which is either the old or the new one whole.
func (o *Outcome) Write(file string) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("write outcome: %w", err)
	}
	return atomicfile.Write(file, append(text, '\n'), 0o644)
}

// ReadOutcome reads it. Errors are those of the file system, and of what is no outcome.
func ReadOutcome(file string) (*Outcome, error) {
	fi, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if fi.Size() > outcomeMax {
		return nil, fmt.Errorf("%s: %d bytes are no outcome of a delivery", file, fi.Size())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var o Outcome
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if o.State == "" {
		return nil, fmt.Errorf("%s has no state: it is no outcome of a delivery", file)
	}
	return &o, nil
}
