// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/internal/daemon"
	"netio.dev/netio/test/internal/netlab"
)

// uplink is the host's interface to the world.
const uplink = "uplink0"

// startPatience is how long a daemon may take until it listens.
const startPatience = 20 * time.Second

func agentConfigText() string {
	return fmt.Sprintf(`# Written by netio-demo.
podCIDRs:
- %s
- %s
masquerade: true
runDir: %s
stateDir: %s
coolDown: 1s
`, podCIDRs[0], podCIDRs[1], runDir, stateDir)
}

// makeHost gives the sandbox an uplink to a world that knows no pod addresses.
func (d *demo) makeHost(context.Context) (string, error) {
	for _, dir := range []string{runDir, stateDir, manifestDir, cniCacheDir, logDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("make folder: %w", err)
		}
	}
	node, load := "/dev/net/tun", "tun (modprobe tun)"
	if d.device == "kernel" {
		node, load = "/dev/netio", "netio (netio-agent kmod load)"
	}
	if _, err := os.Stat(node); err != nil {
		return "", fmt.Errorf("%w; load the module %s, or give the container the device", err, load)
	}
	for _, program := range []string{"netio-agent", "netio-cni", "netioctl"} {
		if _, err := os.Stat(d.program(program)); err != nil {
			return "", fmt.Errorf("%w; run make build, or name the folder with -bin", err)
		}
	}
	var err error
	if d.host, err = netlab.Here(); err != nil {
		return "", err
	}
	if err := d.host.Up("lo"); err != nil {
		return "", err
	}
	if d.world, err = netlab.New("world"); err != nil {
		return "", err
	}
	if err := netlab.Connect(d.host, uplink, d.world, "eth0"); err != nil {
		return "", err
	}
	if err := d.host.Up(uplink, hostAddrs...); err != nil {
		return "", err
	}
	if err := d.world.Up("eth0", worldAddr...); err != nil {
		return "", err
	}
	for _, gateway := range worldAddr {
		if err := d.host.Route(netlab.Default(gateway.Addr()), gateway.Addr(), uplink); err != nil {
			return "", err
		}
	}
	// Addresses are usable some time after they were given; then the host is as
	// NetIO finds it.
	for _, addr := range worldAddr {
		if err := ping(d.host, addr.Addr()); err != nil {
			return "", err
		}
	}
	if d.before, err = readHostState(d.host); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s", hostAddrs[0].Addr(), hostAddrs[1].Addr()), nil
}

func (d *demo) startForwarder(ctx context.Context) (string, error) {
	var err error
	d.forwarder, err = daemon.Start(d.host, forwarderLog, d.program("netio-agent"),
		"forward", "--run-dir", runDir, "--device", d.device)
	if err != nil {
		return "", err
	}
	socket := filepath.Join(runDir, "forwarder.sock")
	if err := d.forwarder.WaitSocket(socket, startPatience); err != nil {
		return "", err
	}
	d.conn, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", fmt.Errorf("connect to the forwarder: %w", err)
	}
	status, err := d.observation().Status(ctx, &dataplanev1.StatusRequest{})
	if err != nil {
		return "", fmt.Errorf("ask the forwarder: %w", err)
	}
	return fmt.Sprintf("%s device, supervisor %d, worker %d", status.GetDevice(), d.forwarder.Pid(), status.GetPid()), nil
}

func (d *demo) startAgent(ctx context.Context) (string, error) {
	if err := os.WriteFile(configFile, []byte(agentConfigText()), 0o600); err != nil {
		return "", fmt.Errorf("write agent's config: %w", err)
	}
	d.runtime = newRuntime(d.bin)
	if err := d.runAgent(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("standalone, pods get %s and %s", podCIDRs[0], podCIDRs[1]), nil
}

// runAgent starts the agent and waits until it can take pods.
func (d *demo) runAgent(ctx context.Context) error {
	var err error
	d.agent, err = daemon.Start(d.host, agentLog, d.program("netio-agent"),
		"--standalone", "--config", configFile, "--manifests", manifestDir)
	if err != nil {
		return err
	}
	if err := d.agent.WaitSocket(filepath.Join(runDir, "agent.sock"), startPatience); err != nil {
		return err
	}
	return d.runtime.awaitReady(ctx)
}

func (d *demo) stopDaemons() (string, error) {
	var err error
	for _, daemon := range []*daemon.Daemon{d.agent, d.forwarder} {
		if daemon != nil {
			err = errors.Join(err, daemon.Stop())
		}
	}
	left, lerr := daemon.Instances(d.program("netio-agent"))
	err = errors.Join(err, lerr)
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("processes %v are left", left))
	}
	return "no process is left", err
}

// cleanHost removes NetIO from the host, where its interface and rules await the
// next start of the daemons, and looks whether the host is as it was.
func (d *demo) cleanHost() (string, error) {
	if d.agent == nil {
		return "NetIO was not there", nil
	}
	if _, err := d.host.Output(d.program("netio-agent"), "cleanup", "--config", configFile, "--state", "--restore-sysctls"); err != nil {
		return "", err
	}
	after, err := readHostState(d.host)
	if err != nil {
		return "", err
	}
	if changes := d.before.changes(after); len(changes) > 0 {
		err = fmt.Errorf("the host is not as it was:\n%s", strings.Join(changes, "\n"))
	}
	if _, serr := os.Stat(stateDir); serr == nil {
		err = errors.Join(err, fmt.Errorf("%s is still there", stateDir))
	}
	return "by netio-agent cleanup; interfaces, addresses, routes, rules and sysctls are as before", err
}

// address is the one of a family in a list, IPv4 first.
func address[T interface{ Addr() netip.Addr }](list []T, six bool) netip.Addr {
	for _, a := range list {
		if a.Addr().Is6() == six {
			return a.Addr()
		}
	}
	return netip.Addr{}
}
