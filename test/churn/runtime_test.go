// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

const (
	networkName = "netio"
	ifname      = "eth0"
)

// containerRuntime calls the CNI plugin by libcni, as containerd and podman do.
type containerRuntime struct{ cni *libcni.CNIConfig }

func newRuntime(bin string) *containerRuntime {
	return &containerRuntime{libcni.NewCNIConfigWithCacheDir([]string{bin}, cniCacheDir, nil)}
}

// attachment is what a runtime tells the plugin of a pod.
type attachment struct {
	id, netns, colour string
	ips               []string // asked for
}

func (a attachment) network() (*libcni.NetworkConfigList, error) {
	args := map[string]any{"labels": []any{map[string]string{"key": "app", "value": a.colour}}}
	if len(a.ips) > 0 {
		args["ips"] = a.ips
	}
	text, err := json.Marshal(map[string]any{
		"cniVersion": "1.1.0",
		"name":       networkName,
		"plugins": []any{map[string]any{
			"type":        "netio-cni",
			"agentSocket": filepath.Join(runDir, "agent.sock"),
			"stateDir":    stateDir,
			"args":        map[string]any{"cni": args},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("write conflist: %w", err)
	}
	return libcni.NetworkConfFromBytes(text)
}

func (a attachment) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: a.id, NetNS: a.netns, IfName: ifname, Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", a.id}, {"K8S_POD_UID", "uid-" + a.id},
	}}
}

// add returns the pod's IPv4 address.
func (r *containerRuntime) add(ctx context.Context, a attachment) (netip.Addr, error) {
	list, err := a.network()
	if err != nil {
		return netip.Addr{}, err
	}
	result, err := r.cni.AddNetworkList(ctx, list, a.runtimeConf())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("CNI ADD of %s: %w", a.id, err)
	}
	got, err := types100.GetResult(result)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("CNI ADD of %s: %w", a.id, err)
	}
	var v4 netip.Addr
	for _, ip := range got.IPs {
		if addr, _ := netip.AddrFromSlice(ip.Address.IP); addr.Unmap().Is4() {
			v4 = addr.Unmap()
		}
	}
	if len(got.IPs) != 2 || !v4.IsValid() {
		return v4, fmt.Errorf("CNI ADD of %s: addresses %v; expected one of each family", a.id, got.IPs)
	}
	return v4, nil
}

func (r *containerRuntime) del(ctx context.Context, a attachment) error {
	list, err := a.network()
	if err != nil {
		return err
	}
	if err := r.cni.DelNetworkList(ctx, list, a.runtimeConf()); err != nil {
		return fmt.Errorf("CNI DEL of %s: %w", a.id, err)
	}
	return nil
}

func (r *containerRuntime) check(ctx context.Context, a attachment) error {
	list, err := a.network()
	if err != nil {
		return err
	}
	if err := r.cni.CheckNetworkList(ctx, list, a.runtimeConf()); err != nil {
		return fmt.Errorf("CNI CHECK of %s: %w", a.id, err)
	}
	return nil
}

// gc removes all attachments but the valid ones.
func (r *containerRuntime) gc(ctx context.Context, valid []attachment) error {
	list, err := attachment{}.network()
	if err != nil {
		return err
	}
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, a := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: a.id, IfName: ifname})
	}
	if err := r.cni.GCNetworkList(ctx, list, args); err != nil {
		return fmt.Errorf("CNI GC: %w", err)
	}
	return nil
}

// loseCache is what happens to a runtime's notes on another disk: only the
// plugin still knows of the attachment.
func (r *containerRuntime) loseCache(a attachment) error {
	err := os.Remove(filepath.Join(cniCacheDir, "results", networkName+"-"+a.id+"-"+ifname))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// awaitReady asks CNI STATUS until the network can take pods.
func (r *containerRuntime) awaitReady(ctx context.Context) error {
	list, err := attachment{}.network()
	if err != nil {
		return err
	}
	return await(ctx, func() error { return r.cni.GetStatusNetworkList(ctx, list) })
}
