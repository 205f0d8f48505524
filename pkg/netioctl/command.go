// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"cmp"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"netio.dev/netio/pkg/netioctl/remote"
)

// RunDirEnv names the environment variable with the directory of the sockets.
const RunDirEnv = "NETIO_RUN_DIR"

// DefaultRunDir is where the sockets are unless RunDirEnv says otherwise.
const DefaultRunDir = "/run/netio"

// app is one run of netioctl.
type app struct {
	name        string // as people call it
	version     string
	out, errOut io.Writer
	terminal    bool // out is one
	color       bool
	zone        *time.Location
	now         func() time.Time

	host      *host
	hostRoute func(netip.Addr) (hostRoute, error)
	clusterFlags
	cluster         *remote.Cluster // nil: this machine's daemons are asked
	far             otherNodes      // nil: this machine's daemons are all that can be reached
	format          format
	forwarderSocket string
	agentSocket     string
	timeout         time.Duration

	completionTimeout time.Duration // how long the shell is kept waiting for names
}

func newApp(version string, out, errOut io.Writer) *app {
	return &app{name: "netioctl", version: version, out: out, errOut: errOut, zone: time.Local, now: time.Now, host: &host{"/", runCommand}, hostRoute: thisHostRoute, completionTimeout: time.Second}
}

func (a *app) rootCommand() *cobra.Command {
	dir := cmp.Or(os.Getenv(RunDirEnv), DefaultRunDir)
	root := group(&cobra.Command{
		Use:   "netioctl",
		Short: "Show what NetIO does on this machine, or on a node of a cluster",
		Long: `Show what NetIO does on this machine, or on a node of a cluster: ports, flows,
drops, live verdicts and packets, what becomes of a packet, and which policy rule
decides. It changes nothing.

With --node, --kubeconfig or --context, and as kubectl netio, a node of a cluster is
asked, by way of its API server: commands that name a pod find its node themselves,
status shows all nodes, others take --node.

Exit codes: 0 done, 1 error, 2 wrong usage, 3 "policy explain" and
"trace": denied or dropped.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if a.timeout <= 0 {
				return usagef("--timeout %v: give a time above 0, such as 10s", a.timeout)
			}
			if !asks(cmd) {
				return nil
			}
			return a.reach()
		},
	})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&a.forwarderSocket, "forwarder", filepath.Join(dir, "forwarder.sock"), "unix socket of the forwarder; "+RunDirEnv+" changes its directory")
	f.StringVar(&a.agentSocket, "agent", filepath.Join(dir, "agent.sock"), "unix socket of the agent; "+RunDirEnv+" changes its directory")
	f.VarP(&a.format, "output", "o", "output: table, json or yaml")
	a.add(f)
	f.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	fixedCompletion(root, "output", formats[:]...)
	root.AddCommand(
		a.statusCommand(),
		a.portsCommand(),
		a.flowsCommand(),
		a.traceCommand(),
		a.policyCommand(),
		a.dropsCommand(),
		a.monitorCommand(),
		a.captureCommand(),
		a.endpointsCommand(),
		a.configCommand(),
		a.connectivityCommand(),
		a.sysdumpCommand(),
		a.versionCommand(),
		a.relayCommand(),
		a.probeCommand(),
	)
	return root
}

// asks tells whether a command asks somebody.
func asks(cmd *cobra.Command) bool {
	for c := cmd; c != nil; c = c.Parent() {
		switch c.Name() {
		case remote.RelayCommand, probeName, "help", "completion":
			return false
		}
	}
	return !cmd.HasSubCommands()
}

// group makes a command that only has others below it.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			return usagef("there is no command %q; did you mean %s?", args[0], strings.Join(like, " or "))
		}
		return usagef("there is no command %q", args[0])
	}
	return cmd
}

// arguments checks the number of arguments and names what is expected.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("too few arguments; expected %s", what)
		case most >= 0 && len(args) > most && most == 0:
			return usagef("%q is too much: it takes no arguments", args[0])
		case most >= 0 && len(args) > most:
			return usagef("%q is too much; expected %s", args[most], what)
		}
		return nil
	}
}
