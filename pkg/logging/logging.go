// SPDX-License-Identifier: Apache-2.0

// Package logging gives programs that run in the background their flags for the log.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Flags choose how a program logs.
type Flags struct{ level, format string }

// Add declares the flags.
func (l *Flags) Add(f *pflag.FlagSet) {
	f.StringVar(&l.level, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn, error")
	f.StringVar(&l.format, "log-format", "text", "`FORMAT` of the log on standard error: text, json")
}

// Use makes the default logger what the flags say.
func (l *Flags) Use(w io.Writer) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return fmt.Errorf("--log-level: %q; expected debug, info, warn or error", l.level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch strings.ToLower(l.format) {
	case "text":
		slog.SetDefault(slog.New(slog.NewTextHandler(w, o)))
	case "json":
		slog.SetDefault(slog.New(slog.NewJSONHandler(w, o)))
	default:
		return fmt.Errorf("--log-format: %q; expected text or json", l.format)
	}
	return nil
}

// Libraries has the libraries of Kubernetes log to the default logger, as debug:
// what they have to say is for who debugs them.
func Libraries() {
	logger := logr.FromSlogHandler(slog.Default().Handler()).V(1)
	klog.SetLogger(logger)
	ctrl.SetLogger(logger)
}
