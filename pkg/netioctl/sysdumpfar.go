// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// sysdumpFar collects dumps of a cluster's nodes: of --node, or of all, a file each. One
// that cannot be had is an error, after the others.
func (a *app) sysdumpFar(ctx context.Context, file, agentConfig string) error {
	nodes := []string{a.node}
	if a.node == "" {
		if file != "" {
			return usagef("-w is for one node: say --node too, or leave -w out for a file of each")
		}
		list, err := a.cluster.Nodes(ctx)
		if err != nil {
			return err
		}
		nodes = nodes[:0]
		for i := range list {
			nodes = append(nodes, list[i].Name)
		}
	}
	stamp := a.now().UTC().Format("20060102T150405Z")
	var errs []error
	for _, node := range nodes {
		name := file
		if name == "" {
			name = "netio-sysdump-" + stamp + "-" + node + ".tar.gz"
		}
		if err := a.sysdumpOf(ctx, node, name, agentConfig); err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", node, err))
		}
	}
	return errors.Join(errs...)
}

func (a *app) sysdumpOf(ctx context.Context, node, file, agentConfig string) error {
	ctx, cancel := context.WithTimeout(ctx, dumpTime)
	defer cancel()
	run := func(to io.Writer) error {
		return a.cluster.Run(ctx, node, nil, to, "sysdump", "-w", "-", "--agent-config", agentConfig)
	}
	if file == "-" {
		return run(a.out)
	}
	return a.keepDump(file, run)
}
