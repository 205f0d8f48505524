// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/internal/netlab"
)

// pod is a network namespace that the runtime has attached.
type pod struct {
	name string
	uid  string
	ns   *netlab.Namespace
	addr []netip.Prefix // IPv4 first
}

// containerRuntime does with pods' networks what containerd or podman do: it
// makes the namespace and calls the plugins of a conflist by libcni.
type containerRuntime struct{ cni *libcni.CNIConfig }

func newRuntime(bin string) *containerRuntime {
	return &containerRuntime{libcni.NewCNIConfigWithCacheDir([]string{bin}, cniCacheDir, nil)}
}

// awaitReady asks CNI STATUS until the network can take pods, as runtimes do
// before they make any.
func (r *containerRuntime) awaitReady(ctx context.Context) error {
	list, err := network(&pod{})
	if err != nil {
		return err
	}
	deadline := time.Now().Add(startPatience)
	for {
		err := r.cni.GetStatusNetworkList(ctx, list)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return errInterrupted
		case time.Now().After(deadline):
			return fmt.Errorf("CNI STATUS, after %v: %w", startPatience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// network is the conflist for a pod: labels are given in it (CNI CONVENTIONS.md,
// args.cni.labels).
func network(p *pod) (*libcni.NetworkConfigList, error) {
	type label struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	text, err := json.Marshal(map[string]any{
		"cniVersion": "1.1.0",
		"name":       "netio",
		"plugins": []any{map[string]any{
			"type":        "netio-cni",
			"agentSocket": filepath.Join(runDir, "agent.sock"),
			"stateDir":    stateDir,
			"args":        map[string]any{"cni": map[string]any{"labels": []label{{"app", p.name}}}},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("write conflist: %w", err)
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("read conflist: %w", err)
	}
	return list, nil
}

func (p *pod) attachment() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: p.name,
		NetNS:       p.ns.Path,
		IfName:      "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", "default"},
			{"K8S_POD_NAME", p.name},
			{"K8S_POD_UID", p.uid},
		},
	}
}

func (r *containerRuntime) add(ctx context.Context, p *pod) error {
	list, err := network(p)
	if err != nil {
		return err
	}
	result, err := r.cni.AddNetworkList(ctx, list, p.attachment())
	if err != nil {
		return fmt.Errorf("CNI ADD: %w", err)
	}
	got, err := types100.GetResult(result)
	if err != nil {
		return fmt.Errorf("CNI ADD: %w", err)
	}
	for _, ip := range got.IPs {
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		bits, _ := ip.Address.Mask.Size()
		p.addr = append(p.addr, netip.PrefixFrom(addr.Unmap(), bits))
	}
	if !address(p.addr, false).IsValid() || !address(p.addr, true).IsValid() {
		return fmt.Errorf("CNI ADD: addresses %v; expected one of each family", p.addr)
	}
	return nil
}

func (r *containerRuntime) check(ctx context.Context, p *pod) error {
	list, err := network(p)
	if err != nil {
		return err
	}
	if err := r.cni.CheckNetworkList(ctx, list, p.attachment()); err != nil {
		return fmt.Errorf("CNI CHECK: %w", err)
	}
	return nil
}

func (r *containerRuntime) del(ctx context.Context, p *pod) error {
	list, err := network(p)
	if err != nil {
		return err
	}
	if err := r.cni.DelNetworkList(ctx, list, p.attachment()); err != nil {
		return fmt.Errorf("CNI DEL: %w", err)
	}
	return nil
}

func (d *demo) addPod(ctx context.Context, name string) (string, error) {
	ns, err := netlab.New(name)
	if err != nil {
		return "", err
	}
	p := &pod{name: name, uid: uuid.NewString(), ns: ns}
	d.pods = append(d.pods, p)
	if err := d.runtime.add(ctx, p); err != nil {
		return "", err
	}
	if err := d.runtime.check(ctx, p); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s", address(p.addr, false), address(p.addr, true)), nil
}

// removePods uses a context of its own: it also runs after an interrupt.
func (d *demo) removePods() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanPatience)
	defer cancel()
	var errs []error
	if d.agent != nil && !d.agent.Running() {
		// The demo was stopped between its end and its return, without which
		// DEL is only promised.
		errs = append(errs, d.runAgent(ctx))
	}
	for _, p := range d.pods {
		errs = append(errs, d.runtime.del(ctx, p), p.bare(), p.ns.Close())
	}
	return fmt.Sprintf("%d pods", len(d.pods)), errors.Join(errs...)
}

// bare is an error if the pod has an interface of ours.
func (p *pod) bare() error {
	links, err := p.ns.Netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces of pod %s: %w", p.name, err)
	}
	for _, link := range links {
		if name := link.Attrs().Name; name != "lo" {
			return fmt.Errorf("interface %s is left in pod %s", name, p.name)
		}
	}
	return nil
}

const cleanPatience = 10 * time.Second

// verifyNothingLeft asks agent and forwarder whether they still know of pods.
func (d *demo) verifyNothingLeft() (string, error) {
	if d.agent == nil || !d.agent.Running() || d.conn == nil {
		return "not asked: NetIO is not running", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanPatience)
	defer cancel()
	var left []string

	ports, err := d.observation().ListPorts(ctx, &dataplanev1.ListPortsRequest{})
	if err != nil {
		return "", fmt.Errorf("ask the forwarder: %w", err)
	}
	for _, p := range ports.GetPorts() {
		if p.GetConfig().GetKind() == dataplanev1.Port_POD {
			left = append(left, "port "+p.GetConfig().GetName())
		}
	}

	conn, err := grpc.NewClient("unix://"+filepath.Join(runDir, "agent.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", fmt.Errorf("connect to the agent: %w", err)
	}
	defer conn.Close()
	info, err := agentv1.NewAgentClient(conn).Info(ctx, &agentv1.InfoRequest{})
	if err != nil {
		return "", fmt.Errorf("ask the agent: %w", err)
	}
	if n := info.GetEndpoints(); n != 0 {
		left = append(left, fmt.Sprintf("%d endpoints", n))
	}
	for _, pool := range info.GetPools() {
		if pool.GetUsed() != 0 {
			left = append(left, fmt.Sprintf("%d addresses of %s", pool.GetUsed(), pool.GetCidr()))
		}
	}
	for _, problem := range info.GetProblems() {
		left = append(left, fmt.Sprintf("problem: %s: %s", problem.GetSource(), problem.GetMessage()))
	}
	if len(left) > 0 {
		return "", errors.New("left: " + strings.Join(left, ", "))
	}
	return "asked forwarder and agent", nil
}
