// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Violation is one mistake in a configuration.
type Violation struct {
	// Field is its place, as "ports[3].addresses[1]".
	Field string
	// Description says what is there, what was expected and what to do.
	Description string
}

func (v Violation) String() string { return v.Field + ": " + v.Description }

// ValidationError lists what is wrong with a configuration.
type ValidationError struct {
	// Violations, in the order of the configuration; at most 1000.
	Violations []Violation
	// More is the number of violations that are not listed.
	More int
}

const (
	maxViolations = 1000 // kept
	maxDetails    = 100  // sent as details of a gRPC status, which is a header
	maxMessage    = 10   // sent in its message
)

// Error lists all violations, one a line if there are several.
func (e *ValidationError) Error() string { return e.text(maxViolations) }

func (e *ValidationError) text(limit int) string {
	if len(e.Violations) == 1 && e.More == 0 {
		return "invalid configuration: " + e.Violations[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "invalid configuration, %d violations:", len(e.Violations)+e.More)
	shown := min(len(e.Violations), limit)
	for _, v := range e.Violations[:shown] {
		b.WriteString("\n  ")
		b.WriteString(v.String())
	}
	if more := len(e.Violations) - shown + e.More; more > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	return b.String()
}

// GRPCStatus makes status.FromError and gRPC servers see INVALID_ARGUMENT with a
// google.rpc.BadRequest that has a field violation per mistake, up to 100.
func (e *ValidationError) GRPCStatus() *status.Status {
	st := status.New(codes.InvalidArgument, e.text(maxMessage))
	detail := &errdetails.BadRequest{}
	for _, v := range e.Violations[:min(len(e.Violations), maxDetails)] {
		detail.FieldViolations = append(detail.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: v.Field, Description: v.Description,
		})
	}
	if with, err := st.WithDetails(detail); err == nil {
		return with
	}
	return st
}

// Status converts an error of Validate or Merge to one that a gRPC handler
// returns: INVALID_ARGUMENT with details, or ABORTED for ErrRevision.
func Status(err error) error {
	var invalid *ValidationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return invalid.GRPCStatus().Err()
	case errors.Is(err, ErrRevision):
		return status.Error(codes.Aborted, err.Error())
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

// add records a violation. The field is formatted only now, so that good
// configurations cost nothing.
func (e *ValidationError) add(field, format string, args ...any) {
	if len(e.Violations) >= maxViolations {
		e.More++
		return
	}
	e.Violations = append(e.Violations, Violation{field, fmt.Sprintf(format, args...)})
}

// err is e if there is a violation.
func (e *ValidationError) err() error {
	if len(e.Violations) == 0 {
		return nil
	}
	return e
}
