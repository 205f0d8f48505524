// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/apiserver"
	"netio.dev/netio/pkg/logging"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/uninstall"
)

func uninstallCommand() *cobra.Command {
	var o uninstall.Options
	var api apiserver.Flags
	var log logging.Flags
	var file string
	cmd := &cobra.Command{
		Use:   "uninstall [--kubeconfig FILE] [--cluster FILE]",
		Short: "Remove from the nodes all that NetIO has made there",
		Long: `Remove from the nodes all that NetIO has made there: stop operator and agents, run
"netio-agent uninstall" in a pod on each node, take away the taint
` + v1alpha1.NotReadyTaint + ` and the NetIONodes.

It is what "helm uninstall" waits for, before it deletes what the chart has made.
Pods lose their network. It may be called again until it has ended well; an error
says on which nodes something is in its way. Nodes that are down do not hold it
up: it names them, in Events too, keeps their NetIONodes, and says what to do
when they are back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := log.Use(cmd.ErrOrStderr()); err != nil {
				return err
			}
			if o.Patience < time.Second {
				return fmt.Errorf("--patience %v: expected a second at least", o.Patience)
			}
			o.Cluster = &v1alpha1.NetIOCluster{}
			if file != "" {
				text, err := os.ReadFile(file)
				if err != nil {
					return fmt.Errorf("--cluster: %w", err)
				}
				if err := yaml.UnmarshalStrict(text, o.Cluster); err != nil {
					return fmt.Errorf("--cluster: %s: %w", file, err)
				}
			}
			config, err := api.Config()
			if err != nil {
				return err
			}
			logging.Libraries()
			config.QPS, config.Burst = 50, 100 // a pod for each node
			scheme, err := operator.Scheme()
			if err != nil {
				return err
			}
			if o.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
				return fmt.Errorf("reach the API server %s: %w", config.Host, err)
			}
			o.Namespace = cmp.Or(o.Namespace, os.Getenv(namespaceVar), defaultNamespace)
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err = uninstall.Run(ctx, o)
			if errors.Is(err, uninstall.ErrLeft) {
				slog.Warn(err.Error()) // nothing more can be done now
				return nil
			}
			return err
		},
	}
	f := cmd.Flags()
	api.Add(f)
	f.StringVar(&o.Namespace, "namespace", "", "`NAMESPACE` of operator and agents; without it, $"+namespaceVar+" or "+defaultNamespace)
	f.StringVar(&file, "cluster", "", "`FILE` with the NetIOCluster to go by if the cluster has none any more")
	f.DurationVar(&o.Patience, "patience", 3*time.Minute, "how `long` pods may take to end, and nodes to be freed")
	log.Add(f)
	return cmd
}
