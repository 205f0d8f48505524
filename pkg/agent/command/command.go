// SPDX-License-Identifier: Apache-2.0

// Package command is the command line of netio-agent.
package command

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/standalone"
	"netio.dev/netio/pkg/agent/sysctl"
	"netio.dev/netio/pkg/logging"
)

// Defaults of the flags.
const (
	defaultConfig    = "/etc/netio/agent.yaml"
	defaultManifests = "/etc/netio/manifests"
)

// New is the root command; others become its subcommands.
func New(version string, others ...*cobra.Command) *cobra.Command {
	o := node.Options{Version: version}
	var isStandalone bool
	var manifests string
	var kubernetes clusterFlags
	var log logging.Flags
	root := &cobra.Command{
		Use:   "netio-agent [--config FILE] [--kubeconfig FILE] [--node NAME] | --standalone [--config FILE] [--manifests FOLDER]",
		Short: "Wire containers to the NetIO forwarder and keep their network policies in force",
		Long: `netio-agent wires containers to the NetIO forwarder and keeps their network
policies in force.

It gives containers their addresses, prepares the host (interface, routes,
forwarding, masquerade), and tells the forwarder, a process of its own started by
"netio-agent forward", what to do. Container runtimes reach it through the CNI
plugin netio-cni. Stopping it leaves the network as it is.

It serves a node of a Kubernetes cluster, from whose API server it has the prefixes
of the node's pods, labels and policies. Its configuration file may be empty.

With --standalone it serves a single host with podman, nerdctl or plain
containerd. Its configuration file needs nothing but the containers' prefixes:

  podCIDRs: [10.244.0.0/24, fd00:10:244::/64]

Network policies are then NetIOPolicy and NetIOClusterPolicy objects in YAML
files (*.yaml, *.yml) in the manifests folder. File and folder are read again
when they change; a mistake there is shown by "netioctl status" and leaves the
last good version in force.`,
		Example: `  netio-agent forward &
  netio-agent --standalone --config /etc/netio/agent.yaml --manifests /etc/netio/manifests
  netioctl status`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := log.Use(cmd.ErrOrStderr()); err != nil {
				return err
			}
			if isStandalone {
				o.Source = standalone.Source{ManifestDir: manifests}
			} else {
				source, err := kubernetes.source()
				if err != nil {
					return err
				}
				o.Source = source
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return node.Run(ctx, o)
		},
	}
	f := root.Flags()
	f.BoolVar(&isStandalone, "standalone", false, "serve this host alone, without Kubernetes")
	f.StringVar(&o.ConfigFile, "config", defaultConfig, "configuration `FILE` (YAML)")
	f.StringVar(&manifests, "manifests", defaultManifests, "`FOLDER` with policies (YAML files)")
	f.BoolVar(&o.TakeOver, "take-over", false, "take over from an agent that runs; that stays, and goes on if this one ends")
	f.StringVar(&o.After, "take-over-after", "", "ask an agent that runs only when this `FILE` is there, which the forwarder of this pod writes (netio-agent forward --forwarding-file)")
	f.StringVar(&o.KernelModule, "kernel-module", "", "report what netio-agent kmod deliver has noted in this `FILE`")
	sysctlFlag(f, &o.Sysctls)
	kubernetes.add(f)
	for _, name := range []string{"kubeconfig", "node"} {
		root.MarkFlagsMutuallyExclusive("standalone", name)
		root.MarkFlagsMutuallyExclusive("manifests", name)
	}
	log.Add(root.Flags())
	root.AddCommand(versionCommand(version), cleanupCommand(), uninstallCommand(), readyCommand())
	root.AddCommand(others...)
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// sysctlFlag adds --sysctls.
func sysctlFlag(f *pflag.FlagSet, dir *sysctl.Dir) {
	f.StringVar((*string)(dir), "sysctls", string(sysctl.Default), "`FOLDER` of the network's sysctls, in a container that has the host's elsewhere")
}

func versionCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "netio-agent", version)
			return err
		},
	}
}

func cleanupCommand() *cobra.Command {
	o := node.CleanupOptions{Files: []string{standalone.KeptFile}}
	cmd := &cobra.Command{
		Use:   "cleanup [--config FILE]",
		Short: "Remove from the host what the agent has made there",
		Long: `Remove from the host what the agent has made there: the host's interface with
its addresses and routes, the nftables table "netio", and the CNI plugin and
network if the agent has installed them (installCNI).

Agent and forwarder must have been stopped, and no container may be attached.
Forwarding stays turned on, since other programs may have come to rely on it;
--restore-sysctls puts it back as it was before the agent first ran.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return node.Cleanup(o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.ConfigFile, "config", defaultConfig, "the agent's configuration `FILE`")
	f.BoolVar(&o.Force, "force", false, "though containers are attached or the forwarder runs: cuts them off")
	f.BoolVar(&o.State, "state", false, "also remove leases, attachments and the last good manifests from stateDir")
	f.BoolVar(&o.Sysctls, "restore-sysctls", false, "also put forwarding and other sysctls back")
	sysctlFlag(f, &o.SysctlDir)
	return cmd
}

// Main runs the command line and returns the exit code: 1 for an error, unless
// the error chooses one. An error without text was shown already.
func Main(version string, others ...*cobra.Command) int {
	root := New(version, others...)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(root.ErrOrStderr(), "netio-agent:", text)
	}
	var chosen interface{ ExitStatus() int }
	if errors.As(err, &chosen) {
		return chosen.ExitStatus()
	}
	return 1
}
