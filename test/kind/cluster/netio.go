// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"netio.dev/netio/test/internal/netlab"
	"netio.dev/netio/test/kind/topology"
)

// Namespace is that of NetIO, and Release the name by which helm knows it.
const (
	Namespace = "netio-system"
	Release   = "netio"
)

// HelmCommand is the command on this machine that runs helm in the cluster.
func (c *Cluster) HelmCommand(args ...string) []string {
	helm := []string{"env", "HELM_CACHE_HOME=" + filepath.Join(c.Dir.Run(), "helm"), "HELM_CONFIG_HOME=" + filepath.Join(c.Dir.Run(), "helm"),
		"HELM_DATA_HOME=" + filepath.Join(c.Dir.Run(), "helm"), filepath.Join(c.Dir.Bin(), "helm"), "--kubeconfig", c.Kubeconfig(), "--namespace", Namespace}
	return c.FabricCommand(append(helm, args...)...)
}

// Helm runs helm, and returns what it prints.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	command := c.HelmCommand(args...)
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("helm %s: %w\n%s", args[0], err, out)
	}
	return string(out), err
}

// InstallOptions of Install.
type InstallOptions struct {
	// Chart is its folder, Tag that of the images.
	Chart, Tag string
}

// Install does what a user does: helm install.
func (c *Cluster) Install(ctx context.Context, o InstallOptions) error {
	network := map[string]any{"coolDown": "1s", "cni": map[string]any{"portMappings": true}}
	if !c.KubeProxy {
		network["kubeProxyReplacement"], network["externalIPs"] = true, true
	}
	if c.Tunnel {
		network["tunnel"] = map[string]any{}
	}
	if takesModules() {
		network["device"] = "Soft"
	}
	values, err := json.Marshal(network)
	if err != nil {
		return fmt.Errorf("write values: %w", err)
	}
	_, err = c.Helm(ctx, "install", Release, o.Chart, "--create-namespace",
		"--set", "image.tag="+o.Tag, "--set", "image.pullPolicy=Never",
		"--set", "apiServer.host="+c.Nodes[0].Addrs[0].String(), "--set", fmt.Sprintf("apiServer.port=%d", topology.APIPort),
		"--set-json", "network="+string(values))
	return err
}

func (u *up) installNetIO(ctx context.Context) error {
	return u.Install(ctx, InstallOptions{Chart: filepath.Join(u.source, "charts/netio"), Tag: u.tag})
}

// takesModules tells whether the machine's kernel takes modules: it is that of the nodes
// as well, and nothing is to be loaded into it by a test.
func takesModules() bool {
	_, err := os.Stat("/proc/modules")
	return err == nil
}

// awaitPrefixes waits until each node has its prefixes, and leads the machine itself,
// which is no node and is to reach pods too, to them.
func (u *up) awaitPrefixes(ctx context.Context) error {
	prefixes := map[string][]netip.Prefix{}
	for _, n := range u.Nodes {
		object, err := u.awaitNode(ctx, n.Name, func(n *corev1.Node) bool { return len(n.Spec.PodCIDRs) == len(u.families.Of(topology.PodCIDRs)) })
		if err != nil {
			return err
		}
		for _, c := range object.Spec.PodCIDRs {
			p, err := netip.ParsePrefix(c)
			if err != nil {
				return fmt.Errorf("node %s: podCIDRs: %w", n.Name, err)
			}
			prefixes[n.Name] = append(prefixes[n.Name], p)
		}
	}
	fabric, err := netlab.Open("fabric", u.FabricNetNS())
	if err != nil {
		return err
	}
	defer fabric.Close()
	if u.Tunnel {
		if err := hidePods(fabric); err != nil {
			return err
		}
	}
	return u.addRoutes(fabric, prefixes)
}

// hidePods has the network between the nodes drop what has a pod's address, as one
// between machines that are no neighbours does. The machine itself reaches pods all the
// same, each by its node.
func hidePods(fabric *netlab.Namespace) error {
	rules := "table bridge netio-test {\nchain between-nodes {\ntype filter hook forward priority 0\n"
	for _, p := range topology.PodCIDRs {
		family := "ip"
		if p.Addr().Is6() {
			family = "ip6"
		}
		rules += fmt.Sprintf("%[1]s saddr %[2]s drop\n%[1]s daddr %[2]s drop\n", family, p)
	}
	_, err := fabric.Output("nft", rules+"}\n}\n")
	return err
}

// addRoutes to the pods of all nodes.
func (u *up) addRoutes(fabric *netlab.Namespace, prefixes map[string][]netip.Prefix) error {
	for _, n := range u.Nodes {
		for _, p := range prefixes[n.Name] {
			if err := fabric.Route(p, n.AddrFor(p), "fabric"); err != nil {
				return err
			}
		}
	}
	return nil
}
