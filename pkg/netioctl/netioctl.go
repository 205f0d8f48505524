// SPDX-License-Identifier: Apache-2.0

// Package netioctl is the command-line tool that shows what NetIO does on this
// machine. It asks two daemons over their unix sockets, and changes nothing.
//
//	netioctl ──> forwarder.sock  ports, flows, drops, verdicts, packets, rules
//	         └─> agent.sock      endpoints: which pod has which port and address
//
// What the forwarder knows is shown without the agent; the agent is asked
// for the names of pods, and for its own state.
package netioctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes.
const (
	exitOK     = 0
	exitError  = 1
	exitUsage  = 2 // the command line is wrong
	exitDenied = 3 // policy explain, trace: the packet would not get through
)

// errDenied ends policy explain and trace; what there is to say has been said.
var errDenied = errors.New("denied")

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// Main runs netioctl with the process's arguments and returns its exit code.
func Main(version string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := newApp(version, os.Stdout, os.Stderr)
	a.name = calledAs(os.Args[0])
	a.terminal = term.IsTerminal(int(os.Stdout.Fd()))
	a.color = a.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return a.run(ctx, os.Args[1:])
}

// run carries out one command line.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	if root.DisplayName() != a.name {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: a.name}
		rename(root, a.name)
	}
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.errOut)
	cmd, err := root.ExecuteContextC(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errDenied):
		return exitDenied
	case errors.Is(err, errBroken):
		return exitError
	case errors.As(err, &usage):
		fmt.Fprintf(a.errOut, "%s: %v\nRun '%s --help' for what it takes.\n", a.name, err, cmd.CommandPath())
		return exitUsage
	case errors.Is(err, syscall.EPIPE):
		return exitOK // the reader has seen enough
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	fmt.Fprintf(a.errOut, "%s: %v\n", a.name, err)
	return exitError
}

// calledAs is what people write to run the program at path: kubectl finds plugins by
// file names that begin with kubectl-
// (https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/).
func calledAs(path string) string {
	if plugin, ok := strings.CutPrefix(filepath.Base(path), "kubectl-"); ok {
		return "kubectl " + strings.ReplaceAll(plugin, "_", "-")
	}
	return "netioctl"
}

// rename makes usage texts and examples of a command, and of those below it, say name.
func rename(cmd *cobra.Command, name string) {
	cmd.Example = strings.ReplaceAll(cmd.Example, "netioctl ", name+" ")
	for _, c := range cmd.Commands() {
		rename(c, name)
	}
}

// note tells something beside the output.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.errOut, format+"\n", args...)
}
