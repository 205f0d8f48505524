// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/internal/daemon"
	"netio.dev/netio/test/internal/netlab"
)

// Folders, all on the sandbox's own /run.
const (
	runDir       = "/run/netio"
	stateDir     = "/run/netio-demo/state"
	manifestDir  = "/run/netio-demo/manifests"
	cniCacheDir  = "/run/netio-demo/cni"
	logDir       = "/run/netio-demo/logs"
	configFile   = "/run/netio-demo/agent.yaml"
	forwarderLog = logDir + "/forwarder.log"
	agentLog     = logDir + "/agent.log"
)

// The pods. Names are also their label "app".
const (
	web      = "web"
	client   = "client"
	stranger = "stranger"
)

var (
	podCIDRs  = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")}
	hostAddrs = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}
	worldAddr = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}
)

// demo is what has been built so far.
type demo struct {
	out         io.Writer
	bin, device string
	kills       int // of the forwarder

	before      hostState // without NetIO
	host, world *netlab.Namespace
	forwarder   *daemon.Daemon
	agent       *daemon.Daemon
	conn        *grpc.ClientConn // to the forwarder
	runtime     *containerRuntime
	pods        []*pod
	transfer    *transfer
	numbers     []number
}

// number is a line of the closing table.
type number struct{ label, value string }

func (d *demo) note(label, format string, args ...any) {
	d.numbers = append(d.numbers, number{label, fmt.Sprintf(format, args...)})
}

func (d *demo) printNumbers() {
	fmt.Fprintf(d.out, "\nNetIO on this machine, %s device, sender, forwarder and receiver sharing its CPUs\n", d.device)
	for _, n := range d.numbers {
		fmt.Fprintf(d.out, "    %-42s%s\n", n.label, n.value)
	}
	fmt.Fprintln(d.out, "`make bench` compares them with a bridge, a router and nftables.")
}

func (d *demo) program(name string) string { return filepath.Join(d.bin, name) }

func (d *demo) pod(name string) *pod {
	for _, p := range d.pods {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (d *demo) observation() dataplanev1.ObservationClient {
	return dataplanev1.NewObservationClient(d.conn)
}

// clean removes everything in the order that a machine would, and verifies
// that nothing is left. The sandbox would take the rest away anyway; but NetIO
// is to leave nothing by itself.
func (d *demo) clean() error {
	if d.host == nil {
		return nil
	}
	fmt.Fprintln(d.out, "\nEverything is removed")
	err := errors.Join(
		d.stopTransfer(),
		d.cleanStep("pods, by CNI DEL", d.removePods),
		d.cleanStep("no port, address or rule of them is left", d.verifyNothingLeft),
		d.cleanStep("agent and forwarder end", d.stopDaemons),
		d.cleanStep("NetIO leaves the host", d.cleanHost),
	)
	if d.conn != nil {
		err = errors.Join(err, d.conn.Close())
	}
	return err
}

// keepLogs copies the logs to where they outlive the sandbox.
func (d *demo) keepLogs() (string, error) {
	dir, err := os.MkdirTemp("", "netio-demo-")
	if err != nil {
		return "", fmt.Errorf("keep logs: %w", err)
	}
	if err := os.CopyFS(dir, os.DirFS(logDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("keep logs: %w", err)
	}
	if text, err := os.ReadFile(configFile); err == nil {
		if err := os.WriteFile(filepath.Join(dir, "agent.yaml"), text, 0o600); err != nil {
			return "", fmt.Errorf("keep logs: %w", err)
		}
	}
	return dir, nil
}
