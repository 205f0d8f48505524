// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/internal/daemon"
	"netio.dev/netio/test/internal/netlab"
)

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
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return "", fmt.Errorf("%w; load the module tun (modprobe tun), or give the container the device", err)
	}
	for _, program := range []string{"netio-agent", "netio-cni", "netioctl"} {
		if _, err := os.Stat(filepath.Join(d.bin, program)); err != nil {
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
	if err := netlab.Connect(d.host, "uplink0", d.world, "eth0"); err != nil {
		return "", err
	}
	if err := d.host.Up("uplink0", hostAddrs...); err != nil {
		return "", err
	}
	if err := d.world.Up("eth0", worldAddr...); err != nil {
		return "", err
	}
	for _, gateway := range worldAddr {
		if err := d.host.Route(netlab.Default(gateway.Addr()), gateway.Addr(), "uplink0"); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s, %s", hostAddrs[0].Addr(), hostAddrs[1].Addr()), nil
}

func (d *demo) startForwarder(ctx context.Context) (string, error) {
	var err error
	d.forwarder, err = daemon.Start(d.host, forwarderLog, filepath.Join(d.bin, "netio-agent"),
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

func (d *demo) startAgent(context.Context) (string, error) {
	if err := os.WriteFile(configFile, []byte(agentConfigText()), 0o600); err != nil {
		return "", fmt.Errorf("write agent's config: %w", err)
	}
	if err := d.runAgent(); err != nil {
		return "", err
	}
	return fmt.Sprintf("standalone, pods get %s and %s", podCIDRs[0], podCIDRs[1]), nil
}

func (d *demo) runAgent() error {
	var err error
	d.agent, err = daemon.Start(d.host, agentLog, filepath.Join(d.bin, "netio-agent"),
		"--standalone", "--config", configFile, "--manifests", manifestDir)
	if err != nil {
		return err
	}
	return d.agent.WaitSocket(filepath.Join(runDir, "agent.sock"), startPatience)
}

// stopDaemons ends agent and forwarder and looks for what they should have
// taken with them.
func (d *demo) stopDaemons() (string, error) {
	var err error
	for _, daemon := range []*daemon.Daemon{d.agent, d.forwarder} {
		if daemon != nil {
			err = errors.Join(err, daemon.Stop())
		}
	}
	if d.forwarder != nil {
		if children, lerr := daemon.Children(d.forwarder.Pid()); lerr != nil || len(children) > 0 {
			err = errors.Join(err, lerr, fmt.Errorf("%d workers outlived the forwarder", len(children)))
		}
	}
	links, lerr := d.host.Netlink.LinkList()
	err = errors.Join(err, lerr)
	for _, link := range links {
		if name := link.Attrs().Name; name != "lo" && name != "uplink0" {
			err = errors.Join(err, fmt.Errorf("interface %s is left on the host", name))
		}
	}
	return "no process, no interface left", err
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
