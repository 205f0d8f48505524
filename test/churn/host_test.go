// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/internal/daemon"
	"netio.dev/netio/test/internal/netlab"
)

// Folders, all on the sandbox's own /run.
const (
	runDir      = "/run/netio"
	stateDir    = "/run/netio-churn/state"
	manifestDir = "/run/netio-churn/manifests"
	cniCacheDir = "/run/netio-churn/cni"
	logDir      = "/run/netio-churn/logs"
	configFile  = "/run/netio-churn/agent.yaml"
)

// The pools hold far fewer addresses, and the device fewer buffers, than pods
// come and go: what is lost is missing soon.
const (
	nbufs  = 1024
	config = `podCIDRs:
- 10.244.0.0/24
- fd00:10:244::/120
masquerade: true
mtu: 1500
runDir: ` + runDir + `
stateDir: ` + stateDir + `
coolDown: 1s
`
)

var gateway = netip.MustParseAddr("10.244.0.1")

// policy selects some of the pods by others, so that address sets change with
// every pod. It denies nothing that the test sends.
const policy = `apiVersion: netio.dev/v1alpha1
kind: NetIOPolicy
metadata:
  name: red
  namespace: default
spec:
  podSelector:
    matchLabels: {app: red}
  ingress:
  - name: from-red
    action: Allow
    from:
    - podSelector:
        matchLabels: {app: red}
  - name: from-others
    action: Allow
    from:
    - podSelector:
        matchExpressions:
        - {key: app, operator: In, values: [green, blue]}
`

var colours = []string{"red", "green", "blue"}

// patience is how long anything may take that must happen.
const patience = 60 * time.Second

// host runs NetIO.
type host struct {
	bin              string
	ns               *netlab.Namespace
	forwarder, agent *daemon.Daemon
	observation      dataplanev1.ObservationClient
	configuration    dataplanev1.ConfigurationClient
	info             agentv1.AgentClient
	runtime          *containerRuntime
}

// newHost starts NetIO; the test ends it.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{bin: os.Getenv(binVar)}
	for _, dir := range []string{runDir, stateDir, manifestDir, cniCacheDir, logDir, "/run/netns"} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	must(t, os.WriteFile(configFile, []byte(config), 0o600))
	must(t, os.WriteFile(filepath.Join(manifestDir, "red.yaml"), []byte(policy), 0o600))
	var err error
	h.ns, err = netlab.Here()
	must(t, err)
	must(t, h.ns.Up("lo"))
	h.runtime = newRuntime(h.bin)

	forwarder := dial(t, filepath.Join(runDir, "forwarder.sock"))
	h.observation = dataplanev1.NewObservationClient(forwarder)
	h.configuration = dataplanev1.NewConfigurationClient(forwarder)
	h.info = agentv1.NewAgentClient(dial(t, filepath.Join(runDir, "agent.sock")))

	t.Cleanup(func() {
		for _, d := range []*daemon.Daemon{h.agent, h.forwarder} {
			if d == nil {
				continue
			}
			if err := d.Stop(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			keepLogs(t)
		}
	})
	must(t, h.startForwarder())
	must(t, h.startAgent())
	must(t, h.runtime.awaitReady(t.Context()))
	return h
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 20 * time.Millisecond, Multiplier: 1.3, MaxDelay: 200 * time.Millisecond,
		}}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// keepLogs copies the logs to where they outlive the sandbox.
func keepLogs(t *testing.T) {
	dir, err := os.MkdirTemp("", "netio-churn-logs-")
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(logDir))
	}
	t.Logf("logs of forwarder and agent: %s (%v)", dir, err)
}

func (h *host) startForwarder() (err error) {
	h.forwarder, err = daemon.Start(h.ns, logDir+"/forwarder.log", filepath.Join(h.bin, "netio-agent"),
		"forward", "--run-dir", runDir, "--device", *device, "--nbufs", fmt.Sprint(nbufs))
	if err != nil {
		return err
	}
	return h.forwarder.WaitSocket(filepath.Join(runDir, "forwarder.sock"), patience)
}

func (h *host) startAgent() (err error) {
	h.agent, err = daemon.Start(h.ns, logDir+"/agent.log", filepath.Join(h.bin, "netio-agent"),
		"--standalone", "--config", configFile, "--manifests", manifestDir)
	if err != nil {
		return err
	}
	return h.agent.WaitSocket(filepath.Join(runDir, "agent.sock"), patience)
}

// worker is the process that forwards.
func (h *host) worker() (int, error) {
	children, err := daemon.Children(h.forwarder.Pid())
	if err == nil && len(children) != 1 {
		err = fmt.Errorf("supervisor %d has the children %v, expected one worker", h.forwarder.Pid(), children)
	}
	if err != nil {
		return 0, err
	}
	return children[0], nil
}

// killWorker returns when another worker answers.
func (h *host) killWorker(ctx context.Context) error {
	old, err := h.worker()
	if err != nil {
		return err
	}
	p, err := os.FindProcess(old)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		return fmt.Errorf("kill worker %d: %w", old, err)
	}
	return await(ctx, func() error {
		status, err := h.observation.Status(ctx, &dataplanev1.StatusRequest{})
		if err == nil && int(status.GetPid()) == old {
			err = errors.New("the old worker answers")
		}
		return err
	})
}

// pause is between two looks at something that is waited for.
const pause = 20 * time.Millisecond

// await calls f until it succeeds; its last error comes back if that takes too
// long.
func await(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", patience, err)
		case <-time.After(pause):
		}
	}
}

// orphans are processes of NetIO that nobody started, or that outlived who did.
func (h *host) orphans() ([]int, error) {
	var known []int
	for _, d := range []*daemon.Daemon{h.agent, h.forwarder} {
		if d.Running() {
			known = append(known, d.Pid())
		}
	}
	if worker, err := h.worker(); err == nil {
		known = append(known, worker)
	}
	var list []int
	for _, program := range []string{"netio-agent", "netio-cni"} {
		pids, err := daemon.Instances(filepath.Join(h.bin, program))
		if err != nil {
			return nil, err
		}
		list = append(list, slices.DeleteFunc(pids, func(pid int) bool { return slices.Contains(known, pid) })...)
	}
	return list, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
