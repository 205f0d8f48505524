// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"netio.dev/netio/pkg/agent/cluster"
	"netio.dev/netio/pkg/apiserver"
	"netio.dev/netio/pkg/logging"
)

// nodeVar has the node's name in a pod (the downward API's spec.nodeName).
const nodeVar = "NODE_NAME"

// clusterFlags say which cluster, and which of its nodes.
type clusterFlags struct {
	apiserver.Flags
	node string
}

func (c *clusterFlags) add(f *pflag.FlagSet) {
	c.Add(f)
	f.StringVar(&c.node, "node", "", "`NAME` of this node in the cluster; without it, $"+nodeVar+" or the host's name")
}

func (c *clusterFlags) source() (*cluster.Source, error) {
	config, err := c.Config()
	if errors.Is(err, apiserver.ErrNoCluster) {
		return nil, fmt.Errorf("%w, or --standalone for a host without Kubernetes (see netio-agent --help)", err)
	}
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
	logging.Libraries()
	return cluster.New(config, name), nil
}
