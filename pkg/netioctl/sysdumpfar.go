// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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

func (a *app) sysdumpOf(ctx context.Context, node, file, agentConfig string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, dumpTime)
	defer cancel()
	run := func(to io.Writer) error {
		return a.cluster.Run(ctx, node, nil, to, "sysdump", "-w", "-", "--agent-config", agentConfig)
	}
	if file == "-" {
		return run(a.out)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	err = run(f)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("write archive: %w", closeErr)
	}
	if err != nil {
		os.Remove(file)
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s: readable for its owner only; it has addresses, names and labels of pods\n", file)
	return err
}
