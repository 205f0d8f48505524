// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"

	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/hostnet"
	"netio.dev/netio/pkg/service"
)

// initialState is what the forwarder is to have when the agent starts.
func (a *agent) initialState(f Facts) desired.State {
	addresses := a.hostAddresses()
	a.mu.Lock()
	a.addresses = addresses
	a.mu.Unlock()
	s := f.into(desired.State{Node: a.node()})
	for _, p := range a.manager.List() {
		s = s.With(p)
	}
	return s
}

// node is this machine, as it is known now.
func (a *agent) node() desired.Node {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, f := a.config, &a.facts
	n := desired.Node{
		Name: c.Node, Zone: f.Zone,
		HostInterface: c.HostInterface, HostMTU: a.hostMTU, Routers: c.RouterAddresses, PodCIDRs: podPrefixes(c, f.Blocks),
		PodNetworks: f.networks(), HostAddresses: a.addresses, NodeAddresses: f.nodes(), Connections: c.Connections,
		KubeProxyReplacement: c.KubeProxyReplacement, ExternalIPs: c.ExternalIPs, ServiceSources: c.ServiceSources,
	}
	if c.Tunnel != nil {
		n.Tunnel = &desired.Tunnel{VNI: c.Tunnel.VNI, Port: c.Tunnel.Port, Addresses: f.Addresses, Received: c.ServiceSources, MTU: a.hostMTU, Peers: f.Peers}
	}
	return n
}

// hostAddresses are what the entity "host" of policies means: also the
// router's addresses while the host knet is not there yet.
func (a *agent) hostAddresses() []netip.Addr {
	list, err := a.host.Addresses()
	if err != nil {
		a.problems.Report("host addresses", err)
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.addresses
	}
	a.problems.Report("host addresses", nil)
	list = append(list, a.current().RouterAddresses...)
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// hostConfig is what the host's network is to be now.
func (a *agent) hostConfig() hostnet.Config {
	c := a.current()
	a.mu.Lock()
	f := a.facts
	a.mu.Unlock()
	h := hostnet.Config{
		IfName: c.HostInterface, MTU: a.hostMTU, Routers: c.RouterAddresses, Sources: f.Addresses, Pods: podPrefixes(c, f.Blocks),
		Masquerade: c.Masquerade, Except: slices.Clone(c.MasqueradeExcept),
	}
	if f.Cluster != nil && c.KubeProxyReplacement {
		s := service.HostSideOf(f.Cluster.Services, a.node().ServiceNode())
		h.Services = hostnet.Services{Addresses: s.Addresses, TCP: s.TCP, UDP: s.UDP, SCTP: s.SCTP, Sources: c.ServiceSources}
	}
	if c.Tunnel != nil {
		h.Tunnel = &hostnet.Tunnel{
			VNI: c.Tunnel.VNI, Port: c.Tunnel.Port, Addresses: f.Addresses, Received: c.ServiceSources, MTU: a.hostMTU - c.TunnelOverhead(),
		}
	}
	for _, p := range f.Peers {
		h.Peers = append(h.Peers, hostnet.Peer{Name: p.Name, Addresses: p.Addresses, Pods: p.PodCIDRs})
		// Within the cluster pods are known by their own addresses.
		h.Except = append(h.Except, p.PodCIDRs...)
		if c.Tunnel != nil {
			continue // the network between the nodes knows no pods
		}
		for _, ip := range p.Addresses {
			h.Except = append(h.Except, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	// Pods that run keep the addresses which they got from earlier podCIDRs or blocks.
	own := h.Pods
	for _, p := range a.manager.List() {
		for _, ip := range p.Addresses {
			_, routed := routerOf(c.RouterAddresses, ip)
			if routed && !slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(ip) }) {
				h.Pods = append(h.Pods, netip.PrefixFrom(ip, ip.BitLen()))
			}
		}
	}
	return h
}

// wantHost tells what the host's network is to be, if that changed.
func (a *agent) wantHost() {
	c := a.hostConfig()
	a.wantHealth()
	n := a.node()
	a.problems.Replace("tunnels", lines("tunnels", errors.Join(n.Unreachable()...))...)
	a.mu.Lock()
	same := reflect.DeepEqual(c, a.hostWant)
	a.hostWant = c
	a.mu.Unlock()
	if !same {
		a.hostLoop.Want(c)
	}
}

// wantHealth tells which health checks of services there are.
func (a *agent) wantHealth() {
	a.mu.Lock()
	cluster := a.facts.Cluster
	a.mu.Unlock()
	if cluster != nil {
		a.health.Want(service.HealthChecksOf(cluster.Services, cluster.EndpointSlices, a.node().ServiceNode()))
	}
}

// routerOf is the router address of ip's family.
func routerOf(routers []netip.Addr, ip netip.Addr) (netip.Addr, bool) {
	i := slices.IndexFunc(routers, func(r netip.Addr) bool { return r.Is4() == ip.Is4() })
	if i < 0 {
		return netip.Addr{}, false
	}
	return routers[i], true
}

// podReady waits until the pod can be added, and completes the request: the host's
// network is as it should be, for a pod whose packets the host would lose is not
// made, and the source knows the pod. It gives up as an Add does over a
// forwarder that is away, with the reason.
func (a *agent) podReady(ctx context.Context, r *attach.Request) error {
	ctx, cancel := context.WithTimeout(ctx, forwarder.Patience)
	defer cancel()
	for {
		a.mu.Lock()
		err, pass := a.hostErr, a.hostPass
		a.mu.Unlock()
		if err == nil {
			return a.identify(ctx, r)
		}
		select {
		case <-pass:
		case <-ctx.Done():
			return err
		}
	}
}

// hostDone is called after each pass over the host's network.
func (a *agent) hostDone(c hostnet.Config, err error) {
	if err == nil {
		a.offer(c)
	}
	a.mu.Lock()
	a.hostErr = err
	close(a.hostPass)
	a.hostPass = make(chan struct{})
	known := a.addresses
	a.mu.Unlock()
	if errors.Is(err, hostnet.ErrNoInterface) && !a.keeper.Status().InForce {
		err = nil // the forwarder is away, which is reported already
	}
	a.problems.Replace("host network", lines("host network", err)...)
	a.wantHost() // pods may have gone that had addresses of earlier podCIDRs

	if now := a.hostAddresses(); !slices.Equal(now, known) {
		a.mu.Lock()
		a.addresses = now
		a.mu.Unlock()
		a.wantHost()
		a.refused("host addresses", a.keeper.Change(func(s desired.State) desired.State {
			s.Node = a.node()
			return s
		}))
	}
}
