// SPDX-License-Identifier: Apache-2.0

// Netio-cluster brings up a real Kubernetes cluster of several nodes on one
// machine, with NetIO as its network, and without a container engine or a
// registry: etcd, Kubernetes, containerd and CoreDNS are built from Go modules,
// nodes are namespaces. See docs/cluster.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"netio.dev/netio/test/kind/cluster"
	"netio.dev/netio/test/kind/node"
	"netio.dev/netio/test/kind/state"
	"netio.dev/netio/test/kind/suite"
	"netio.dev/netio/test/kind/topology"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "netio-cluster:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	c := &cobra.Command{
		Use:           "netio-cluster",
		Short:         "A real Kubernetes cluster on one machine, with NetIO as its network",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.CompletionOptions.DisableDefaultCmd = true
	dir := c.PersistentFlags().String("dir", "build/cluster", "`folder` of the cluster: programs, images, state, logs")
	at := func() (state.Dir, error) {
		path, err := filepath.Abs(*dir)
		return state.Dir(path), err
	}
	c.AddCommand(upCommand(at), checkCommand(), downCommand(at), upgradeCommand(at), helmCommand(at), kubectlCommand(at), execCommand(at), suiteCommand(at), superviseCommand(), initCommand())
	return c
}

func upCommand(at func() (state.Dir, error)) *cobra.Command {
	c := &cobra.Command{Use: "up", Short: "Build what is not built, and bring a cluster up", Args: cobra.NoArgs}
	nodes := c.Flags().Int("nodes", 3, "number of nodes")
	netio := c.Flags().String("netio", "bin", "`folder` of netio-agent, netio-operator, netio-cni and netioctl")
	kubeProxy := c.Flags().Bool("kube-proxy", false, "run kube-proxy beside NetIO, instead of NetIO in its place")
	tunnel := c.Flags().Bool("tunnel", false, "let the network between the nodes know no pods, and have NetIO tunnel through it")
	families := c.Flags().String("ip-family", string(topology.DualStack), "`families` of all addresses: dual or ipv6")
	bare := c.Flags().Bool("bare", false, "leave NetIO out: no node is ready, until somebody installs a network")
	source := c.Flags().String("source", ".", "top of NetIO's source `tree`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		dir, err := at()
		if err != nil {
			return err
		}
		of, err := topology.ParseFamilies(*families)
		if err != nil {
			return err
		}
		bin, err := filepath.Abs(*netio)
		if err != nil {
			return err
		}
		err = cluster.Up(c.Context(), cluster.Options{Dir: dir, Nodes: *nodes, KubeProxy: *kubeProxy, Tunnel: *tunnel, Families: of, Bare: *bare, NetIO: bin, Source: *source, Out: os.Stdout})
		if err != nil {
			return err
		}
		fmt.Printf("\nThe cluster is up.\n  %[1]s kubectl get pods -A -o wide\n  %[1]s exec n1 netioctl status\n  logs: %[2]s\n", os.Args[0], dir.Log())
		return nil
	}
	return c
}

func checkCommand() *cobra.Command {
	c := &cobra.Command{Use: "check", Short: "Tell whether this machine can hold a cluster, and what is missing", Args: cobra.NoArgs}
	netio := c.Flags().String("netio", "bin", "`folder` of netio-agent, netio-operator, netio-cni and netioctl")
	c.RunE = func(*cobra.Command, []string) error {
		if err := cluster.Check(*netio); err != nil {
			return err
		}
		fmt.Println("This machine can hold a cluster.")
		return nil
	}
	return c
}

func upgradeCommand(at func() (state.Dir, error)) *cobra.Command {
	c := &cobra.Command{Use: "upgrade", Short: "Give the cluster NetIO as it is built now, by helm upgrade", Args: cobra.NoArgs}
	netio := c.Flags().String("netio", "bin", "`folder` of netio-agent, netio-operator, netio-cni and netioctl")
	source := c.Flags().String("source", ".", "top of NetIO's source `tree`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		under, err := running(at)
		if err != nil {
			return err
		}
		return under.Upgrade(c.Context(), cluster.UpgradeOptions{Source: *source, NetIO: *netio, Say: func(format string, args ...any) { fmt.Printf(format+"\n", args...) }})
	}
	return c
}

func helmCommand(at func() (state.Dir, error)) *cobra.Command {
	return &cobra.Command{Use: "helm [argument]...", Short: "helm, as administrator of the cluster, in NetIO's namespace", DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := running(at)
			if err != nil {
				return err
			}
			return become(c.HelmCommand(args...))
		}}
}

func downCommand(at func() (state.Dir, error)) *cobra.Command {
	return &cobra.Command{Use: "down", Short: "End the cluster; no error if none is up", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := at()
			if err != nil {
				return err
			}
			switch err := cluster.Down(c.Context(), dir); {
			case errors.Is(err, state.ErrNone):
				fmt.Println("No cluster is up.")
			case err != nil:
				return err
			default:
				fmt.Printf("The cluster is down. Its logs: %s\n", dir.Log())
			}
			return nil
		}}
}

func kubectlCommand(at func() (state.Dir, error)) *cobra.Command {
	return &cobra.Command{Use: "kubectl [argument]...", Short: "kubectl, as administrator of the cluster", DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := running(at)
			if err != nil {
				return err
			}
			kubectl := []string{filepath.Join(c.Dir.Bin(), "kubectl"), "--kubeconfig", c.Kubeconfig()}
			return become(c.FabricCommand(append(kubectl, args...)...))
		}}
}

func execCommand(at func() (state.Dir, error)) *cobra.Command {
	c := &cobra.Command{Use: "exec NODE COMMAND [argument]...", Short: "Run a command on a node", Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := running(at)
			if err != nil {
				return err
			}
			command, err := c.NodeCommand(args[0], args[1:]...)
			if err != nil {
				return err
			}
			return become(command)
		}}
	c.Flags().SetInterspersed(false)
	return c
}

func suiteCommand(at func() (state.Dir, error)) *cobra.Command {
	c := &cobra.Command{Use: "suite", Short: "Build what is not built, and run the Kubernetes end-to-end suite in the cluster", Args: cobra.NoArgs}
	o := suite.Options{Out: os.Stdout}
	c.Flags().StringVar(&o.Focus, "focus", suite.Network, "`expression` for the names of specs to run")
	c.Flags().StringVar(&o.Skip, "skip", "", "`expression` for the names of specs not to run, besides those that cannot run here")
	c.Flags().IntVar(&o.Procs, "procs", 1, "number of specs at a `time`")
	c.Flags().StringVar(&o.Source, "source", ".", "top of NetIO's source `tree`")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if o.Cluster, err = running(at); err != nil {
			return err
		}
		return suite.Run(c.Context(), o)
	}
	return c
}

// running is the cluster that is up.
func running(at func() (state.Dir, error)) (*cluster.Cluster, error) {
	dir, err := at()
	if err != nil {
		return nil, err
	}
	c, err := cluster.Open(dir)
	if errors.Is(err, state.ErrNone) {
		err = fmt.Errorf("%w; make cluster-up brings one up, as root", err)
	}
	return c, err
}

// become turns this process into another program.
func become(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("start %s: %w", args[0], syscall.Exec(path, args, os.Environ()))
}

func superviseCommand() *cobra.Command {
	return &cobra.Command{Use: node.SuperviseCommand + " DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return node.Supervise(state.Dir(args[0])) }}
}

func initCommand() *cobra.Command {
	return &cobra.Command{Use: node.InitCommand + " DIR NODE", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error { return node.Init(state.Dir(args[0]), args[1]) }}
}
