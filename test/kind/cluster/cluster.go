// SPDX-License-Identifier: Apache-2.0

// Package cluster brings a cluster up and down, and finds the one that is up.
//
//	Up:   check the machine ── build ── record ── supervisor and nodes (package node)
//	      ── API server ── helm install ── nodes registered ── nodes ready ── DNS
//	Down: kill the supervisor ── remove cgroups ── put sysctls back ── forget
//
// Everything that Up does to the machine is recorded before it is done, so that
// Down can undo it whenever Up is interrupted, and however the cluster ended.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"

	"netio.dev/netio/test/internal/netlab"
	"netio.dev/netio/test/kind/node"
	"netio.dev/netio/test/kind/pki"
	"netio.dev/netio/test/kind/state"
	"netio.dev/netio/test/kind/topology"
)

// Cluster is one that is up.
type Cluster struct {
	Dir   state.Dir
	Nodes []topology.Node
	// Supervisor is its process ID on this machine.
	Supervisor int
	// KubeProxy and Tunnel: see state.Record.
	KubeProxy, Tunnel bool
}

// Open finds the cluster that is up. Errors: state.ErrNone.
func Open(dir state.Dir) (*Cluster, error) {
	r, err := dir.Load()
	if err != nil {
		return nil, err
	}
	if !r.Alive() {
		return nil, fmt.Errorf("%w: the one that was up has ended; its logs are in %s", state.ErrNone, dir.Log())
	}
	nodes, err := topology.Nodes(r.Nodes, r.Families)
	if err != nil {
		return nil, err
	}
	return &Cluster{Dir: dir, Nodes: nodes, Supervisor: r.Pid, KubeProxy: r.KubeProxy, Tunnel: r.Tunnel}, nil
}

// FabricNetNS is the path of the network namespace between the nodes, from which
// the API server and the nodes are reached.
func (c *Cluster) FabricNetNS() string {
	return "/proc/" + strconv.Itoa(c.Supervisor) + "/ns/net"
}

// Kubeconfig is the administrator's.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir.PKI(), pki.AdminConfig) }

// NodePid is the first process of a node, by this machine's numbers.
func (c *Cluster) NodePid(name string) (int, error) { return node.Pid(c.Supervisor, name) }

// NodeCommand is the command on this machine that runs another one on a node.
func (c *Cluster) NodeCommand(name string, command ...string) ([]string, error) {
	pid, err := c.NodePid(name)
	if err != nil {
		return nil, err
	}
	args := []string{"nsenter", "--all", "--target", strconv.Itoa(pid), "env", "-i", "TERM=" + os.Getenv("TERM")}
	return append(append(args, node.Environment()...), command...), nil
}

// FabricCommand is the command on this machine that runs another one in the
// network between the nodes.
func (c *Cluster) FabricCommand(command ...string) []string {
	return append([]string{"nsenter", "--net=" + c.FabricNetNS()}, command...)
}

// ImportImages gives all nodes the images of an archive, by its path in the folder
// of images.
func (c *Cluster) ImportImages(ctx context.Context, archive string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepPatience, errTooLong)
	defer cancel()
	errs := make(chan error)
	for _, n := range c.Nodes {
		go func() { errs <- c.importImages(ctx, n.Name, archive) }()
	}
	var all []error
	for range c.Nodes {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func (c *Cluster) importImages(ctx context.Context, name, archive string) error {
	args, err := c.NodeCommand(name, node.ImportCommand(archive)...)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("import %s on %s: %w\n%s", archive, name, err, out)
	}
	return nil
}

// NodeNetwork opens the network namespace of a node.
func (c *Cluster) NodeNetwork(name string) (*netlab.Namespace, error) {
	pid, err := c.NodePid(name)
	if err != nil {
		return nil, err
	}
	return netlab.Open(name, "/proc/"+strconv.Itoa(pid)+"/ns/net")
}

// NodePath is where this machine finds a file of a node.
func (c *Cluster) NodePath(name, path string) (string, error) {
	pid, err := c.NodePid(name)
	if err != nil {
		return "", err
	}
	return filepath.Join("/proc", strconv.Itoa(pid), "root", path), nil
}

// Client talks to the API server as administrator, from wherever it is called.
func (c *Cluster) Client() (*kubernetes.Clientset, *rest.Config, error) {
	fabric, err := netlab.Open("fabric", c.FabricNetNS())
	if err != nil {
		return nil, nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	// What the library would complain of otherwise, on standard error.
	ctrl.SetLogger(logr.Discard())
	// The namespace stays open as long as the process: connections are made
	// whenever the client needs one.
	config.Dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = fabric.Do(func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	config.QPS, config.Burst = 100, 200 // nobody else is there to be spared
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make client: %w", err)
	}
	return client, config, nil
}

// pollEvery is how often a condition is looked at.
const pollEvery = 50 * time.Millisecond

// poll looks at a condition until it holds, fails, or ctx ends.
func poll(ctx context.Context, condition func() (bool, error)) error {
	for {
		switch done, err := condition(); {
		case err != nil:
			return err
		case done:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
}

// errTooLong is the cause of a wait's end, unless it was interrupted.
var errTooLong = errors.New("it took too long")
