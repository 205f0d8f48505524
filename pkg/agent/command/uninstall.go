// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/kmod"
)

func uninstallCommand() *cobra.Command {
	var root string
	var cni struct {
		BinDir  string `json:"binDir"`
		ConfDir string `json:"confDir"`
	}
	keepModule := false
	cmd := &cobra.Command{
		Use:   "uninstall [--root FOLDER]",
		Short: "Remove from a node of a cluster all that NetIO has made there",
		Long: `Remove from a node of a cluster all that NetIO has made there: CNI network and
plugin, the interfaces of pods, which are cut off, the host's interface with its
addresses and routes, the nftables table "netio", ` + config.DefaultStateDir + `,
` + config.DefaultRunDir + `, ` + filepath.Dir(kmod.DefaultCache) + ` and the kernel module. Forwarding and other sysctls
are put back as they were before the agent first ran.

Agent and forwarder must have been stopped. It is what "helm uninstall" has each
node do; for a node that was down then it can be called later:

  kubectl debug node/NAME --image=IMAGE --profile=sysadmin -- netio-agent uninstall --root /host

On hosts without Kubernetes "netio-agent cleanup" goes by the configuration file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := yaml.Marshal(map[string]any{"installCNI": cni})
			if err != nil {
				return fmt.Errorf("write configuration: %w", err)
			}
			c, err := config.ParseNode("flags", text)
			if err != nil {
				return err
			}
			if root != "/" {
				if err := enter(root); err != nil {
					return err
				}
			}
			o := node.UninstallOptions{Config: c, CacheDir: filepath.Dir(kmod.DefaultCache)}
			if !keepModule {
				o.UnloadModule = unloadModule
			}
			if err := node.Uninstall(o); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "nothing of NetIO is left on this node")
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&root, "root", "/", "`FOLDER` where the node's root is, in a container")
	f.StringVar(&cni.BinDir, "cni-bin-dir", config.DefaultCNIBinDir, "`FOLDER` of CNI plugins")
	f.StringVar(&cni.ConfDir, "cni-conf-dir", config.DefaultCNIConfDir, "`FOLDER` of CNI networks")
	f.BoolVar(&keepModule, "keep-module", false, "leave the kernel module loaded")
	return cmd
}

// enter makes a folder the root of this process.
func enter(root string) error {
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("--root: %w", &os.PathError{Op: "chroot", Path: root, Err: err})
	}
	return os.Chdir("/")
}

func unloadModule() error {
	s := kmod.Host("/")
	k, err := s.Running()
	if err != nil {
		return err
	}
	// A forwarder that has ended leaves its instance.
	if _, err := s.EndIdle(); err != nil {
		return err
	}
	_, err = s.UnloadModule(k)
	var p *kmod.Problem
	if errors.As(err, &p) && p.Reason == kmod.BuiltIn {
		return nil // it is the kernel's own
	}
	return err
}
