// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// Info tells what the agent is and what is wrong now.
func (s *server) Info(context.Context, *agentv1.InfoRequest) (*agentv1.InfoResponse, error) {
	resp := &agentv1.InfoResponse{
		Version: s.Version, Node: s.Node, Mode: s.Mode, StartedUnixNano: s.Started.UnixNano(),
		Endpoints: uint32(len(s.Manager.List())), Policies: uint32(s.Policies()), Revision: s.Keeper.Status().Revision,
	}
	for _, p := range s.Problems.All() {
		resp.Problems = append(resp.Problems, &agentv1.Problem{Source: p.Source, Message: p.Message, SinceUnixNano: p.Since.UnixNano()})
	}
	pools, err := s.Leases.Usage()
	if err != nil {
		return nil, cniError(err)
	}
	for _, p := range pools {
		resp.Pools = append(resp.Pools, &agentv1.PoolInfo{Name: p.Name, Cidr: p.Pool.String(), Size: p.Size, Used: p.Used, Cooling: p.Cooling})
	}
	return resp, nil
}

// ListEndpoints lists the pods with the policies that are in force for them.
func (s *server) ListEndpoints(context.Context, *agentv1.ListEndpointsRequest) (*agentv1.ListEndpointsResponse, error) {
	policies := map[string][]string{}
	for _, p := range s.Keeper.Taken().GetPorts() {
		policies[p.GetName()] = p.GetPolicies()
	}
	resp := &agentv1.ListEndpointsResponse{}
	for _, a := range s.Manager.List() {
		e := &agentv1.Endpoint{
			Id: fromID(a.ID), Port: a.Port, Namespace: a.Namespace, Name: a.Name, Labels: a.Labels, Netns: a.NetNS, Policies: policies[a.Port],
		}
		for _, ip := range a.Addresses {
			e.Addresses = append(e.Addresses, ip.String())
		}
		resp.Endpoints = append(resp.Endpoints, e)
	}
	return resp, nil
}
