// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"netio.dev/netio/test/internal/netlab"
	"netio.dev/netio/test/kind/topology"
)

//go:embed manifests/netio.yaml
var netioManifest []byte

// bringNetIO gives the cluster NetIO's objects, and waits until each node has its
// prefixes. The agents, which run already, do the rest, but for the machine itself,
// which is no node and is to reach pods too.
func (u *up) bringNetIO(ctx context.Context) error {
	for _, glob := range []string{"config/crd/*.yaml", "config/rbac/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(u.source, glob))
		if err != nil || len(files) == 0 {
			return errors.Join(fmt.Errorf("no %s in %s", glob, u.source), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read NetIO's objects: %w", err)
			}
			if err := u.create(ctx, file, text); err != nil {
				return err
			}
		}
	}
	if err := u.create(ctx, "NetIO's manifest", netioManifest); err != nil {
		return err
	}
	prefixes := map[string][]netip.Prefix{}
	for _, n := range u.Nodes {
		object, err := u.awaitNode(ctx, n.Name, func(n *corev1.Node) bool { return len(n.Spec.PodCIDRs) == len(topology.PodCIDRs) })
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
	if u.tunnel {
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
			gateway := n.Addrs[0]
			if p.Addr().Is6() {
				gateway = n.Addrs[1]
			}
			if err := fabric.Route(p, gateway, "fabric"); err != nil {
				return err
			}
		}
	}
	return nil
}
