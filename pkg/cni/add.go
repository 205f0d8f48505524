// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/agent/netnsid"
	"netio.dev/netio/pkg/cni/pending"
)

func (p *plugin) add(ctx context.Context, args *skel.CmdArgs) error {
	c, err := readConfig(args.StdinData)
	if err != nil {
		return err
	}
	req, err := c.addRequest(args)
	if err != nil {
		return err
	}
	if c.prevResult != nil && interfaceOf(c.prevResult, args.IfName) >= 0 {
		return fail(types.ErrInvalidNetworkConfig, "an earlier plugin of network %s has made interface %s already, and netio-cni makes it itself: put netio-cni first, or in a network of its own", c.network, args.IfName)
	}

	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	a, err := await(ctx, min(restartTime, c.timeout/2), c.connect)
	if err != nil {
		return err
	}
	defer a.close()
	if err := c.settle(ctx, a, req); err != nil {
		return err
	}
	back := undoRecord(req)
	resp, err := a.Add(ctx, req)
	if err != nil {
		e := c.rpcError(err)
		if !answered(err) {
			p.undo(c, back, e)
		}
		return e
	}
	r, err := c.result(args, resp)
	if err != nil {
		e := fail(types.ErrInternal, "netio-agent answered what this plugin does not understand: %v; install both from one release", err)
		p.undo(c, back, e)
		return e
	}
	out, err := r.GetAsVersion(c.cniVersion)
	if err == nil {
		err = out.PrintTo(p.stdout)
	}
	if err != nil {
		e := fail(types.ErrIOFailure, "write the result: %v", err)
		p.undo(c, back, e)
		return e
	}
	return nil
}

func (c *config) addRequest(args *skel.CmdArgs) (*agentv1.AddRequest, error) {
	id, err := attachmentID(c.network, args)
	if err != nil {
		return nil, err
	}
	if err := checkNetNS(args); err != nil {
		return nil, err
	}
	pod, err := readPodArgs(args.Args)
	if err != nil {
		return nil, err
	}
	req := &agentv1.AddRequest{
		Id:           id,
		Netns:        args.Netns,
		PodNamespace: pod.namespace,
		PodName:      pod.name,
		PodUid:       pod.uid,
		Labels:       c.labels,
		Mtu:          c.mtu,
	}
	for _, ip := range c.requestedIPs(pod) {
		req.RequestedIps = append(req.RequestedIps, ip.String())
	}
	return req, nil
}

// requestedIPs gathers the addresses that are asked for: nerdctl spreads them
// over CNI_ARGS (IPv4) and runtimeConfig (IPv6). CNI_ARGS is to be ignored
// where args say the same (CONVENTIONS.md).
func (c *config) requestedIPs(pod podArgs) []netip.Addr {
	ips := slices.Concat(c.runtimeIPs, c.argsIPs)
	if len(c.argsIPs) == 0 && pod.ip.IsValid() {
		ips = append(ips, pod.ip)
	}
	var once []netip.Addr
	for _, a := range ips {
		if !slices.Contains(once, a) {
			once = append(once, a)
		}
	}
	return once
}

// settle makes older deletions of the same attachment good before it is added
// again.
func (c *config) settle(ctx context.Context, a *agent, req *agentv1.AddRequest) error {
	var rpc error
	err := pending.Settle(pending.Dir(c.stateDir), record(req.GetId(), ""), func(r pending.Record) error {
		_, rpc = a.Del(ctx, delRequest(r))
		return rpc
	})
	switch {
	case err == nil:
		return nil
	case rpc != nil:
		return c.rpcError(rpc)
	}
	return fail(types.ErrIOFailure, "%v", err)
}

// undoRecord is what takes an ADD back that is about to be asked for: only an
// attachment in the namespace that is there now can be its work.
func undoRecord(req *agentv1.AddRequest) pending.Record {
	r := record(req.GetId(), req.GetNetns())
	r.Undo = true
	if id, err := netnsid.At(r.NetNS); err == nil {
		r.NetNSID = id
	}
	return r
}

func delRequest(r pending.Record) *agentv1.DelRequest {
	req := &agentv1.DelRequest{
		Id:    &agentv1.AttachmentID{Network: r.Network, ContainerId: r.ContainerID, Ifname: r.IfName},
		Netns: r.NetNS,
		Undo:  r.Undo,
	}
	if (r.NetNSID != netnsid.ID{}) {
		req.NetnsId = &agentv1.NetNSID{Device: r.NetNSID.Dev, Inode: r.NetNSID.Inode, Boot: r.NetNSID.Boot}
	}
	return req
}

// undo takes back an ADD whose outcome is unknown, or leaves that to the agent.
// If neither works, e says so: the DEL that the runtime owes us will do it.
func (p *plugin) undo(c *config, back pending.Record, e *types.Error) {
	// Not the caller's context: that is what has ended.
	ctx, cancel := context.WithTimeout(context.Background(), p.undoTimeout)
	defer cancel()
	err := func() error {
		a, err := c.connect(ctx)
		if err != nil {
			return err
		}
		defer a.close()
		_, err = a.Del(ctx, delRequest(back))
		return err
	}()
	if err == nil {
		return
	}
	if werr := c.promise(back); werr != nil {
		e.Details = "it could not be undone: " + errors.Join(err, werr).Error()
	}
}

// promise leaves a deletion to the agent.
func (c *config) promise(r pending.Record) error {
	return pending.Write(pending.Dir(c.stateDir), r)
}

func record(id *agentv1.AttachmentID, netns string) pending.Record {
	return pending.Record{
		Network:     id.GetNetwork(),
		ContainerID: id.GetContainerId(),
		IfName:      id.GetIfname(),
		NetNS:       netns,
		Since:       time.Now().UTC(),
	}
}
