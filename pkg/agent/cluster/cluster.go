// SPDX-License-Identifier: Apache-2.0

// Package cluster is the agent's source on a node of a Kubernetes cluster: pods,
// namespaces, nodes, policies and services come from the API server.
//
//	Node spec.podCIDRs ───> configuration (addresses of pods, the router's)
//	pods, namespaces, nodes, policies, services ──kube.Watcher──> Facts
//	Pod, as kubelet adds it ──> labels and pool of the request
//	NetIONode spec.pools ───> blocks of pools, its own and those of peers
//
// While the API server is away nothing changes: what is in force stays, and an ADD
// of a pod that is not known is tried again by kubelet.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/kube"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/problem"
)

// part is the source's name in the list of problems.
const part = "kubernetes"

// again is how soon a watch is begun anew that could not be.
const again = time.Second

// Source is a cluster. It serves one agent.
type Source struct {
	name   string
	config *rest.Config
	begin  sync.Once

	mu      sync.Mutex
	watcher *kube.Watcher
	view    *kube.View
	changed chan struct{} // closed and replaced with each view
}

var _ node.Source = (*Source)(nil)

// New makes the source of the node that has the name, from the cluster that
// config leads to.
func New(config *rest.Config, name string) *Source {
	return &Source{name: name, config: config, changed: make(chan struct{})}
}

// Mode implements node.Source.
func (*Source) Mode() string { return "cluster" }

// Example implements node.Source.
func (*Source) Example() string { return config.NodeExample }

// Configure implements node.Source. The first call waits until the node is known,
// with prefixes for its pods.
func (s *Source) Configure(ctx context.Context, file string, data []byte, problems *problem.List) (*config.Config, error) {
	c, err := config.ParseNode(file, data)
	if err != nil {
		return nil, err
	}
	if c.Node != "" && c.Node != s.name {
		return nil, config.Mistakes{{File: file, Field: "node", Message: fmt.Sprintf("%s; the agent was started for %s: remove the field", c.Node, s.name)}}
	}
	c.Node = s.name
	s.begin.Do(func() { go s.watch(ctx, problems) })
	self, err := s.self(ctx, problems)
	if err != nil {
		return nil, err
	}
	c.NodeAddresses = self.Addresses
	return c.WithPodCIDRs("node "+s.name, self.PodCIDRs)
}

// watch follows the cluster until ctx ends, and begins anew where it could not.
func (s *Source) watch(ctx context.Context, problems *problem.List) {
	for {
		err := s.watchOnce(ctx, problems)
		if ctx.Err() != nil {
			return
		}
		problems.Report(part, fmt.Errorf("%w; what is in force stays, and it is tried again", err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

func (s *Source) watchOnce(ctx context.Context, problems *problem.List) error {
	w, err := kube.New(s.config)
	if err != nil {
		return err
	}
	return w.Run(ctx, func(v *kube.View) {
		problems.Report(part, nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watcher, s.view = w, v
		close(s.changed)
		s.changed = make(chan struct{})
	})
}

// latest is what is known, nil at first, and what is closed when there is more.
func (s *Source) latest() (*kube.View, *kube.Watcher, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view, s.watcher, s.changed
}

// self waits for the node, with its prefixes.
func (s *Source) self(ctx context.Context, problems *problem.List) (*kube.Node, error) {
	for {
		view, _, changed := s.latest()
		if view != nil {
			self := view.Node(s.name)
			switch {
			case self == nil:
				problems.Report("node", fmt.Errorf("the cluster has no node %s; kubelet registers it, or --node names another one", s.name))
			case len(self.PodCIDRs) == 0:
				problems.Report("node", fmt.Errorf("node %s has no spec.podCIDRs; kube-controller-manager --allocate-node-cidrs gives them", s.name))
			default:
				problems.Report("node", nil)
				return self, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Follow implements node.Source.
func (s *Source) Follow(ctx context.Context, c *config.Config, notify func(node.Facts), problems *problem.List) error {
	var told *kube.View
	for {
		view, _, changed := s.latest()
		if view != told {
			told = view
			self := view.Node(s.name)
			// A node that is gone may come back as it was.
			if self != nil && len(self.PodCIDRs) > 0 && !samePrefixes(self.PodCIDRs, c.PodCIDRs) {
				return fmt.Errorf("%w: node %s has other spec.podCIDRs, %v and not %v", node.ErrRestart, s.name, self.PodCIDRs, c.PodCIDRs)
			}
			notify(facts(view, s.name))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// samePrefixes compares, whatever their order.
func samePrefixes(a, b []netip.Prefix) bool {
	sorted := func(list []netip.Prefix) []netip.Prefix {
		return slices.SortedFunc(slices.Values(list), netip.Prefix.Compare)
	}
	return slices.Equal(sorted(a), sorted(b))
}

// facts are the view of the node that has the name.
func facts(v *kube.View, name string) node.Facts {
	f := node.Facts{
		Blocks:   v.Blocks[name],
		Policies: v.Policies, ClusterPolicies: v.ClusterPolicies, NetworkPolicies: v.NetworkPolicies,
		ClusterNetworkPolicies: v.ClusterNetworkPolicies, Cluster: v.Cluster, Versions: v.Versions,
	}
	for _, n := range v.Nodes {
		if n.Name != name {
			f.Peers = append(f.Peers, desired.Peer{Name: n.Name, Addresses: n.Addresses, PodCIDRs: slices.Concat(n.PodCIDRs, prefixesOf(v.Blocks[n.Name]))})
			continue
		}
		f.Zone = n.Zone
		for _, a := range n.Addresses {
			if !slices.ContainsFunc(f.Addresses, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
				f.Addresses = append(f.Addresses, a)
			}
		}
	}
	return f
}

// Identify implements node.Source: the labels are those that the cluster knows.
// A container that no pod of the cluster's stands for, as another runtime's on the
// same node, keeps what its request says.
func (s *Source) Identify(ctx context.Context, r *attach.Request) error {
	if r.UID == "" {
		return nil
	}
	_, watcher, _ := s.latest()
	if watcher == nil {
		return errors.New("the cluster is not known yet")
	}
	p, err := watcher.Pod(ctx, r.Namespace, r.Name, r.UID)
	if err != nil {
		return err
	}
	r.Labels, r.ServiceAccount = p.Labels, p.ServiceAccount
	return s.choosePool(ctx, watcher, p, r)
}
