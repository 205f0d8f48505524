// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/klog/v2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/netioctl/remote"
)

// clusterFlags say which cluster, and which of its nodes is asked.
type clusterFlags struct {
	node, kubeconfig, context string
}

func (c *clusterFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.node, "node", "", "ask the agent and the forwarder of this `NODE` of a cluster, not of this machine")
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "`FILE` that tells how to reach the cluster; without it, $KUBECONFIG or ~/.kube/config")
	f.StringVar(&c.context, "context", "", "`NAME` of the context in it; without it, the current one")
}

// errFarHost: routes are those of the machine that netioctl runs on.
var errFarHost = errors.New("the node's routes are not to be seen from here")

// inCluster tells whether the daemons that are asked are those of a cluster's nodes.
func (a *app) inCluster() bool {
	return a.clusterFlags != clusterFlags{} || strings.HasPrefix(a.name, "kubectl ")
}

// reach finds the cluster, if one is meant.
func (a *app) reach() error {
	if !a.inCluster() {
		return nil
	}
	return a.reachCluster()
}

// reachCluster finds the cluster.
func (a *app) reachCluster() error {
	if a.cluster != nil {
		return nil
	}
	// What the libraries say of streams that end, as all do.
	klog.SetLogger(logr.Discard())
	c, err := remote.Open(a.kubeconfig, a.context)
	if err != nil {
		return err
	}
	a.cluster, a.far = c, farNodes{a}
	a.hostRoute = func(netip.Addr) (hostRoute, error) { return hostRoute{}, errFarHost }
	return nil
}

// choose finds the node of what is asked about, a pod or an address, unless --node says
// which.
func (a *app) choose(ctx context.Context, host string) error {
	if a.cluster == nil || a.node != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if addr, err := netip.ParseAddr(host); err == nil {
		if a.node, err = a.cluster.NodeOf(ctx, addr); err != nil || a.node != "" {
			return err
		}
		return usagef("no node and no pod has %s; say --node NODE, whose view of it is to be shown", addr)
	}
	node, _, _, err := a.cluster.NodeOfPod(ctx, host)
	if errors.Is(err, remote.ErrNotFound) {
		return usagef("the cluster has no pod %s; say --node NODE if it is something that a node knows", host)
	}
	a.node = node
	return err
}

// dialer connects to the socket of a daemon, here or at the node.
func (a *app) dialer(socket string) (func(context.Context) (net.Conn, error), error) {
	if a.cluster == nil {
		return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", socket) }, nil
	}
	if a.node == "" {
		return nil, usagef("say which node is to be asked: --node NODE (kubectl get netionodes has their names)")
	}
	cluster, node := a.cluster, a.node
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := cluster.Dial(ctx, node, socket)
		if err != nil {
			return nil, &remoteError{err}
		}
		return conn, nil
	}, nil
}

// remoteError is one of the way to a node, and says itself what to do.
type remoteError struct{ error }

// farNodes are the nodes of a cluster.
type farNodes struct{ *app }

func (f farNodes) forwarder(_ context.Context, node string) (*forwarder, error) {
	there := *f.app
	there.node = node
	return there.forwarder()
}

func (f farNodes) nodeOf(ctx context.Context, addr netip.Addr) (string, error) {
	return f.cluster.NodeOf(ctx, addr)
}

func (f farNodes) locate(ctx context.Context, name string) (place, string, error) {
	node, whole, addresses, err := f.cluster.NodeOfPod(ctx, name)
	if err != nil {
		return place{}, "", err
	}
	return place{label: whole, addresses: addresses}, node, nil
}

// nodesStatus shows all nodes of the cluster.
func (a *app) nodesStatus(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	nodes, err := a.cluster.Nodes(ctx)
	if err != nil {
		return err
	}
	if a.format != formatTable {
		doc, err := json.Marshal(map[string]any{"nodes": nodes})
		if err != nil {
			return fmt.Errorf("encode nodes: %w", err)
		}
		return a.printJSON(doc)
	}
	t := newTable(left("NODE", "READY", "DEVICE"), right("PODS", "POLICIES", "PROBLEMS"), left("VERSION"), right("SEEN"), left("MESSAGE"))
	for i := range nodes {
		s := &nodes[i].Status
		ready, message := "Unknown", ""
		if c := apimeta.FindStatusCondition(s.Conditions, v1alpha1.NodeReady); c != nil {
			if ready = string(c.Status); ready != "True" {
				message = c.Message
			}
		}
		if c := apimeta.FindStatusCondition(s.Conditions, v1alpha1.NodeDegraded); c != nil && c.Status == "True" && message == "" {
			message = c.Message
		}
		seen := a.now().Sub(s.LastHeartbeatTime.Time).Round(time.Second)
		t.add(nodes[i].Name, ready, s.Device, fmt.Sprint(s.Endpoints), fmt.Sprint(s.Policies), fmt.Sprint(s.ProblemCount), s.Version, seen.String(), printable(message))
	}
	return t.write(a.out)
}

// relayCommand is executed in agents' pods by netioctl itself.
func (a *app) relayCommand() *cobra.Command {
	return &cobra.Command{
		Use:    remote.RelayCommand + " SOCKET",
		Short:  "Copy between a unix socket and the standard input and output",
		Hidden: true,
		Args:   arguments(1, 1, "a socket"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := &daemon{name: "daemon", start: "see its container's log", flag: "its flag", socket: args[0]}
			conn, err := (&net.Dialer{Timeout: a.timeout}).DialContext(cmd.Context(), "unix", args[0])
			if err != nil {
				return errors.New(d.explainDial(err))
			}
			defer conn.Close()
			return relay(conn.(*net.UnixConn), cmd.InOrStdin(), a.out)
		},
	}
}
