// SPDX-License-Identifier: Apache-2.0

// Package service is the agent's gRPC interface (pkg/agent/api/v1) for the CNI
// plugin and netioctl: it turns messages into calls of packages attach and
// forwarder, and errors into the codes of the CNI specification.
package service

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/grpc"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/netnsid"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/ipam"
)

// Options of a server.
type Options struct {
	Version, Node, Mode string
	Started             time.Time
	Manager             *attach.Manager
	Keeper              *forwarder.Keeper
	Leases              *ipam.Allocator
	Problems            *problem.List
	// Ready tells why an Add would fail now, nil if it would not.
	Ready func() error
	// Degraded tells why pods that run may lack connectivity, nil if they do
	// not.
	Degraded func() error
	// Policies is the number of policies that are in force.
	Policies func() int
}

// Register adds the agent's services to a server.
func Register(g *grpc.Server, o Options) {
	s := &server{Options: o}
	agentv1.RegisterCNIServer(g, s)
	agentv1.RegisterAgentServer(g, s)
}

type server struct {
	agentv1.UnimplementedCNIServer
	agentv1.UnimplementedAgentServer
	Options
}

func (s *server) Add(ctx context.Context, req *agentv1.AddRequest) (*agentv1.AddResponse, error) {
	r := attach.Request{
		ID: toID(req.GetId()), NetNS: req.GetNetns(),
		Namespace: req.GetPodNamespace(), Name: req.GetPodName(), UID: req.GetPodUid(), Labels: req.GetLabels(), MTU: int(req.GetMtu()),
	}
	for i, text := range req.GetRequestedIps() {
		ip, err := parseAddress(text)
		if err != nil {
			return nil, cniError(fmt.Errorf("%w: requested address %d: %w", attach.ErrRequest, i+1, err))
		}
		r.Addresses = append(r.Addresses, ip)
	}
	a, err := s.Manager.Add(ctx, r)
	if err != nil {
		return nil, cniError(err)
	}
	return addResponse(a), nil
}

func addResponse(a *attachment.Attachment) *agentv1.AddResponse {
	resp := &agentv1.AddResponse{Ifname: a.IfName, Ifindex: int32(a.IfIndex), Netns: a.NetNS, Mtu: uint32(a.MTU)}
	for _, ip := range a.Addresses {
		c := &agentv1.AddressConfig{Address: netip.PrefixFrom(ip, ip.BitLen()).String()}
		for _, r := range a.Routes {
			if r.Gateway.IsValid() && r.Gateway.Is4() == ip.Is4() {
				c.Gateway = r.Gateway.String()
			}
		}
		resp.Addresses = append(resp.Addresses, c)
	}
	for _, r := range a.Routes {
		c := &agentv1.RouteConfig{Destination: r.Destination.String()}
		if r.Gateway.IsValid() {
			c.Gateway = r.Gateway.String()
		}
		resp.Routes = append(resp.Routes, c)
	}
	return resp
}

func (s *server) Del(ctx context.Context, req *agentv1.DelRequest) (*agentv1.DelResponse, error) {
	id, ns := toID(req.GetId()), req.GetNetnsId()
	var err error
	if req.GetUndo() {
		err = s.Manager.Undo(ctx, id, req.GetNetns(), netnsid.ID{Dev: ns.GetDevice(), Inode: ns.GetInode(), Boot: ns.GetBoot()})
	} else {
		err = s.Manager.Del(ctx, id)
	}
	if err != nil {
		return nil, cniError(err)
	}
	return &agentv1.DelResponse{}, nil
}

func (s *server) Check(ctx context.Context, req *agentv1.CheckRequest) (*agentv1.CheckResponse, error) {
	var addresses []netip.Addr
	for _, a := range req.GetAddresses() {
		ip, err := parseAddress(a.GetAddress())
		if err != nil {
			return nil, cniError(fmt.Errorf("%w: address of the previous result: %w", attach.ErrRequest, err))
		}
		addresses = append(addresses, ip)
	}
	if err := s.Manager.Check(ctx, toID(req.GetId()), req.GetNetns(), addresses); err != nil {
		return nil, cniError(err)
	}
	return &agentv1.CheckResponse{}, nil
}

func (s *server) Status(context.Context, *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	if err := s.Ready(); err != nil {
		return nil, notAvailable(err)
	}
	if err := s.Degraded(); err != nil {
		return nil, limited(err)
	}
	return &agentv1.StatusResponse{}, nil
}

func (s *server) GC(ctx context.Context, req *agentv1.GCRequest) (*agentv1.GCResponse, error) {
	var valid []attachment.ID
	for _, id := range req.GetValid() {
		valid = append(valid, toID(id))
	}
	removed, err := s.Manager.GC(ctx, req.GetNetwork(), valid)
	if err != nil {
		return nil, cniError(err)
	}
	resp := &agentv1.GCResponse{}
	for _, id := range removed {
		resp.Removed = append(resp.Removed, fromID(id))
	}
	return resp, nil
}

func toID(id *agentv1.AttachmentID) attachment.ID {
	return attachment.ID{Network: id.GetNetwork(), ContainerID: id.GetContainerId(), IfName: id.GetIfname()}
}

func fromID(id attachment.ID) *agentv1.AttachmentID {
	return &agentv1.AttachmentID{Network: id.Network, ContainerId: id.ContainerID, Ifname: id.IfName}
}

// parseAddress reads an address, with or without prefix length.
func parseAddress(s string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an address; expected one such as 10.244.0.7 or fd00:10:244::7", s)
	}
	return a.Unmap(), nil
}
