// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"netio.dev/netio/pkg/agent/cluster"
)

// nodeVar has the node's name in a pod (the downward API's spec.nodeName).
const nodeVar = "NODE_NAME"

// clusterFlags say which cluster, and which of its nodes.
type clusterFlags struct{ kubeconfig, node string }

func (c *clusterFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "`FILE` that tells how to reach the API server; without it, as a pod does by its service account")
	f.StringVar(&c.node, "node", "", "`NAME` of this node in the cluster; without it, $"+nodeVar+" or the host's name")
}

func (c *clusterFlags) source() (*cluster.Source, error) {
	config, err := c.rest()
	if err != nil {
		return nil, err
	}
	name := c.node
	if name == "" {
		name = os.Getenv(nodeVar)
	}
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("find the host's name: %w; say --node", err)
		}
		name = strings.ToLower(name) // as kubelet does
	}
	// What the libraries have to say is for who debugs them.
	logger := logr.FromSlogHandler(slog.Default().Handler()).V(1)
	klog.SetLogger(logger)
	ctrl.SetLogger(logger)
	return cluster.New(config, name), nil
}

func (c *clusterFlags) rest() (*rest.Config, error) {
	if c.kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w", err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("not in a pod of a cluster: say --kubeconfig FILE, or --standalone for a host without Kubernetes (see netio-agent --help)")
	}
	if err != nil {
		return nil, fmt.Errorf("reach the API server as a pod: %w", err)
	}
	return config, nil
}
