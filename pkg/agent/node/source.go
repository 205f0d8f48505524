// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/pools"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/ipam"
	"netio.dev/netio/pkg/kmod"
)

// ErrRestart: something changed that the agent takes up only when it starts. Pods
// that run are not touched by that.
var ErrRestart = errors.New("the agent has to start anew")

// Source is where the agent learns what its machine does not tell.
type Source interface {
	// Mode is the source's name for people.
	Mode() string
	// Example is a configuration file to begin with.
	Example() string
	// Configure makes a configuration of the file's content, which is called file
	// in errors: once at the start, when it may wait for what belongs to it and
	// reports that, and after each change of the file.
	Configure(ctx context.Context, file string, data []byte, problems *problem.List) (*config.Config, error)
	// Blocks of pools that the node has, after Configure: of a node without pools
	// none.
	Blocks() []ipam.Block
	// Follow calls notify with all that is known, and again after each change,
	// until ctx ends. What it cannot do it reports and tries again. Errors end the
	// agent: ErrRestart, and before the first call what keeps it from starting.
	Follow(ctx context.Context, c *config.Config, notify func(Facts), problems *problem.List) error
	// Publish tells the source's world how the node is, until ctx ends: look finds it,
	// wake says that somebody waits for it, and changed that it is worth a look soon.
	Publish(ctx context.Context, look func() Report, wake, changed <-chan struct{})
	// Identify adds to a request what the source knows of the pod, and waits
	// until it knows it or ctx ends.
	Identify(ctx context.Context, r *attach.Request) error
}

// Report is how the node is.
type Report struct {
	Version string
	// Device that the forwarder uses, "" while it is not known.
	Device string
	// KernelModule is what came of the module's delivery, nil if there was none or if
	// KernelModuleUnknown says why that is not known.
	KernelModule        *kmod.Outcome
	KernelModuleUnknown error
	// ForwarderStarted is when the forwarder began, in nanoseconds since 1970, 0 while
	// that is not known.
	ForwarderStarted int64
	PodCIDRs         []netip.Prefix
	Pools            []pools.Use
	// PoolsPending: pods may have addresses of a block when this report was written.
	// Written is then called with the blocks that the node has in what was written.
	PoolsPending        bool
	Written             func(has []ipam.Block)
	Endpoints, Policies int
	// NotReady is why pods cannot be added or lack connectivity, nil if neither.
	NotReady error
	// Problems are all that is wrong, by source.
	Problems []problem.Problem
	// Joined: this agent and the forwarder have agreed on what is in force; before, it
	// is what an earlier agent left, and InForce and PolicyProblems say nothing.
	Joined bool
	// InForce are the versions of the policies that the forwarder has.
	InForce desired.Versions
	// Refused is why it does not take what policies are now, nil if it does.
	Refused error
	// PolicyProblems are policies that are in force other than they are written,
	// sorted by kind, namespace and name.
	PolicyProblems []PolicyProblem
}

// PolicyProblem is what is wrong with a policy.
type PolicyProblem struct {
	Kind, Namespace, Name string
	Generation            int64
	Reason, Message       string
}

// Facts are what a source knows. They are read only.
type Facts struct {
	// Policies, with unique namespace and name.
	Policies        []*v1alpha1.NetIOPolicy
	ClusterPolicies []*v1alpha1.NetIOClusterPolicy
	NetworkPolicies []*networkingv1.NetworkPolicy
	// ClusterNetworkPolicies, with unique name.
	ClusterNetworkPolicies []*networkapi.ClusterNetworkPolicy
	// Versions are those of the policies, none without a cluster.
	Versions desired.Versions
	// Cluster is nil without one.
	Cluster *desired.Cluster
	// Zone of the node, "" without.
	Zone string
	// Addresses are those of the node itself, at most one of each family: its
	// own packets to pods come from there. A family without one has the router's.
	Addresses []netip.Addr
	// Peers are the other nodes.
	Peers []desired.Peer
	// Blocks of pools that this node has.
	Blocks []ipam.Block
}

// into puts what the source knows into a state.
func (f *Facts) into(s desired.State) desired.State {
	s.Policies, s.ClusterPolicies = f.Policies, f.ClusterPolicies
	s.NetworkPolicies, s.ClusterNetworkPolicies = f.NetworkPolicies, f.ClusterNetworkPolicies
	s.Cluster, s.Versions = f.Cluster, f.Versions
	return s
}

// networks are the prefixes of the peers' pods.
func (f *Facts) networks() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range f.Peers {
		all = append(all, p.PodCIDRs...)
	}
	return all
}

// nodes are the peers' own addresses.
func (f *Facts) nodes() []netip.Addr {
	var all []netip.Addr
	for _, p := range f.Peers {
		all = append(all, p.Addresses...)
	}
	return all
}

// follow follows the source. The first channel gives what it told first, the
// second one its end.
func (a *agent) follow(ctx context.Context, workers *sync.WaitGroup) (<-chan Facts, <-chan error) {
	first, ended := make(chan Facts, 1), make(chan error, 1)
	told := false
	notify := func(f Facts) {
		known := time.Now()
		a.mu.Lock()
		was := a.facts
		a.facts = f
		a.mu.Unlock()
		a.policies.Store(int64(len(f.Policies) + len(f.ClusterPolicies) + len(f.NetworkPolicies) + len(f.ClusterNetworkPolicies)))
		a.policyLog.Want(f.askForLog())
		if !told {
			told = true
			first <- f
			return
		}
		if !slices.Equal(was.Policies, f.Policies) || !slices.Equal(was.ClusterPolicies, f.ClusterPolicies) || !slices.Equal(was.NetworkPolicies, f.NetworkPolicies) ||
			!slices.Equal(was.ClusterNetworkPolicies, f.ClusterNetworkPolicies) {
			slog.Info("policies changed", "policies", a.policies.Load())
		}
		a.wantHost()
		err := a.keeper.Change(func(s desired.State) desired.State {
			s = f.into(s)
			s.Node = a.node()
			return s
		})
		if err == nil {
			a.recorder.PolicyInForce(time.Since(known))
		}
		a.refused(a.Source.Mode(), err)
		a.mu.Lock()
		a.policiesRefused = nil
		if errors.Is(err, forwarder.ErrRefused) {
			a.policiesRefused = err
		}
		a.mu.Unlock()
		a.worthALook()
	}
	workers.Go(func() {
		err := a.Source.Follow(ctx, a.current(), notify, &a.problems)
		if ctx.Err() == nil {
			ended <- err
		}
	})
	return first, ended
}

// askForLog tells whether any rule does.
func (f *Facts) askForLog() bool {
	return slices.ContainsFunc(f.Policies, func(p *v1alpha1.NetIOPolicy) bool {
		return slices.ContainsFunc(p.Spec.Ingress, func(r v1alpha1.IngressRule) bool { return r.Log }) ||
			slices.ContainsFunc(p.Spec.Egress, func(r v1alpha1.EgressRule) bool { return r.Log })
	}) || slices.ContainsFunc(f.ClusterPolicies, func(p *v1alpha1.NetIOClusterPolicy) bool {
		return slices.ContainsFunc(p.Spec.Ingress, func(r v1alpha1.ClusterIngressRule) bool { return r.Log }) ||
			slices.ContainsFunc(p.Spec.Egress, func(r v1alpha1.ClusterEgressRule) bool { return r.Log })
	})
}
