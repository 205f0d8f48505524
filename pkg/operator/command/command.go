// SPDX-License-Identifier: Apache-2.0

// Package command is the command line of netio-operator.
package command

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"netio.dev/netio/pkg/apiserver"
	"netio.dev/netio/pkg/logging"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/install"
	"netio.dev/netio/pkg/operator/policystatus"
	"netio.dev/netio/pkg/operator/pools"
	"netio.dev/netio/pkg/operator/taint"
)

// namespaceVar has the pod's namespace (the downward API's metadata.namespace),
// defaultNamespace is that of the Lease without it.
const (
	namespaceVar     = "POD_NAMESPACE"
	defaultNamespace = "kube-system"
)

// controllers are all that an operator in a namespace has.
func controllers(namespace string) []operator.Controller {
	return []operator.Controller{
		{Name: install.Name, Register: install.Register(namespace)},
		{Name: taint.Name, Register: taint.Register},
		{Name: pools.Name, Register: pools.Register},
		{Name: policystatus.Name, Register: policystatus.Register},
	}
}

// New is the root command.
func New(version string) *cobra.Command {
	o := operator.Options{Version: version}
	var api apiserver.Flags
	var log logging.Flags
	root := &cobra.Command{
		Use:   "netio-operator [--kubeconfig FILE]",
		Short: "Do for a cluster with NetIO what is no single node's business",
		Long: `netio-operator does for a cluster with NetIO what is no single node's business.

Of several operators one works, the one that holds the Lease ` + operator.LeaseName + `; the others
wait until it stops. No packet needs an operator: while there is none, what is
in force stays in force.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := log.Use(cmd.ErrOrStderr()); err != nil {
				return err
			}
			config, err := api.Config()
			if err != nil {
				return err
			}
			logging.Libraries()
			if o.Config = config; o.Namespace == "" {
				if o.Namespace = os.Getenv(namespaceVar); o.Namespace == "" {
					o.Namespace = defaultNamespace
				}
			}
			o.Controllers, o.Watched = controllers(o.Namespace), install.Watched(o.Namespace)
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return operator.Run(ctx, o)
		},
	}
	f := root.Flags()
	api.Add(f)
	f.BoolVar(&o.LeaderElect, "leader-elect", true, "work only while holding the Lease; without it, there must be no other operator")
	f.StringVar(&o.Namespace, "namespace", "", "`NAMESPACE` of the Lease and the agents; without it, $"+namespaceVar+" or "+defaultNamespace)
	f.StringVar(&o.Metrics, "metrics-address", "", "`ADDRESS`, IP:PORT or :PORT, at which to serve metrics (/metrics); without it, nowhere")
	f.StringVar(&o.Health, "health-address", "", "`ADDRESS`, IP:PORT or :PORT, at which to serve health (/healthz, /readyz); without it, nowhere")
	log.Add(f)
	root.AddCommand(uninstallCommand(), &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "netio-operator", version)
			return err
		},
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// Main runs the command line and returns the exit code: 1 for an error.
func Main(version string) int {
	root := New(version)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(root.ErrOrStderr(), "netio-operator:", err)
		return 1
	}
	return 0
}
